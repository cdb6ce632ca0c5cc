"""One message to one channel, within its time, whatever the channel does."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from typing import Final

from plet_celery.alertsignals import AlertMessage
from plet_celery.monitor.channels.channel import Channel, Undelivered
from plet_celery.monitor.routing import Channels
from plet_celery.terminal.text import printable, shorten

_STATUS_WORDS: Final = 200


def sent(
    channel: Channel, message: AlertMessage, channels: Channels, now: float, *, seconds: float | None = None
) -> tuple[bool, str]:
    """Send a message; return whether it was taken, and the words for that.

    Args:
        seconds: how long to wait for it at most; None: the channel's time-out.
    """
    ok, status = bounded(lambda: channel.send(message, now=now), min(channel.timeout, seconds or math.inf))
    return ok, shorten(printable(channels.redactor.text(status)), _STATUS_WORDS)


def bounded(send: Callable[[], str], seconds: float) -> tuple[bool, str]:
    """Run `send` in a thread of its own, and leave it there if it does not end in time.

    It may be a user's function, a name server, a library with time-outs of its own: none of them may
    keep a pass from its end.

    Returns:
        Whether it returned, and what; or the words of what it raised.
    """
    found: list[tuple[bool, str]] = []

    def run() -> None:
        try:
            found.append((True, send()))
        except Undelivered as error:
            found.append((False, str(error)))
        # A SystemExit of a user's function ends this thread without a word, too.
        except BaseException as error:
            found.append((False, f"{type(error).__name__}: {_words(error)}"))

    thread = threading.Thread(target=run, name="plet-channel", daemon=True)
    thread.start()
    # The web request ends by itself just then, and says better why.
    thread.join(seconds + 1)
    with contextlib.suppress(IndexError):
        return found[0]
    return False, f"not done within {seconds:g} s"


def _words(error: BaseException) -> str:
    try:
        return str(error)
    # A user's class may fail at that, too, also by a SystemExit; no interrupt comes into this thread.
    except BaseException as another:
        return type(another).__name__
