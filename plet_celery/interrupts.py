"""Telling our own errors from exceptions that strike while our code runs.

A signal handler may raise anything anywhere: a user's alarm raises TimeoutError, which is an OSError.
"""

from __future__ import annotations

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
