"""The line index (`run.idx`): one fixed-size entry per record of `run.log`, in the same order.

An entry names the record's place in the text, so a reader finds a line, a level or a stage without
reading the text. Layout, little endian, 32 bytes:

    offset u64 | at f64 | number u32 | length u32 | attempt u16 | stage u16 | level u8 | stream u8 | flags u16

`number` is the line's number in its attempt; a note of ours has the number of the line before it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

SIZE: Final = 32
_LAYOUT: Final = struct.Struct("<QdIIHHBBH")
LEVEL_AT: Final = 28
STREAM_AT: Final = 29
STAGE_AT: Final = 26
FLAGS_AT: Final = 30

VALID: Final = 1
"""Set in every entry: a hole of zeros is no entry."""
NUMBERED: Final = 2
"""A line of the task; a note of ours (attempt starts, stage ends, a gap) has no number of its own."""
MIXED: Final = 4
"""This entry or an earlier one belongs to an attempt older than one before it: no longer sorted."""
GAP: Final = 8
"""A note that says that something is missing or that an attempt starts."""

STREAMS: Final = ("log", "stdout", "stderr", "warning", "task", "plet")
OTHER_STREAM: Final = len(STREAMS)
STREAM_CODES: Final = {name: code for code, name in enumerate(STREAMS)}

PLET: Final = STREAM_CODES["plet"]
"""Our own words: starts, ends, stages, gaps."""

_ODD: Final = bytes(value & VALID for value in range(256))

pack = _LAYOUT.pack


class Entry(NamedTuple):
    """Where one record lies and what a filter needs to know of it."""

    offset: int
    at: float
    number: int
    length: int
    attempt: int
    stage: int
    level: int
    stream: int
    flags: int

    @property
    def is_numbered(self) -> bool:
        """The record is a line of the task, not a note of ours."""
        return bool(self.flags & NUMBERED)

    @property
    def is_mixed(self) -> bool:
        """Attempts overlap here or earlier; see MIXED."""
        return bool(self.flags & MIXED)

    @property
    def end(self) -> int:
        """Offset of the byte after the record."""
        return self.offset + self.length


def unpack(block: bytes, at: int = 0) -> Entry:
    """Return the entry whose bytes start at `at`."""
    return Entry._make(_LAYOUT.unpack_from(block, at))


def entries(block: bytes) -> Iterator[Entry]:
    """Yield the whole entries of `block`, oldest first."""
    return map(Entry._make, _LAYOUT.iter_unpack(block[: len(block) // SIZE * SIZE]))


def are_valid(block: bytes) -> bool:
    """Tell whether every entry of `block` was written as one."""
    return b"\0" not in block[FLAGS_AT::SIZE].translate(_ODD)


def is_sound(entry: Entry, log_size: int) -> bool:
    """Tell whether the entry can be true of a text of `log_size` bytes."""
    return bool(entry.flags & VALID) and entry.length > 0 and entry.end <= log_size
