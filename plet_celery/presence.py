"""What the shipper of a journal and those who watch it tell each other, by small files in the journal.

Not the lock: who may ship is decided by `ship.lock` (election.py) alone. These files only say more:

| file | written by | says |
|---|---|---|
| `ship.beat` | the holder of the lock, every second | who it is, that it is not frozen, how its sinks are |
| `asks/<32 hex>` | whoever wants the journal stored now | a wish; the holder removes it once that is done |

Both survive a crash of either side: a beat that no longer changes is stale, a request that nobody
removed is answered by the next shipper.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from plet_celery.election import ShipLock
from plet_celery.host import boot_id
from plet_celery.journal_pressure import DISK_FULL_ERRORS
from plet_celery.wholewrites import write_whole

BEAT_NAME: Final = "ship.beat"
_DRAIN_LOOK: Final = 0.02
ASKS_NAME: Final = "asks"
_REQUEST = re.compile(r"[0-9a-f]{32}")
_REQUEST_MAX_BYTES: Final = 4096


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process of this machine, told apart from every other one that has or will have its pid."""

    pid: int
    created: str
    """Start time as the kernel counts it: clock ticks since boot on Linux, else seconds."""
    boot: str
    namespace: str
    """The pid namespace (a container has its own); empty where there is none."""
    uid: int


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """The newest sign of life of who serves a journal."""

    process: Process
    role: str
    """`shipper`, or `drain` for a process that only flushes and is never killed."""
    mono: float
    wall: float
    plet: str
    fingerprint: str
    state: str
    """`serving`, `draining`, `left`, or `yielding`: stepped down for a newer one."""
    yields_to: str = ""
    """Key of the shipper for which it stepped down; others leave that one time to spawn."""
    turns: tuple[float, ...] = ()
    """Wall times of the latest step-downs for other settings on this journal."""
    sinks: dict[str, dict[str, Any]] = {}
    """By sink: events taken, failures in a row, the last error, and what its reader stumbled over."""
    mirror: dict[str, Any] = {}
    """Of the mirror's copier, where there is one: folders behind, failures in a row, the last error."""
    refused_segments: int = 0
    """Segments that the disk did not take at an fsync; what it holds of them is unknown."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A wish to have everything stored that lies in the journal now."""

    leave: bool = False
    """The asker is going; without another writer the shipper need not linger."""


def shipper_key(plet: str, fingerprint: str) -> str:
    """Return what tells two shippers of one journal apart: version and settings."""
    return f"{plet} {fingerprint}"


def this_process() -> Process:
    """Return the identity of the calling process."""
    found = process_of(os.getpid())
    assert found is not None, "a running process sees itself"
    return found


def place_name(process: Process) -> str:
    """Return a file name for a process, that of no other one of this machine: containers repeat pids."""
    digest = hashlib.sha256(f"{process.boot} {process.namespace} {process.created}".encode())
    return f"{process.pid}-{digest.hexdigest()[:8]}"


def is_gone(process: Process) -> bool:
    """Tell whether a process has certainly ended: one of another container is not known to have."""
    if process.boot != boot_id():
        return True
    return process.namespace == _namespace() and process_of(process.pid) != process


def process_of(pid: int) -> Process | None:
    """Return the identity of the process with this pid, or None where none is visible."""
    created = _created(pid)
    if created is None:
        return None
    try:
        uid = Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        uid = os.getuid()
    return Process(pid=pid, created=created, boot=boot_id(), namespace=_namespace(), uid=uid)


def write_beat(directory: Path, beat: Beat) -> None:
    """Replace the beat of a journal as one step; on a full disk, write over the one that is there.

    Raises:
        OSError: the directory cannot be written; the caller goes on without a beat.
    """
    fresh, content = directory / f"{BEAT_NAME}.new", msgspec.json.encode(beat)
    try:
        _write(fresh, content)
        fresh.replace(directory / BEAT_NAME)
    except OSError as error:
        if error.errno not in DISK_FULL_ERRORS or not (directory / BEAT_NAME).exists():
            raise
        # Else whoever watches would take a shipper that has work to do for a frozen one, and kill it.
        _write_over(directory / BEAT_NAME, content)


