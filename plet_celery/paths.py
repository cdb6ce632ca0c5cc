"""Where things live: the home folder, and the name of each file and folder in it.

Nothing here creates or opens anything except `make_home` and `private_directory`.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path

from plet_celery.errors import HomeError

_SLUG_KEPT = re.compile(r"[^a-z0-9._-]+")
# A tenant may come with a message: its folder must not reach the system's limit for paths.
_TENANT_PARTS_MAX = 8
# The last second that a date can tell, 9999-12-31.
_LAST_SECOND = 253_402_300_799.0
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def default_home(app_module: str | None) -> Path:
    """Return `.plet` in the folder that holds the app's top-level module.

    Args:
        app_module: the dotted name of the module that made the Celery app (`app.main`).

    Returns:
        An absolute path. Never the bare working directory: a module without a file
        (a REPL, a pipe) gets a folder of its own in the user's home.
    """
    top = _real_name(app_module or "").partition(".")[0]
    module = sys.modules.get(top)
    file = getattr(module, "__file__", None)
    if file is None:
        # Namespace packages have no __file__, but they have a folder.
        folders = list(getattr(module, "__path__", []))
        return Path(folders[0]).resolve() / ".plet" if folders else _users_home() / ".plet"
    return Path(file).resolve().parent / ".plet"


def journal_directory(home: Path) -> Path:
    """Return this user's journal: users do not share one, a journal has one owner."""
    return home / "journal" / str(os.getuid())


def runs_directory(home: Path) -> Path:
    """Return the root of this user's run log folders.

    It is `runs/`; where that was made for several users (writable for others), `runs/<uid>`.
    """
    runs = home / "runs"
    return runs / str(os.getuid()) if _is_shared(runs) else runs


def refuse_others_home(home: Path, *, embedded_store: bool) -> None:
    """Check that this user may record below an existing `plet_home`, whoever made it.

    Args:
        embedded_store: the store is the SQLite file in that folder.

    Raises:
        HomeError: its SQLite file or its `runs/` belongs to another user; says what to do.
    """
    uid = os.getuid()
    owner = _owner(home / "plet.db")
    if embedded_store and owner not in (None, uid):
        raise HomeError(
            f"the SQLite store {str(home / 'plet.db')!r} belongs to uid {owner}, this process is uid {uid}; "
            "SQLite serves one user: set plet_database_url to PostgreSQL or MariaDB, or plet_home to a "
            "folder of this user"
        )
    runs = home / "runs"
    owner = _owner(runs)
    if owner not in (None, uid) and not _is_shared(runs):
        raise HomeError(
            f"{str(runs)!r} belongs to uid {owner}, this process is uid {uid}; set plet_home to a folder of "
            f"this user, or let several share this one: chmod 1777 {home / 'journal'} {runs}"
        )


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None


def _is_shared(runs: Path) -> bool:
    try:
        return bool(stat.S_IMODE(runs.stat().st_mode) & 0o022)
    except OSError:
        return False


def default_database_url(home: Path) -> str:
    """Return the URL of the embedded SQLite store."""
    return f"sqlite:///{home / 'plet.db'}"


def slug(text: str) -> str:
    """Return `text` as a file name part `[a-z0-9._-]{1,40}`, with a hash where it was changed."""
    plain = _SLUG_KEPT.sub("-", text.lower()).strip("-.")[:40]
    if plain == text and plain:
        return plain
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain[:31]}-{digest}" if plain else digest


def tenant_folder(tenant: str) -> Path:
    """Return the relative folder of a tenant path such as `account/site`; `_` when empty."""
    parts = [part for part in tenant.split("/") if part]
    if len(parts) > _TENANT_PARTS_MAX:
        parts[_TENANT_PARTS_MAX - 1 :] = ["/".join(parts[_TENANT_PARTS_MAX - 1 :])]
    return Path(*(slug(part) for part in parts)) if parts else Path("_")


def run_folder(tenant: str, started: float, trigger: str, run_id: str) -> Path:
    """Return the relative log folder of a run: a pure function of its first attempt's facts.

    Both sinks call it, so that the store can name a folder that only the log sink makes.

    Args:
        started: wall time of the attempt's `run.started`, seconds since the epoch.
    """
    stamp = datetime.fromtimestamp(min(max(0.0, started), _LAST_SECOND), UTC).strftime("%Y%m%d_%H%M%S")
    return tenant_folder(tenant) / f"{stamp}_{slug(trigger or 'manual')}_{run_digest(run_id)}"


def run_digest(run_id: str) -> str:
    """Return the 10 hex digits that stand for a run id in file names."""
    return hashlib.sha256(run_id.encode("utf-8", "surrogatepass")).hexdigest()[:10]


def short_id(run_id: str) -> str:
    """Return the first 8 characters of a UUID, else 8 hex digits of a hash."""
    return run_id[:8] if _UUID.fullmatch(run_id) else run_digest(run_id)[:8]


def make_home(home: Path) -> None:
    """Create the home folder (0700, its parents too); a new one keeps itself out of version control.

    Raises:
        HomeError: it is a file, or it cannot be made.
    """
    if home.is_dir():
        return
    try:
        _make(home)
        (home / ".gitignore").write_text("*\n")
    except FileExistsError:
        raise HomeError(f"plet_home {str(home)!r} is not a folder; remove it or set plet_home") from None
    except OSError as error:
        raise HomeError(
            f"plet_home {str(home)!r} cannot be made by uid {os.getuid()} ({error.strerror}); "
            "create it or set plet_home"
        ) from error


def private_directory(path: Path) -> Path:
    """Create `path` (0700, with parents) or check that an existing one is ours and private.

    Raises:
        HomeError: it is not a directory, belongs to another user, is writable by others,
            or cannot be created.
    """
    try:
        _make(path)
        found = path.stat()
    except FileExistsError:
        raise HomeError(f"{str(path)!r} is a file; remove it or set plet_home elsewhere") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise HomeError(
            f"plet_home {str(path)!r} cannot be used by uid {os.getuid()} ({reason}); "
            "create it or set plet_home"
        ) from error
    if found.st_uid != os.getuid():
        raise HomeError(
            f"{str(path)!r} belongs to uid {found.st_uid}, this process is uid {os.getuid()}; "
            "set plet_home to a folder of this user"
        )
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise HomeError(
            f"{str(path)!r} is writable by others (mode {stat.S_IMODE(found.st_mode):o}); "
            "run chmod go-w on it"
        )
    if not os.access(path, os.W_OK | os.X_OK):
        raise HomeError(
            f"{str(path)!r} is not writable by uid {os.getuid()}; make it writable or set plet_home"
        )
    return path


def _make(path: Path) -> None:
    # Not by parents=True, which makes the parents with the umask's mode, however open that is.
    if path.parent != path and not path.parent.exists():
        _make(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)


def _real_name(module: str) -> str:
    # `python -m shop.jobs` calls it __main__ (a spawned child of it __mp_main__), a worker shop.jobs.
    is_main = module in ("__main__", "__mp_main__")
    spec = getattr(sys.modules.get(module), "__spec__", None) if is_main else None
    return spec.name if spec is not None else module


def _users_home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise HomeError(
            f"uid {os.getuid()} has no home folder, and the app's module has no file; set plet_home"
        ) from None
