"""Templates: Flower's own and ours beside them, with our entry in Flower's navigation bar."""

from __future__ import annotations

import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from tornado.template import DictLoader

from plet_celery.flowerhooks import ENTRY, NAVBAR, with_entry
from plet_celery.web import moments

_OURS: Final = Path(__file__).parent / "templates"
_FRAMES_MAX: Final = 64
# No text of a task or of an address is one.
_HOLE: Final = secrets.token_hex(8)
_HOLES: Final = re.compile(f"<plet-{_HOLE} ([a-z_]+)>")


class Frames:
    """Pages without their regions, kept for the next one who asks for the same; of one event loop."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, list[str]] = OrderedDict()

    def page(
        self, key: Hashable, regions: Mapping[str, str], make: Callable[[Mapping[str, str]], str]
    ) -> str:
        """Return a page with these regions.

        Args:
            key: all that the rest of the page depends on: what is asked for, the viewer, the zone.
            make: returns the page with what it is given as regions.
        """
        pieces = self._kept.pop(key, None)
        if pieces is None:
            pieces = _HOLES.split(make({name: f"<plet-{_HOLE} {name}>" for name in regions}))
        self._kept[key] = pieces
        if len(self._kept) > _FRAMES_MAX:
            self._kept.popitem(last=False)
        # Between two pieces of the page stands the name of a region.
        return "".join(regions[one] if number % 2 else one for number, one in enumerate(pieces))


class Rows:
    """Rows of lists, kept while what they show is the same; safe in any thread."""

    def __init__(self, most: int = 2000) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, str] = OrderedDict()

    def all(self, keys: Iterable[Hashable], make: Callable[[list[Hashable]], list[str]]) -> list[str]:
        """Return the rows with these keys, in their order.

        Args:
            keys: all that a row depends on, its viewer's rights among it.
            make: returns the rows of those keys that are not kept.
        """
        wanted = list(keys)
        with self._lock:
            found = {key: self._kept[key] for key in wanted if key in self._kept}
        missing = [key for key in wanted if key not in found]
        found |= zip(missing, make(missing), strict=True) if missing else ()
        with self._lock:
            for key in wanted:
                self._kept[key] = found[key]
                self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return [found[key] for key in wanted]


def loader(flowers: str | Path) -> DictLoader:
    """Return a loader of all templates in Flower's folder and in ours, read once."""
    sources = _sources(Path(flowers)) | _sources(_OURS)
    if NAVBAR in sources:
        sources[NAVBAR] = with_entry(sources[NAVBAR])
    return DictLoader(sources)


def has_entry(loader: DictLoader) -> bool:
    """Tell whether the navigation bar got our entry."""
    return ENTRY in loader.dict.get(NAVBAR, "")


@cache
def fragments() -> DictLoader:
    """Return a loader of our own templates only."""
    return DictLoader(_sources(_OURS))


def fragment(name: str, **namespace: Any) -> str:
    """Return one of our templates as text, rendered with the functions of `moments`; safe in any thread.

    Args:
        name: below `templates/plet/`, such as `stages.html`.
    """
    return fragments().load(f"plet/{name}").generate(**moments.WORDS, **namespace).decode()


def _sources(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): file.read_text(encoding="utf-8")
        for file in sorted(folder.rglob("*.html"))
    }
