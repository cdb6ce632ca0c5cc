"""What lies in the mirror: where a journal's copies are, and how one is removed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plet_celery.logfiles.folders import remove_folder
from plet_celery.paths import slug


@dataclass(frozen=True)
class Origin:
    """Whose copies these are."""

    journal_id: str
    host: str


class Copies:
    """Removes copies at once, for a command: it waits for a mirror that hangs."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def has_removed(self, journal_id: str, folder: str) -> bool:
        """Remove a copy; True once it is gone.

        Raises:
            FileNotFoundError: the mirror itself is not there.
        """
        check_there(self._root)
        remove_copy(self._root, journal_id, folder)
        return True


def check_there(root: Path) -> None:
    """Check that the mirror is mounted.

    Raises:
        FileNotFoundError: it is not.
    """
    if not root.is_dir():
        raise FileNotFoundError(2, "the mirror is not there; mount it, or unset plet_mirror", str(root))


def place_name(origin: Origin) -> str:
    """Return the name of a journal's folder in the mirror."""
    return f"{slug(origin.host)}_{origin.journal_id[:8]}"


def places(root: Path, journal_id: str) -> list[Path]:
    """Return the folders of a journal in the mirror; its host may have been renamed."""
    try:
        found = sorted(root.iterdir())
    except OSError:
        return []
    return [place for place in found if place.name.endswith(f"_{journal_id[:8]}")]


def remove_copy(root: Path, journal_id: str, folder: str) -> bool:
    """Remove the copy of a run's folder; False when there is none.

    Raises:
        HomeError: something strange lies in its place.
    """
    gone = False
    for place in places(root, journal_id):
        gone = remove_folder(place, folder) or gone
    return gone
