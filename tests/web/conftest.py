"""A project whose runs are recorded, and a real Flower that shows them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from busy_shop import tell
from flowers import running_flower
from recorded_runs import Story
from services import missing

if TYPE_CHECKING:
    from browsing import Busy, Visits
    from playwright.sync_api import Browser

APP = """
from celery import Celery
from plet_celery import Plet, TrackedTask

app = Celery("shop", broker={broker!r}, backend="cache+memory://")
plet = Plet(app)
{more}
"""


class Shop:
    """A folder with `shop.py`, its `.plet`, and the store in it."""

    def __init__(self, folder: Path, broker: str, *, more: str = "", url: str | None = None) -> None:
        self.folder = folder
        self.home = folder / ".plet"
        self.home.mkdir(mode=0o700)
        self.url = url or f"sqlite:///{self.home / 'plet.db'}"
        self.broker = broker
        self.write(more)
        self.story = Story(self.url, home=self.home)
        self.now = time.time()

    def write(self, more: str = "") -> None:
        """Write the project's module, with `more` below its app."""
        (self.folder / "shop.py").write_text(APP.format(broker=self.broker, more=more))

    def close(self) -> None:
        """Let go of the store and the log files."""
        self.story.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop with nothing recorded; the tests of a module share it."""
    made = Shop(tmp_path_factory.mktemp("shop"), "memory://")
    yield made
    made.close()


# Of one module, not of the session: Playwright keeps an event loop running in this thread, and tests of
# coroutines start their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    from browsing import CHROMIUM, INSTALL, running_browser

    if not CHROMIUM.exists():
        missing("chromium", INSTALL)
    with running_browser() as found:
        yield found


@pytest.fixture
def visits(browser: Browser) -> Iterator[Visits]:
    """Opens pages; whatever a page of ours may never do fails the test in the end."""
    from browsing import Visits

    made = Visits(browser)
    yield made
    made.close()
    assert made.troubles == []


@pytest.fixture(scope="module")
def busy(shop: Shop) -> Iterator[Busy]:
    """The shop of `busy_shop.py`."""
    from browsing import Busy

    with running_flower(shop.folder) as flower:
        yield Busy(shop, flower, tell(shop.story, time.time()))