def read_beat(directory: Path) -> Beat | None:
    """Return the newest beat, or None where there is none that can be read."""
    try:
        return msgspec.json.decode((directory / BEAT_NAME).read_bytes(), type=Beat)
    except (OSError, msgspec.MsgspecError):
        return None


def is_visible(process: Process) -> bool:
    """Tell whether exactly this process runs here, of our user, in our pid namespace."""
    return process.uid == os.getuid() and process_of(process.pid) == process


def kill_exactly(process: Process) -> bool:
    """End a frozen process by SIGKILL; False if it is gone, not ours, or not visible from here.

    The descriptor is taken before the identity is checked, so that a pid which is reused in
    between is never hit.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        return False
    try:
        if not is_visible(process):
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def reap(process: Process) -> None:
    """Reap this process if it has ended and is a child of ours that we do not know of.

    A worker that restarts itself (SIGHUP) replaces its program: the shipper it had spawned stays its child.
    """
    if process_of(process.pid) == process:
        try:
            os.waitpid(process.pid, os.WNOHANG)
        except ChildProcessError:
            pass  # Somebody else's, as almost always.


def request_drain(directory: Path, *, leave: bool = False) -> Path:
    """Ask who serves the journal to store all that lies there now; the file is gone once that is done.

    Raises:
        OSError: the directory cannot be written.
    """
    asks = directory / ASKS_NAME
    asks.mkdir(mode=0o700, exist_ok=True)
    request = asks / secrets.token_hex(16)
    # Made under another name first: the shipper must not see a request without its content.
    fresh = request.with_suffix(".new")
    _write(fresh, msgspec.json.encode(Request(leave=leave)))
    return fresh.replace(request)


def drain_requests(directory: Path) -> Mapping[Path, Request]:
    """Return the requests that wait for an answer."""
    asks = directory / ASKS_NAME
    try:
        names = [path.name for path in asks.iterdir()]
    except OSError:
        return {}
    return {asks / name: _request(asks / name) for name in names if _REQUEST.fullmatch(name)}


def withdraw(request: Path) -> bool:
    """Remove a request; False if it was answered (or withdrawn) already."""
    try:
        request.unlink()
    except FileNotFoundError:
        return False
    return True


def await_drain(
    journal: Path, *, timeout: float, coming: Callable[[], bool] = lambda: False, leave: bool = False
) -> bool:
    """Ask the shipper of a journal to store all that lies there, and wait for it.

    Args:
        timeout: seconds to wait at most.
        coming: tells whether a shipper that does not yet hold the lock is on its way.
        leave: the asker is going; the shipper need not linger for it.

    Returns:
        True once done; False when time is up, or at once when nobody serves or will serve.
    """
    deadline = time.monotonic() + timeout
    try:
        request = request_drain(journal, leave=leave)
    except OSError:
        return False
    probe_at = 0.0
    while time.monotonic() < deadline and request.exists():
        if time.monotonic() >= probe_at:
            if not (coming() or ShipLock.held_elsewhere(journal)):
                break
            # Rarely: a probe takes the lock for a moment, where a starting shipper may want it.
            probe_at = time.monotonic() + 10 * _DRAIN_LOOK
        time.sleep(_DRAIN_LOOK)
    return not withdraw(request)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_whole(descriptor, content)
    finally:
        os.close(descriptor)


def _write_over(path: Path, content: bytes) -> None:
    """Write into the place that a file has already; who reads meanwhile may find no JSON."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # JSON may end in blanks.
        os.pwrite(descriptor, content.ljust(os.fstat(descriptor).st_size), 0)
    finally:
        os.close(descriptor)


def _request(path: Path) -> Request:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_REQUEST_MAX_BYTES), type=Request)
    except (OSError, msgspec.MsgspecError):
        return Request()


def _created(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command's name may hold spaces and brackets; fields count from the last bracket.
            return file.read().rpartition(b")")[2].split()[19].decode()
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _created_elsewhere(pid)
    except (OSError, IndexError):
        return None


def _created_elsewhere(pid: int) -> str | None:
    import psutil  # systems without /proc

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return None


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
