"""Telling our own errors from exceptions that strike while our code runs, and keeping a signal from striking.

A signal handler may raise anything anywhere: a user's alarm raises TimeoutError, which is an OSError.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

# Where the system calls of our code are made: in our modules, or in pathlib for them.
_OURS = ("plet_celery.", "pathlib")


def from_system(error: OSError) -> bool:
    """Say whether a system call that our code made answered this.

    Not so for what a signal handler raised meanwhile (its frame is the innermost one), or what
    another thread set (it carries no error number): such exceptions must be let through.
    """
    trace = error.__traceback__
    if error.errno is None or trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    return str(trace.tb_frame.f_globals.get("__name__", "")).startswith(_OURS)


@contextlib.contextmanager
def passed_over(number: int) -> Iterator[None]:
    """Let a signal do nothing meanwhile; in another thread than the main one it stays as it is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A handler, not SIG_IGN: a program that another thread starts now would inherit that.
    handler = signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(number, handler or signal.SIG_DFL)
