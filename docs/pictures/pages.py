"""Take the pictures of the pages, of a shop on a busy morning: `make pictures`, or `pages.py runs health`.

A real Flower shows what `tests/busy_shop.py` tells, and Debian's Chromium looks at it.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import watched
from browsing import running_browser
from busy_shop import tell
from flowers import running_flower
from healths import in_trouble
from PIL import Image
from recorded_runs import Story
from worlds import pass_over

from plet_celery.store import Store, queries

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ViewportSize

APP: Final = """
from celery import Celery
from plet_celery import Plet

app = Celery("shop", broker="memory://", backend="cache+memory://")
plet = Plet(app)
"""
WIDE, NARROW = 1180, 390
NARROW_HEIGHT: Final = 800
THEMES: Final = ("light", "dark")


class Look(NamedTuple):
    """A page, and how much of it a wide picture shows."""

    name: str
    of: str
    """Attribute of `BusyShop` for a run, of what `watched.tell` returns for an alert; else a page's path."""
    height: int


class Picture(NamedTuple):
    """One picture: a page, how it is looked at."""

    name: str
    of: str
    theme: Literal["light", "dark"]
    size: tuple[int, int]


LOOKS: Final = (
    Look("runs", "", 760),
    Look("run", "running", 760),
    Look("failed", "failed", 1100),
    Look("canvas", "canvas", 900),
    Look("workers", "workers", 500),
    Look("alerts", "alerts", 820),
    Look("alert", "alerts/firing", 900),
    Look("health", "health", 900),
)


def pictures() -> Iterator[Picture]:
    """Yield every page in both themes, wide and narrow."""
    for look in LOOKS:
        for theme in THEMES:
            yield Picture(f"{look.name}-{theme}", look.of, theme, (WIDE, look.height))
            yield Picture(f"{look.name}-{theme}-narrow", look.of, theme, (NARROW, NARROW_HEIGHT))


def main(only: Collection[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="pictures-") as made:
        folder = Path(made)
        home = folder / ".plet"
        home.mkdir(mode=0o700)
        (folder / "shop.py").write_text(APP)
        story = Story(f"sqlite:///{home / 'plet.db'}", home=home)
        now = time.time()
        told = asdict(tell(story, now)) | watch(story.store, now)
        with running_flower(folder) as flower, running_browser() as browser:
            for picture in pictures():
                if only and picture.name.partition("-")[0] not in only:
                    continue
                hear_of_all(story.store)
                target = Path(__file__).with_name(f"{picture.name}.png")
                taken = take(browser, flower.base + path_of(picture, told), picture)
                target.write_bytes(with_palette(taken))
                print(f"{target.name}: {target.stat().st_size} bytes")
        story.close()


def hear_of_all(store: Store) -> None:
    """Have the hosts be heard of just now: all pictures take longer than a host may be silent."""
    with store.writing() as connection:
        connection.execute(store.tables.journal.update().values(touched_at=time.time()))


def watch(store: Store, now: float) -> dict[str, str]:
    """Tell an evening on call; return ids of alerts by what they show."""
    watched.promise(store, now)
    ids = watched.tell(
        watched.Watched(store),
        now,
        lambda task: [run.id for run in queries.list_runs(store, task=task, limit=4).items],
    )
    pass_over(store, in_trouble())
    return {f"alerts/{name}": one for name, one in ids.items()}


def path_of(picture: Picture, told: Mapping[str, str]) -> str:
    """Return the address of a picture's page, below Flower's."""
    if picture.of.startswith("alerts/"):
        return f"plet/alerts/{told[picture.of]}"
    return f"plet/runs/{told[picture.of]}" if picture.of in told else f"plet/{picture.of}"


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
    main(sys.argv[1:])
