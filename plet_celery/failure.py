"""What is kept of an exception: type, message, the traceback as text, and frames that tell own code."""

from __future__ import annotations

import os
import sysconfig
import traceback
from functools import lru_cache
from types import TracebackType
from typing import Any, Final

from plet_celery.redaction import Redactor, is_asynchronous, safe_repr

_FRAMES_MAX: Final = 50
_MESSAGE_MAX: Final = 4096
_TRACEBACK_HEAD, _TRACEBACK_TAIL = 2048, 6000
# What is redacted of a traceback at all: an exception may say a hundred megabytes.
_TEXT_HALF_MAX: Final = 64 << 10

_LIBRARY = tuple(
    {
        sysconfig.get_path(name).rstrip(os.sep) + os.sep
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
        if sysconfig.get_path(name)
    }
)


def describe_error(
    error: BaseException, redactor: Redactor, trace: TracebackType | None = None
) -> dict[str, Any]:
    """Return `error` as an event's `error` field (see docs/events.md), redacted and capped.

    Args:
        trace: the traceback, where the exception itself has lost it.
    """
    frames = _frames(trace or error.__traceback__)
    return {
        "type": type(error).__qualname__,
        "module": type(error).__module__,
        "message": redactor.text(message_of(error)),
        # Cut last: the tail of a secret would not tell that it is one.
        "traceback": _cut(redactor.text(_text(error, trace or error.__traceback__))),
        "frames": frames,
    }


def message_of(error: BaseException) -> str:
    """Return what an exception says, bounded; a `__str__` that fails becomes a placeholder."""
    try:
        text = str(error)
    except BaseException as failure:  # a user's __str__: even a SystemExit in it is not the task's end
        if is_asynchronous(failure):
            raise
        return safe_repr(error, _MESSAGE_MAX)
    return text if len(text) <= _MESSAGE_MAX else text[:_MESSAGE_MAX] + "…[cut]"


def _text(error: BaseException, trace: TracebackType | None) -> str:
    try:
        lines = traceback.TracebackException(
            type(error), error, trace, limit=-_FRAMES_MAX, compact=True
        ).format()
        text = "".join(lines)
    except BaseException as failure:  # formats the user's __str__ and __notes__
        if is_asynchronous(failure):
            raise
        text = "".join(traceback.format_tb(trace, limit=-_FRAMES_MAX)) + safe_repr(error, _MESSAGE_MAX)
    return _cut(text, _TEXT_HALF_MAX, _TEXT_HALF_MAX)


def _cut(text: str, head: int = _TRACEBACK_HEAD, tail: int = _TRACEBACK_TAIL) -> str:
    return text if len(text) <= head + tail else text[:head] + "\n…[cut]\n" + text[-tail:]


def _frames(trace: TracebackType | None) -> list[dict[str, Any]]:
    found = []
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append(
            {
                "file": code.co_filename,
                "line": trace.tb_lineno,
                "function": code.co_qualname,
                "own": _is_own(code.co_filename),
            }
        )
        trace = trace.tb_next
    return found[-_FRAMES_MAX:]


@lru_cache(maxsize=2048)
def _is_own(file: str) -> bool:
    return (
        not file.startswith(("<", *_LIBRARY)) and "site-packages" not in file and "dist-packages" not in file
    )
