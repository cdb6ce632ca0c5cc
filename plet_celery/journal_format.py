"""The bytes of a journal file: its name, the framing of a record, the checksum.

A record is one element of a JSON text sequence (RFC 7464), `jq --seq` reads it:

    0x1E {"c":"9f1c22ab","l":183,"v":1,"k":"stage.started","n":41,…} 0x0A

`l` is the length of all of it in bytes. `c` is the CRC-32 of everything between the comma behind `c`'s
value and the closing brace, both exclusive, started with `<writer>.<segment>`: a record copied from
another file never validates. 0x1E cannot occur inside JSON text, so a reader that lost its way goes on
at the next one. The whole format is in docs/journal-format.md.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from plet_celery.events import CUT, FORMAT, RECORD_MAX, plain, safe_text

MARK: Final = b"\x1e"
END: Final = b"}\n"
HEAD: Final = b'{"c":"'
"""What follows the mark; then 8 hex digits, `",` and the part that the checksum covers."""
BODY_AT: Final = len(HEAD) + 10
"""Where the covered part starts, counted behind the mark."""

# What frame() adds to the core: mark, head, checksum, quote and comma, `"l":`, comma, newline.
_FRAME_SIZE: Final = 22
# `c`, `l` and `x` are added to a core after it was fitted; `x` has at most 16 short reasons.
CORE_MAX: Final = RECORD_MAX - 1024
# An id longer than this is replaced by its start and a hash, so that two of them stay two.
_ID_MAX: Final = 12 << 10

_NAME = re.compile(r"w-([0-9a-f]{32})\.([0-9]{8})\.plj")


class Record(msgspec.Struct, omit_defaults=True):
    """A record as it is written; the keys are those of docs/events.md."""

    v: int
    k: str
    n: int
    t: float
    m: float
    r: str | None = None
    a: str | None = None
    d: Mapping[str, Any] | None = None


class StoredRecord(msgspec.Struct):
    """A record as it is read: keys that this version does not know are left out."""

    l: int  # noqa: E741 - the wire's name
    v: int
    k: str
    n: int
    t: float
    m: float
    r: str | None = None
    a: str | None = None
    d: dict[str, Any] = {}  # msgspec copies it for each record
    x: dict[str, int] | None = None


class Header(msgspec.Struct, frozen=True):
    """What the first record of a segment says about its writer."""

    plet: str = ""
    settings: str = ""
    """Fingerprint of the writer's settings."""
    journal: str = ""
    host: str = ""
    boot: str = ""
    pid: int = 0
    started: float = 0.0
    """Wall time at which the writer's process was made."""
    role: str = ""
    """`child`, `worker`, `shipper`, `producer` or `eager`."""
    parent: str | None = None
    """Writer id of the process that forked this one."""


class _Versioned(msgspec.Struct):
    v: int


encode = msgspec.json.Encoder().encode
_decode_record = msgspec.json.Decoder(StoredRecord).decode


def segment_name(writer: str, number: int) -> str:
    """Return the file name of a writer's segment."""
    return f"w-{writer}.{number:08d}.plj"


def parse_segment_name(name: str) -> tuple[str, int] | None:
    """Return (writer, number) of a segment's file name, or None for any other name."""
    found = _NAME.fullmatch(name)
    return (found[1], int(found[2])) if found else None


def salt_of(writer: str, number: int) -> int:
    """Return the value with which the checksums of one segment start."""
    return zlib.crc32(b"%s.%08d" % (writer.encode(), number))


def frame(core: bytes, salt: int) -> bytes:
    """Return a whole record.

    Args:
        core: the JSON object `{"v":1,…}` without `c` and `l`.
    """
    length = len(core) + _FRAME_SIZE
    length += 3 if 97 < length < 997 else _digits(length)
    body = b'"l":%d,%b' % (length, core[1:-1])
    return b'\x1e{"c":"%08x",%b}\n' % (zlib.crc32(body, salt), body)


def _digits(length: int) -> int:
    return len(str(length + len(str(length))))


def with_drops(core: bytes, drops: Mapping[str, int]) -> bytes:
    """Return the core with `x`, the events that were dropped since the last record."""
    return b'%b,"x":%b}' % (core[:-1], encode(drops))


def unframe(element: bytes, salt: int) -> StoredRecord | str:
    """Return the record between two marks, or the reason why it is none.

    Args:
        element: everything behind one mark, up to and without the next one.
    """
    if not element.endswith(END) or not element.startswith(HEAD):
        return "torn"
    if element[len(HEAD) : BODY_AT] != b'%08x",' % zlib.crc32(element[BODY_AT:-2], salt):
        return "checksum"
    try:
        record = _decode_record(element)
    except (msgspec.MsgspecError, RecursionError):
        return "content"
    if record.l != len(element) + 1:
        return "length"
    return record if record.v == FORMAT else "version"


def version_of(element: bytes, salt: int) -> int | None:
    """Return a valid record's format version, whatever else that version changed; None if damaged."""
    if element[len(HEAD) : BODY_AT] != b'%08x",' % zlib.crc32(element[BODY_AT:-2], salt):
        return None
    try:
        return msgspec.json.decode(element, type=_Versioned).v
    except (msgspec.MsgspecError, RecursionError):
        return None


def safe_core(
    kind: str, number: int, wall: float, mono: float, run: str | None, attempt: str | None, data: Any
) -> bytes:
    """Return the core of an event whatever it carries: what is no JSON is replaced, what is too long is cut.

    The way for what plain encoding refuses (lone surrogates, foreign objects, cycles), for NUL, and for
    records that are too large. Nothing of the user's is called.
    """
    record = Record(FORMAT, safe_text(str(kind), 128), number, wall, mono, _safe_id(run), _safe_id(attempt))
    room = CORE_MAX - len(encode(record)) - len(b',"d":')
    fitted = _fit(plain(dict(data or {}), _type_name), room)
    return encode(msgspec.structs.replace(record, d=fitted or None))


def _type_name(value: object) -> str:
    return f"<{type(value).__name__}>"


def _safe_id(value: object) -> str | None:
    if value is None:
        return None
    text = safe_text(str(value) if isinstance(value, str | int) else _type_name(value), 1 << 30)
    if len(encode(text)) <= _ID_MAX:
        return text
    return f"{text[:256]}…{hashlib.sha256(text.encode()).hexdigest()}"


def _fit(data: dict[str, Any], room: int) -> dict[str, Any]:
    """Return `data` with its largest values cut, each marked, until its JSON has at most `room` bytes."""
    sizes = {key: len(encode(key)) + len(encode(value)) + 2 for key, value in data.items()}
    while sum(sizes.values()) + 2 > room:
        key = max(sizes, key=lambda name: sizes[name])
        over = sum(sizes.values()) + 2 - room
        cut = _cut(data[key], sizes[key] - over)
        size = len(encode(key)) + len(encode(cut)) + 2
        if size >= sizes[key]:
            # Even its name and the mark are too much: hundreds of long names, none worth more than another.
            del data[key], sizes[key]
            data[CUT], sizes[CUT] = "fields", 32
        else:
            data[key], sizes[key] = cut, size
    return data


def _cut(value: Any, size: int) -> str:
    text = value if isinstance(value, str) else encode(value).decode()
    keep = min(len(text) - 1, max(0, size))
    while keep and len(encode(text[:keep])) > size:
        keep = keep * 3 // 4
    return text[:keep] + CUT
