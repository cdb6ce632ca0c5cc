"""Log lines of a run on their way to the journal: level, rate, redaction, parts."""

from __future__ import annotations

import itertools
import logging
import time
from typing import Any, Final, Protocol

from plet_celery import events
from plet_celery.redaction import Redactor, safe_repr

# A longer line becomes numbered parts of one record each; what lies beyond the last part is cut.
PART_MAX: Final = events.STRING_MAX
LINE_MAX: Final = 64 << 10


class _Emitter(Protocol):
    def emit(self, kind: str, data: dict[str, Any]) -> bool: ...

    def plain(self, value: Any) -> Any: ...


class _Dropper(Protocol):
    def drop(self, reason: str, count: int = 1) -> None: ...


class _Limits(Protocol):
    @property
    def log_rate(self) -> float: ...

    @property
    def log_burst(self) -> int: ...


class RunLogger:
    """Writes the lines of one attempt, numbered from 1, at most `log_rate` a second above a burst."""

    def __init__(self, run: _Emitter, writer: _Dropper, redactor: Redactor, limits: _Limits) -> None:
        self._run = run
        self._writer = writer
        self._redactor = redactor
        self._rate = limits.log_rate
        self._burst = float(limits.log_burst)
        self._tokens = self._burst
        self._refilled = time.monotonic()
        self._dropped = 0
        self._numbers = itertools.count(1)
        self._bytes = 0

    def write(
        self,
        level: int,
        text: str,
        *,
        logger: str,
        stream: str,
        stage: int | None,
        context: dict[str, Any] | None,
    ) -> None:
        """Write one line, in parts where it is long."""
        if not self._may_write():
            self._dropped += 1
            self._writer.drop("rate_limit")
            return
        if self._dropped:
            self.tell_dropped()
        cut = 0
        if len(text) > LINE_MAX:
            kept = LINE_MAX - len(events.CUT)
            # The mark tells the redactor that a secret before it may be cut in two.
            text, cut = text[:kept] + events.CUT, len(text) - kept
        text = self._redactor.text(text)
        data: dict[str, Any] = {"level": level, "logger": logger, "stream": stream}
        if stage is not None:
            data["stage"] = stage
        if context:
            data["context"] = self._run.plain(context)
        if cut:
            data["cut"] = cut
        if len(text) <= PART_MAX:
            self._emit(data, text)
            return
        parts = [text[at : at + PART_MAX] for at in range(0, len(text), PART_MAX)]
        for number, part in enumerate(parts, 1):
            self._emit(data | {"part": [number, len(parts)]}, part)

    def tell_dropped(self) -> None:
        """Write how many lines the rate limit took, as a line of its own."""
        count, self._dropped = self._dropped, 0
        if count:
            text = f"— {count:,} lines dropped by the rate limit —".replace(",", " ")
            self._emit({"level": logging.WARNING, "logger": "plet_celery", "stream": "task"}, text)

    def forked(self) -> None:
        """Count lines anew: a line's number is unique within its writer."""
        self._numbers = itertools.count(1)

    def _emit(self, data: dict[str, Any], text: str) -> None:
        text = events.safe_text(text)
        offset = self._bytes
        self._bytes = offset + (len(text) if text.isascii() else len(text.encode()))
        self._run.emit(events.LOG_WRITTEN, data | {"text": text, "i": next(self._numbers), "o": offset})

    def _may_write(self) -> bool:
        if self._tokens < 1.0:
            now = time.monotonic()
            self._tokens = min(self._burst, self._tokens + (now - self._refilled) * self._rate)
            self._refilled = now
            if self._tokens < 1.0:
                return False
        self._tokens -= 1.0
        return True


def level_number(level: int | str) -> int:
    """Return a level as `logging` counts them; an unknown name is INFO."""
    if type(level) is int:
        return level
    number = logging.getLevelName(str(level).upper()) if isinstance(level, str) else safe_repr(level)
    return number if type(number) is int else logging.INFO
