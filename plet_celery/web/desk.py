"""What all pages of one Flower process share: store, threads, templates, answers that are kept."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Hashable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from weakref import WeakKeyDictionary

from tornado.template import BaseLoader

from plet_celery.places import Places, places_of
from plet_celery.store import Store, open_store
from plet_celery.store.keptruns import KeptRuns
from plet_celery.store.records import Run
from plet_celery.web import frame
from plet_celery.web.answers import Answers, Costly, Latest, Shared
from plet_celery.web.pool import THREADS, Pool
from plet_celery.web.rules import Rules

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)

STATIC: Final = Path(__file__).parent / "static"
QUERY_SECONDS: Final = 5.0
FILE_THREADS: Final = 4
_TOLD_SECONDS: Final = 60.0
_RUNS_MAX: Final = 64


class Desk:
    """The shared things of one app; opened when they are first asked for."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self.pool = Pool(rescue=self._free_threads)
        # Apart: a folder of a shared disk that hangs must not keep the store from being asked.
        self.files = Pool(threads=FILE_THREADS, rescue=self._free_threads)
        self.rules = Rules(lambda: self.places.settings)
        self.answers = Answers()
        self.subjects: Shared[Any] = Shared()
        self.costly = Costly()
        self.latest = Latest()
        self.listed_runs = KeptRuns()
        self.rows = frame.Rows()
        self.frames = frame.Frames()
        self.last_runs: OrderedDict[Hashable, Run] = OrderedDict()
        """The newest runs that were looked at: the frame of their pages while the store is down."""
        self._marks: dict[str, str] = {}
        self._warned: set[str] = set()
        self._told: dict[str, float] = {}
        self._loader: BaseLoader | None = None

    def warn_once(self, text: str) -> None:
        """Log a warning, the first time only."""
        if text not in self._warned:
            self._warned.add(text)
            log.warning("%s", text)

    def warn_now_and_then(self, text: str) -> None:
        """Log a warning, once a minute: live pages meet the same trouble every other second."""
        now = time.monotonic()
        self._told = {said: at for said, at in self._told.items() if now - at < _TOLD_SECONDS}
        if text not in self._told:
            self._told[text] = now
            log.warning("a page has no answer: %s", text)

    def keep_run(self, key: Hashable, run: Run) -> None:
        """Keep what is known of a run, and forget the oldest ones."""
        self.last_runs.pop(key, None)
        self.last_runs[key] = run
        while len(self.last_runs) > _RUNS_MAX:
            self.last_runs.popitem(last=False)

    def _free_threads(self) -> None:
        """Have the queries fail that no time-out of a driver ends: something still acknowledges them."""
        if "store" in self.__dict__:
            log.warning("queries hang: the store's connections are broken off")
            self.store.sever()

    @cached_property
    def places(self) -> Places:
        """Where the project's things live."""
        return places_of(self._app)

    @cached_property
    def store(self) -> Store:
        """The store, for reading; it is opened by the first query."""
        return open_store(
            self.places.database_url,
            read_only=True,
            query_seconds=QUERY_SECONDS,
            connections=THREADS + FILE_THREADS,
        )

    @cached_property
    def writer(self) -> Store:
        """The store, for the few changes that people make; it is opened by the first one."""
        return open_store(self.places.database_url)

    def loader(self, flowers: str) -> BaseLoader:
        """Return the loader of Flower's templates and ours."""
        if self._loader is None:
            self._loader = frame.loader(flowers)
        return self._loader

    def asset_mark(self, name: str) -> str:
        """Return what names the content of one of our static files."""
        if name not in self._marks:
            self._marks[name] = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
        return self._marks[name]

    @staticmethod
    def url(base: str, *parts: str) -> str:
        """Return a URL below `base`; a part may hold any character."""
        return base + "/".join(quote(part, safe="") for part in parts)


_desks: WeakKeyDictionary[Any, Desk] = WeakKeyDictionary()


def desk_of(app: Celery) -> Desk:
    """Return the desk of an app, one a process."""
    found = _desks.get(app)
    if found is None:
        found = _desks[app] = Desk(app)
    return found
