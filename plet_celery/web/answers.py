"""Answers that are kept: given again while they are true, or shown with their age when there is no newer one.

What the store tells is true until it changes, which one small question tells (`queries.change_mark`). What
was removed from it is told by nothing: so an answer is given again for few seconds only.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from plet_celery.web import frame

KEPT_SECONDS: Final = 3.0
"""How long an answer is given again where nothing has changed."""
COST_SHARE: Final = 1000
"""A costly answer is kept so many times as long as it took: it then takes a thousandth of a thread."""
COSTLY_SECONDS: Final = 60.0
"""But no longer."""
LATEST_SECONDS: Final = 1.0
"""Probes come from anybody: however many there are, the store is asked once a second."""
_KEPT_MAX: Final = 512
_KEPT_CHARACTERS: Final = 512 << 10
_KEPT_ALL_CHARACTERS: Final = 16 << 20

T = TypeVar("T")


class _Kept(NamedTuple):
    html: str
    at: float
    mark: Hashable


_NOTHING: Final = _Kept("", 0.0, None)


class Answers:
    """The newest good fragments; safe in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._characters = 0

    def keep(self, key: Hashable, html: str, now: float, mark: Hashable = None) -> None:
        """Keep an answer, if it is not too large, and forget the oldest ones.

        Args:
            mark: what the store's changes were marked by before it was asked; None: not to be given again.
        """
        with self._lock:
            self._characters -= len(self._kept.pop(key, _NOTHING).html)
            if len(html) <= _KEPT_CHARACTERS:
                self._kept[key] = _Kept(html, now, mark)
                self._characters += len(html)
            while len(self._kept) > _KEPT_MAX or self._characters > _KEPT_ALL_CHARACTERS:
                self._characters -= len(self._kept.popitem(last=False)[1].html)

    def again(self, key: Hashable, mark: Hashable, now: float) -> str | None:
        """Return an answer that is still true, or None."""
        found = self._kept.get(key)
        if found is None or found.mark is None or found.mark != mark:
            return None
        return found.html if 0 <= now - found.at < KEPT_SECONDS else None

    def recent(self, key: Hashable, seconds: float, now: float) -> str | None:
        """Return an answer that is not older than this, whatever has changed since, or None."""
        found = self._kept.get(key)
        return found.html if found is not None and 0 <= now - found.at < seconds else None

    def has(self, key: Hashable) -> bool:
        """Tell whether there is something to show."""
        return bool(self._kept.get(key, _NOTHING).html)

    def with_trouble(self, key: Hashable, text: str) -> str:
        """Return a fragment that says why there is no answer, with the last one below it."""
        found = self._kept.get(key)
        html, at = (found.html, found.at) if found is not None else ("", None)
        return frame.fragment("trouble.html", text=text, at=at, html=html)


class Shared(Generic[T]):
    """Things made for several requests of the same moment, such as all regions of a page; few are kept."""

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._made: OrderedDict[Hashable, tuple[T, Hashable, float]] = OrderedDict()

    def ask(self, key: Hashable, mark: Hashable, make: Callable[[], T]) -> T:
        """Return what was made for this key under this mark a moment ago, or make it.

        Args:
            make: returns at once; others wait meanwhile.
        """
        now = time.monotonic()
        with self._lock:
            found = self._made.get(key)
            if found is not None and found[1] == mark and now - found[2] < KEPT_SECONDS:
                return found[0]
            made = make()
            self._made.pop(key, None)
            self._made[key] = (made, mark, now)
            while len(self._made) > self._most:
                self._made.popitem(last=False)
            return made


class Costly:
    """Answers that are asked for no more often than is cheap, whatever changes meanwhile."""

    def __init__(self, most: int = 64, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[Any, float]] = OrderedDict()

    def ask(self, key: Hashable, make: Callable[[], T], *, most: float = COSTLY_SECONDS) -> T:
        """Return what `make` returned for this key, for so long as its cost says.

        Args:
            key: all that the answer depends on, the viewer's tenants among it.
            most: seconds after which it is asked again, whatever it costs.
        """
        with self._lock:
            found = self._kept.get(key)
        began = self._clock()
        if found is not None and began < found[1]:
            kept: T = found[0]
            return kept
        made = make()
        now = self._clock()
        until = now + min(most, COST_SHARE * (now - began))
        with self._lock:
            self._kept.pop(key, None)
            self._kept[key] = (made, until)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return made


class Latest:
    """Shares an answer among all who ask within a second, also while it is being found; for one loop."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[float, asyncio.Future[Any]]] = {}

    async def ask(self, key: str, find: Callable[[], Awaitable[T]]) -> T:
        """Return what `find` returned less than a second ago, or will."""
        began, future = self._asked.get(key, (0.0, None))
        if future is None or (future.done() and time.monotonic() - began > LATEST_SECONDS):
            future = asyncio.ensure_future(find())
            self._asked[key] = (time.monotonic(), future)
        # One who goes away must not take the answer from the others.
        found: T = await asyncio.shield(future)
        return found
