"""`trace.jsonl`: every event of a run as one JSON object per line, with ECS names.

Filebeat and other shippers of the Elastic Common Schema read it as it is. What ECS has no name for
is under `plet.*`; a log's text is in `message`, so that a line can be turned back into its event.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from plet_celery.events import LOG_WRITTEN, Event
from plet_celery.logfiles.text import level_name, level_number, parse_stamp, without_surrogates

ECS_VERSION: Final = "8.17"
CAPPED: Final = "trace.capped"
"""`event.action` of a line of ours that is no event."""

# JSON escapes C0 itself; these reach a terminal or split a line in readers other than JSON's.
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


class Facts(msgspec.Struct, array_like=True, gc=False):
    """What every line of one attempt repeats."""

    task: str | None = None
    tenant: str | None = None
    canvas: str | None = None
    host: str | None = None
    worker: str | None = None
    pid: int | None = None


NO_FACTS: Final = Facts()


class TraceLine(
    msgspec.Struct,
    omit_defaults=True,
    gc=False,
    rename={
        "timestamp": "@timestamp",
        "level": "log.level",
        "ecs": "ecs.version",
        "action": "event.action",
        "id": "event.id",
        "dataset": "event.dataset",
        "logger": "log.logger",
        "trace": "trace.id",
        "transaction": "transaction.id",
        "pid": "process.pid",
        "host": "host.name",
        "error_type": "error.type",
        "error_message": "error.message",
        "error_stack": "error.stack_trace",
        "run": "labels.run",
        "attempt": "labels.attempt",
        "task": "labels.task",
        "tenant": "labels.tenant",
        "worker": "labels.worker",
        "stage": "labels.stage",
        "stream": "labels.stream",
        "number": "plet.line",
        "offset": "plet.offset",
        "part": "plet.part",
        "cut": "plet.cut",
        "context": "plet.context",
        "data": "plet.data",
    },
):
    """One line; the field order is the order in the file (ECS wants time, level, message first)."""

    timestamp: str
    level: str
    message: str
    ecs: str
    action: str
    id: str
    run: str | None
    trace: str | None
    transaction: str | None = None
    attempt: int | None = None
    logger: str | None = None
    pid: int | None = None
    host: str | None = None
    task: str | None = None
    tenant: str | None = None
    worker: str | None = None
    stage: int | None = None
    stream: str | None = None
    number: int | None = None
    offset: int | None = None
    part: Any = None
    cut: int | None = None
    context: Any = None
    error_type: str | None = None
    error_message: str | None = None
    error_stack: str | None = None
    data: Any = None
    dataset: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(TraceLine).decode


def log_line(event: Event, stamp: str, attempt: int | None, facts: Facts) -> bytes:
    """Return the line of a `log.written`."""
    data = event.data
    return _line(
        TraceLine(
            stamp,
            level_name(data.get("level", 20)),
            data.get("text", ""),
            ECS_VERSION,
            LOG_WRITTEN,
            _id(event),
            event.run,
            facts.canvas or event.run,
            event.attempt,
            attempt,
            data.get("logger"),
            facts.pid,
            facts.host,
            facts.task,
            facts.tenant,
            facts.worker,
            data.get("stage"),
            data.get("stream"),
            data.get("i"),
            data.get("o"),
            data.get("part"),
            data.get("cut"),
            data.get("context"),
            dataset="plet",
        )
    )


def fact_line(event: Event, stamp: str, attempt: int | None, facts: Facts, level: int, message: str) -> bytes:
    """Return the line of any other event; the first line of `message` is what a person reads."""
    error = event.data.get("error")
    error = error if isinstance(error, Mapping) else {}
    return _line(
        TraceLine(
            stamp,
            level_name(level),
            message.partition("\n")[0],
            ECS_VERSION,
            event.kind,
            _id(event),
            event.run,
            facts.canvas or event.run,
            event.attempt,
            attempt,
            None,
            facts.pid,
            facts.host,
            facts.task,
            facts.tenant,
            facts.worker,
            error_type=error.get("type"),
            error_message=error.get("message"),
            error_stack=error.get("traceback"),
            data=event.data or None,
            dataset="plet",
        )
    )


def shared_fields(run: str, attempt: str | None, number: int, facts: Facts) -> bytes:
    """Return the end of an ordinary log line: the fields that all lines of an attempt share."""
    return (
        _fields(
            {
                "labels.run": run,
                "trace.id": facts.canvas or run,
                "transaction.id": attempt,
                "labels.attempt": number,
                "process.pid": facts.pid,
                "host.name": facts.host,
                "labels.task": facts.task,
                "labels.tenant": facts.tenant,
                "labels.worker": facts.worker,
                "event.dataset": "plet",
            }
        )
        + b"}\n"
    )


def kind_fields(logger: str, stage: int, stream: str) -> bytes:
    """Return the fields that lines of one logger, stage and stream share."""
    return _fields({"log.logger": logger or None, "labels.stage": stage or None, "labels.stream": stream})


def harmless(raw: bytes) -> bytes:
    """Return JSON in which no character moves a terminal or splits a line (C0 is escaped already)."""
    if raw.isascii() and b"\x7f" not in raw:
        return raw
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", raw.decode()).encode()


def capped_line(stamp: str, left_out: int) -> bytes:
    """Return the last line of an attempt whose trace was full: what it does not have."""
    message = f"{left_out} events left out: the trace of an attempt is kept up to its size limit"
    fields = {"@timestamp": stamp, "log.level": "WARNING", "message": message, "ecs.version": ECS_VERSION}
    return _encode({**fields, "event.action": CAPPED}) + b"\n"


def _fields(values: dict[str, Any]) -> bytes:
    given = {key: value for key, value in values.items() if value is not None}
    try:
        raw = _encode(given)
    except UnicodeEncodeError:
        raw = _encode(without_surrogates(given))
    return b"," + harmless(raw)[1:-1] if given else b""


def read_event(line: bytes) -> Event | None:
    """Return the event that a line tells, without its monotonic time; None when it is no such line."""
    try:
        found = _decode(line)
        writer, segment, offset = found.id.rsplit(":", 2)
        position = int(segment), int(offset)
    except (msgspec.DecodeError, ValueError):
        return None
    return Event(
        kind=found.action,
        wall=parse_stamp(found.timestamp) / 1e6,
        mono=0.0,
        run=found.run,
        attempt=found.transaction,
        data=_log_data(found) if found.action == LOG_WRITTEN else (found.data or {}),
        writer=writer,
        segment=position[0],
        offset=position[1],
    )


def _log_data(found: TraceLine) -> dict[str, Any]:
    data = {
        "level": level_number(found.level),
        "logger": found.logger,
        "stream": found.stream,
        "text": found.message,
        "i": found.number,
        "o": found.offset,
        "stage": found.stage,
        "part": found.part,
        "cut": found.cut,
        "context": found.context,
    }
    return {key: value for key, value in data.items() if value is not None}


def _id(event: Event) -> str:
    return f"{event.writer}:{event.segment}:{event.offset}"


def _line(line: TraceLine) -> bytes:
    try:
        raw = _encode(line)
    except UnicodeEncodeError:
        raw = _encode(without_surrogates(msgspec.to_builtins(line)))
    return harmless(raw) + b"\n"
