"""Templates: Flower's own and ours beside them, with our entry in Flower's navigation bar."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

from tornado.template import DictLoader

from plet_celery.flowerhooks import ENTRY, NAVBAR, with_entry
from plet_celery.web import moments

_OURS: Final = Path(__file__).parent / "templates"


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
