"""The one guard between users' tasks and plet: our failures never become theirs.

Every entry from a task has the shape

    try:
        …
    except PASS_THROUGH:
        raise
    except Exception as error:
        contain(error, "stage.advance")

`PASS_THROUGH` are exceptions that are not ours: they strike anywhere, also while our code runs (a
soft limit is raised by a signal handler), or they are Celery's way to leave a task. BaseExceptions
that are no Exception (SystemExit, KeyboardInterrupt, GeneratorExit, cancellation, GreenletExit)
pass by themselves.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from billiard.exceptions import SoftTimeLimitExceeded, Terminated, TimeLimitExceeded
from celery.exceptions import Ignore, Reject, Retry

from plet_celery.redaction import is_asynchronous
from plet_celery.saying import say

log = logging.getLogger(__name__)

PASS_THROUGH: Final = (SoftTimeLimitExceeded, TimeLimitExceeded, Terminated, Retry, Ignore, Reject)

_contained: Counter[tuple[str, str]] = Counter()


def contain(error: Exception, where: str) -> None:
    """Count an error of ours and log the first of its kind; the task goes on as without plet.

    Raises:
        Exception: `error` itself, when it is not ours: a signal handler of the user's raised it
            (an alarm's TimeoutError) while our code happened to run.
    """
    if is_asynchronous(error):
        raise error
    kind = (where, type(error).__name__)
    _contained[kind] += 1
    if _contained[kind] == 1:
        say(log.warning, "plet failed inside a task and was contained: where=%s", where, exc_info=error)


def contained() -> dict[str, int]:
    """Return how many errors were contained in this process, by `where: type`."""
    return {f"{where}: {name}": count for (where, name), count in _contained.items()}
