"""What a task's process is doing: its stack, written by itself when the worker's main process asks for it.

A prefork child lets `faulthandler` write its stack into a file of its own on SIGUSR2: that works while the
task hangs in C code, takes no lock, interrupts no Python code. Only where nobody has that signal: a handler
of the user's is neither replaced nor triggered, also one that is set later. In a pool of threads the main
process reads the frames itself. A stack names files, lines and functions, no values.

The file `<journal>/stacks/<main process>/<pid>` is the offer: it is gone as soon as the process cannot be
asked any more.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from plet_celery import presence

FOLDER: Final = "stacks"
STACK_MAX: Final = 16 << 10
"""Bytes of a stack that are kept."""
_WHOSE: Final = "main"
_CAUGHT: Final = ("SigCgt", "SigIgn")

_offered: list[tuple[int, Path]] = []
"""In a task's process: its pid, and the file in which it offers its stack."""


def offer(folder: Path) -> bool:
    """Let this process be asked for its stack, unless SIGUSR2 is somebody's; True if it can be.

    Args:
        folder: of the dumps, private, made by the main process.
    """
    number = getattr(signal, "SIGUSR2", None)
    if number is None or not folder.is_dir() or signal_state(os.getpid(), _CAUGHT) is not False:
        return False
    path = folder / str(os.getpid())
    with suppress(FileNotFoundError):
        path.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    # Open for the life of the process: faulthandler writes where it must not open anything.
    descriptor = os.open(path, flags, 0o600)
    _offered[:] = [(os.getpid(), path)]
    faulthandler.register(number, file=descriptor, all_threads=True, chain=False)
    _watch(number)
    return True


def withdraw() -> None:
    """Let this process not be asked any more: SIGUSR2 is somebody else's from now on."""
    for pid, path in _offered:
        # A process that the task has forked has nothing to take back.
        if pid == os.getpid():
            with suppress(OSError):
                path.unlink()
    _offered.clear()


def prepare(journal: Path) -> Path:
    """Make this main process's folder of dumps, and remove those of main processes that are gone.

    Raises:
        OSError: it cannot be made.
    """
    mine = presence.this_process()
    above = journal / FOLDER
    above.mkdir(mode=0o700, exist_ok=True)
    for other in above.iterdir():
        if _is_of_nobody(other):
            shutil.rmtree(other, ignore_errors=True)
    folder = above / presence.place_name(mine)
    folder.mkdir(mode=0o700, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    # Whatever the umask is: nobody else reads what processes run here.
    descriptor = os.open(folder / _WHOSE, flags, 0o600)
    try:
        os.write(descriptor, msgspec.json.encode(mine))
    finally:
        os.close(descriptor)
    return folder


def sweep(folder: Path) -> None:
    """Remove what task processes have left that were killed; for their main process."""
    for file in folder.iterdir():
        if file.name.isdecimal() and not Path(f"/proc/{file.name}").exists():
            with suppress(OSError):
                file.unlink()


def _is_of_nobody(folder: Path) -> bool:
    try:
        whose = msgspec.json.decode((folder / _WHOSE).read_bytes(), type=presence.Process)
    except (OSError, msgspec.MsgspecError):
        return True
    return presence.is_gone(whose)


def ask(folder: Path, pid: int) -> str:
    """Have a task's process write its stack, from the main process; return why not, or an empty text."""
    path = folder / str(pid)
    number = getattr(signal, "SIGUSR2", None)
    if number is None or not path.exists():
        return "its SIGUSR2 is not ours to use"
    # Without a handler the signal would end the process; with another descriptor it would write elsewhere.
    if signal_state(pid, ("SigCgt",)) is not True or not _holds(pid, path):
        return "its SIGUSR2 is not ours any more"
    try:
        os.truncate(path, 0)
        os.kill(pid, number)
    except OSError as error:
        return f"it cannot be asked ({error.strerror})"
    return ""


def read(folder: Path, pid: int) -> str:
    """Return the stack that a process has written since it was asked; empty where it has not yet."""
    try:
        with (folder / str(pid)).open("rb") as file:
            return file.read(STACK_MAX).decode("utf-8", "replace")
    except OSError:
        return ""


def stack_of_thread(ident: int) -> str:
    """Return the stack of a thread of this process, in the words of `faulthandler`; empty if it has ended."""
    frame = sys._current_frames().get(ident)
    if frame is None:
        return ""
    frames = traceback.StackSummary.extract(traceback.walk_stack(frame), lookup_lines=False)
    lines = [f'  File "{one.filename}", line {one.lineno} in {one.name}' for one in frames]
    return "\n".join(["Thread of the run (most recent call first):", *lines])[:STACK_MAX]


def signal_state(pid: int, masks: Iterable[str]) -> bool | None:
    """Return whether SIGUSR2 is in any of a process's masks, as the kernel has them; None: unknown."""
    bit = 1 << (signal.SIGUSR2 - 1)
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
        found = dict(line.split(":\t", 1) for line in text.splitlines() if line.startswith("Sig"))
        return any(int(found[name], 16) & bit for name in masks)
    except (OSError, ValueError, KeyError):
        return None


def _holds(pid: int, path: Path) -> bool:
    """Tell whether a process still has the file open, under whatever number."""
    try:
        for entry in list(Path(f"/proc/{pid}/fd").iterdir()):
            with suppress(OSError):
                if str(entry.readlink()) == str(path):
                    return True
    except OSError:
        return False
    return False


def _watch(number: int) -> None:
    """Take the offer back when somebody takes the signal, through whatever name."""
    inner: Any = importlib.import_module("_signal")  # what `signal.signal` calls, however it was imported
    inner.signal = _noticing(inner.signal, number)
    faulthandler.register = _noticing(faulthandler.register, number)
    faulthandler.unregister = _noticing(faulthandler.unregister, number)


def _noticing(function: Callable[..., Any], number: int) -> Any:
    if getattr(function, "_plet_notices", False):
        return function

    def noticing(*args: Any, **kwargs: Any) -> Any:
        if (args[0] if args else kwargs.get("signum")) == number:
            withdraw()
        return function(*args, **kwargs)

    noticing._plet_notices = True  # type: ignore[attr-defined]
    return noticing
