"""Take the pictures of the pages, of a shop on a busy morning: `make pictures`.

A real Flower shows what `tests/busy_shop.py` tells, and Debian's Chromium looks at it.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from browsing import running_browser
from busy_shop import BusyShop, tell
from flowers import running_flower
from PIL import Image
from recorded_runs import Story

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ViewportSize

APP: Final = """
from celery import Celery
from plet_celery import Plet

app = Celery("shop", broker="memory://", backend="cache+memory://")
plet = Plet(app)
"""
WIDE, NARROW = (1180, 760), (390, 800)


class Picture(NamedTuple):
    """One picture: a page, how it is looked at."""

    name: str
    run: str
    """Attribute of `BusyShop`; empty for the list, `workers` for that page."""
    theme: Literal["light", "dark"]
    size: tuple[int, int]


PICTURES: Final = (
    Picture("runs-light", "", "light", WIDE),
    Picture("run-light", "running", "light", WIDE),
    Picture("run-dark", "running", "dark", WIDE),
    Picture("failed-light", "failed", "light", (1180, 1100)),
    Picture("canvas-light", "canvas", "light", (1180, 900)),
    Picture("workers-dark", "workers", "dark", (1180, 500)),
    Picture("run-narrow", "running", "light", NARROW),
)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="pictures-") as made:
        folder = Path(made)
        home = folder / ".plet"
        home.mkdir(mode=0o700)
        (folder / "shop.py").write_text(APP)
        story = Story(f"sqlite:///{home / 'plet.db'}", home=home)
        told = tell(story, time.time())
        with running_flower(folder) as flower, running_browser() as browser:
            for picture in PICTURES:
                target = Path(__file__).with_name(f"{picture.name}.png")
                taken = take(browser, flower.base + path_of(picture, told), picture)
                target.write_bytes(with_palette(taken))
                print(f"{target.name}: {target.stat().st_size} bytes")
        story.close()


def path_of(picture: Picture, told: BusyShop) -> str:
    """Return the address of a picture's page, below Flower's."""
    if picture.run in ("", "workers"):
        return f"plet/{picture.run}"
    return f"plet/runs/{getattr(told, picture.run)}"


def take(browser: Browser, address: str, picture: Picture) -> bytes:
    """Return a picture of what a reader sees first, as PNG."""
    width, height = picture.size
    size: ViewportSize = {"width": width, "height": height}
    context = browser.new_context(viewport=size, color_scheme=picture.theme)
    try:
        page = context.new_page()
        page.goto(address)
        page.wait_for_load_state("networkidle")
        return page.screenshot()
    finally:
        context.close()


def with_palette(png: bytes) -> bytes:
    """Return a picture with the 256 colours that suit it: a third of the size."""
    found = io.BytesIO()
    image = Image.open(io.BytesIO(png)).convert("RGB")
    few = image.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=3, dither=Image.Dither.NONE)
    few.save(found, "PNG", optimize=True)
    return found.getvalue()


if __name__ == "__main__":
    main()
