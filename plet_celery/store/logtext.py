"""Head and tail of an attempt's log, as the store keeps them: compressed chunks at fixed places.

A line belongs to the chunk that its byte offset in the text says, so what is kept depends on which
lines there are, never on the order in which they came. Each writer of an attempt (a forked child has
its own) is a stream; the streams share the budget.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from plet_celery.events import Event
from plet_celery.store.merge import integer

CHUNK_BYTES: Final = 16 << 10
"""Small enough to be compressed anew for a few lines, large enough to compress to a fifth."""
STREAMS_MAX: Final = 64
"""Streams of an attempt that keep text: a task that forks a thousand loggers stays bounded."""
_LEVEL: Final = 1
_COUNT_MAX: Final = 1 << 53


class Line(msgspec.Struct, array_like=True, omit_defaults=True):
    """A line as a chunk holds it; (segment, offset) is its identity within the stream."""

    segment: int
    offset: int
    line: int
    at: float
    level: int
    logger: str | None
    stream: str
    text: str
    stage: int | None = None
    part: tuple[int, int] | None = None
    cut: int | None = None
    context: dict[str, Any] | None = None


_decoder: Final = msgspec.json.Decoder(list[Line])


def place_of(event: Event) -> tuple[int, int, int]:
    """Return (chunk, number of the line, end of its text in bytes) of a `log.written`."""
    data = event.data
    start = _count(data.get("o"))
    text = data.get("text")
    size = 0
    if isinstance(text, str):
        size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return start // CHUNK_BYTES, _count(data.get("i")), start + size


def is_kept(chunk: int, end_bytes: int, *, head: int, tail: int) -> bool:
    """Return whether a chunk lies in the head or the tail of a text of `end_bytes`.

    As the text and the number of streams grow this only ever turns from True to False.
    """
    start = chunk * CHUNK_BYTES
    return start < head or (tail > 0 and start + CHUNK_BYTES > end_bytes - tail)


def line_of(event: Event) -> Line:
    """Return the line that an event tells."""
    data = event.data
    part = data.get("part")
    context = data.get("context")
    text = data.get("text")
    logger = data.get("logger")
    stream = data.get("stream")
    return Line(
        event.segment,
        event.offset,
        _count(data.get("i")),
        event.wall,
        integer(data.get("level")) or 0,
        logger if isinstance(logger, str) else None,
        stream if isinstance(stream, str) else "log",
        text if isinstance(text, str) else "",
        integer(data.get("stage")),
        _pair(part),
        integer(data.get("cut")),
        context if isinstance(context, dict) else None,
    )


def unpack(packed: bytes) -> list[Line]:
    """Return the lines of a chunk, in the order of the writer."""
    return _decoder.decode(zlib.decompress(packed))


def pack(lines: Sequence[Line]) -> bytes:
    """Return a chunk of lines."""
    return zlib.compress(msgspec.json.encode(lines), _LEVEL)


def joined(known: Iterable[Line], new: Iterable[Line]) -> list[Line]:
    """Return the lines of both, each once, in the order of the writer."""
    found = {(line.segment, line.offset): line for line in known}
    found.update({(line.segment, line.offset): line for line in new})
    return [found[place] for place in sorted(found)]


def _count(value: Any) -> int:
    return min(max(0, integer(value) or 0), _COUNT_MAX)


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(type(part) is int for part in value):
        return (value[0], value[1])
    return None
