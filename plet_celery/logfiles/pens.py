"""Writes the log lines of one attempt: the hot path, so what lines share is worked out once.

A pen lives for one batch. The ordinary line (no context, no part of a longer one) takes the short
way; `trace.log_line` and this agree on the fields, not on their order.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from plet_celery.events import Event
from plet_celery.logfiles import index, text, trace
from plet_celery.logfiles.growing import Files, Growing
from plet_celery.logfiles.state import Attempt, Run
from plet_celery.logfiles.text import Clock
from plet_celery.logfiles.volumes import Mark, Volumes

# A line number far beyond the last one is damage, not a count of lines that were dropped.
_JUMP_MAX: Final = 1_000_000
_LOGGER_MAX: Final = 200
_KINDS_MAX: Final = 1024

_encode = msgspec.json.Encoder().encode


class Kind(NamedTuple):
    """What lines of one level, logger, stream and stage share."""

    head: str
    """`[INFO] [shop.load#2]`."""
    level: int
    stage: int
    code: int
    level_name: str
    trace: bytes
    """The trace's fields that it fixes."""


class Pen:
    """Writes lines of one attempt into the batch under way.

    Args:
        file: the run's `trace.jsonl`; None while the log is made again from it.
        kinds: a cache shared by all pens.
    """

    def __init__(
        self,
        run: Run,
        attempt: Attempt,
        volumes: Volumes,
        files: Files,
        file: Growing | None,
        clock: Clock,
        kinds: dict[Any, Kind],
        trace_max: int,
    ) -> None:
        self.run = run
        self.attempt = attempt
        self._volumes = volumes
        self._files = files
        self._file = file
        self._clock = clock
        self._kinds = kinds
        self._trace_max = trace_max
        self._shared = trace.shared_fields(run.id, attempt.id, attempt.number, attempt.facts)

    def write(self, event: Event) -> None:
        """Append the record, its index entry and its trace line."""
        attempt, data = self.attempt, event.data
        stamp, micros = self._clock.at(event.wall)
        level, logger, stream = data.get("level"), data.get("logger"), data.get("stream")
        key = (level, logger, stream, data.get("stage"))
        kind = self._kinds.get(key) or self._kind(key)
        words, context, given = data.get("text"), data.get("context"), data.get("i")
        if type(words) is not str:
            words = "" if words is None else str(words)
        line = attempt.line + 1
        if type(given) is int and line < given <= line + _JUMP_MAX:
            line = given
        attempt.line = line
        part = _part(data["part"]) if "part" in data else None
        head = kind.head if part is None else _with_part(kind, logger, stream, part)
        raw = text.record(stamp, head, words, context)
        self._volumes.append(
            self.run, attempt, raw, Mark(micros, kind.level, kind.stage, kind.code, index.NUMBERED)
        )
        if kind.stage and kind.stage in attempt.stages:
            attempt.stages[kind.stage].lines += 1
        if self._file is None:
            return
        if attempt.untraced:
            attempt.untraced += 1
            return
        ordinary = context is None and type(given) is int and "part" not in data and "cut" not in data
        told = self._ordinary(event, stamp, kind, words) if ordinary else None
        if told is None:
            told = trace.log_line(event, stamp, attempt.number, attempt.facts)
        self._trace(self._file, told)

    def _ordinary(self, event: Event, stamp: str, kind: Kind, words: str) -> bytes | None:
        data = event.data
        try:
            message = _encode(words)
        except UnicodeEncodeError:
            return None
        start = f'{{"@timestamp":"{stamp}","log.level":"{kind.level_name}","message":'
        place = (
            f',"ecs.version":"{trace.ECS_VERSION}","event.action":"log.written",'
            f'"event.id":"{event.writer}:{event.segment}:{event.offset}","plet.line":{data["i"]}'
        )
        offset = data.get("o")
        if type(offset) is int:
            place += f',"plet.offset":{offset}'
        message = trace.harmless(message)
        return b"".join((start.encode(), message, place.encode(), kind.trace, self._shared))

    def _trace(self, file: Growing, raw: bytes) -> None:
        attempt = self.attempt
        if attempt.trace + len(raw) > self._trace_max:
            attempt.untraced += 1
            return
        file.pending += raw
        attempt.trace += len(raw)
        self.run.trace += len(raw)
        if len(file.pending) > _SPILL_LOOK:
            self._files.spill(file)

    def _kind(self, key: tuple[Any, ...]) -> Kind:
        level, stage = small(key[0], 20, 255), small(key[3], 0, 65_535)
        logger, stream = str(key[1] or ""), str(key[2] or "log")
        name = text.level_name(level)
        kind = Kind(
            f"[{name}] [{text.component(stream, logger[:_LOGGER_MAX], stage)}]",
            level,
            stage,
            index.STREAM_CODES.get(stream, index.OTHER_STREAM),
            name,
            trace.kind_fields(logger, stage, stream),
        )
        if len(self._kinds) >= _KINDS_MAX:
            self._kinds.clear()
        self._kinds[key] = kind
        return kind


_SPILL_LOOK: Final = 1 << 20


def small(value: Any, default: int, most: int) -> int:
    """Return a count within 0..most; the default for anything that is no int."""
    return max(0, min(most, value)) if type(value) is int else default


def _part(value: Any) -> tuple[int, int] | None:
    if isinstance(value, list | tuple) and len(value) == 2 and type(value[0]) is type(value[1]) is int:
        return small(value[0], 0, 999_999_999), small(value[1], 0, 999_999_999)
    return None


def _with_part(kind: Kind, logger: Any, stream: Any, part: tuple[int, int]) -> str:
    named = text.component(str(stream or "log"), str(logger or "")[:_LOGGER_MAX], kind.stage, part)
    return f"[{kind.level_name}] [{named}]"
