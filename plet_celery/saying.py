"""Logging from where a failure to log must cost nothing: a task, an event, the thread that writes events.

A logging filter of the user's runs within every call of a logger, and may expect other records than ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plet_celery.redaction import is_asynchronous


def say(tell: Callable[..., None], message: str, *facts: object, **options: Any) -> None:
    """Log by a logger's method (`say(log.error, "…", fact)`); what fails in it is passed over.

    Raises:
        Exception: what is not of the logging: a signal handler raised it meanwhile.
    """
    try:
        tell(message, *facts, stacklevel=2, **options)
    except Exception as failure:
        if is_asynchronous(failure):
            raise
