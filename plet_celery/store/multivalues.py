"""Many rows in one statement of MariaDB or MySQL, as text: PyMySQL has no other bulk path.

The text is made here rather than by the driver's executemany, for three reasons: a statement must fit
the server's `max_allowed_packet` (else the server hangs up, and the batch would be tried for ever), half
a character is refused here as the other engines refuse it, and it is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Engine

OPTION: Final = "plet_rows"
"""Execution option of a statement whose parameters are rows for its VALUES."""
_STATEMENT_BYTES: Final = 1 << 20
"""Longer statements are no faster."""
_ENVELOPE_BYTES: Final = 1024


class RowTooLarge(ValueError):
    """A row that no statement can carry to this server."""


def prepare(engine: Engine) -> None:
    """Make an engine send statements with the option as text of many rows."""
    sa.event.listen(engine, "do_executemany", _sent)
    sa.event.listen(engine, "do_execute", _sent_alone)


def _sent(cursor: Any, statement: str, rows: Sequence[Sequence[Any]], context: Any) -> bool | None:
    if not context.execution_options.get(OPTION):
        return None
    for text in statements(statement, rows, packet_bytes=cursor.connection.plet_packet_bytes):
        cursor.execute(text)
    return True


def _sent_alone(cursor: Any, statement: str, row: Sequence[Any], context: Any) -> bool | None:
    return _sent(cursor, statement, [row], context)


def statements(sql: str, rows: Sequence[Sequence[Any]], *, packet_bytes: int) -> Iterator[bytes]:
    """Yield `INSERT … VALUES (%s, …) …` with the rows in place of its placeholders.

    Args:
        packet_bytes: the server's `max_allowed_packet`.

    Raises:
        RowTooLarge: a row alone is larger than that.
        UnicodeEncodeError: a text holds half a character.
    """
    start, _, rest = sql.partition(" VALUES (")
    marks, _, end = rest.partition(")")
    head, tail = f"{start} VALUES ".encode(), end.encode()
    most = packet_bytes - _ENVELOPE_BYTES - len(head) - len(tail)
    at_once = min(most, _STATEMENT_BYTES)
    found: list[bytes] = []
    size = 0
    for row in rows:
        text = f"({marks})" % tuple([_LITERALS[type(value)](value) for value in row])
        encoded = text.encode()
        if len(encoded) > most:
            raise RowTooLarge(
                f"a row of {len(encoded)} bytes is more than the server takes; "
                f"max_allowed_packet is {packet_bytes}"
            )
        if found and size + len(encoded) > at_once:
            yield head + b",".join(found) + tail
            found, size = [], 0
        found.append(encoded)
        size += len(encoded) + 1
    if found:
        yield head + b",".join(found) + tail


def _quoted(value: str) -> str:
    # All that ends a string or begins an escape; our sql_mode has no NO_BACKSLASH_ESCAPES. Replacing is ten
    # times as fast as the driver's translation of what a server takes as it is.
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    return "'" + value.replace("'", "''") + "'"


_LITERALS: Final[dict[type, Callable[[Any], str]]] = {
    str: _quoted,
    int: str,
    float: repr,
    bool: lambda value: "1" if value else "0",
    bytes: lambda value: f"x'{value.hex()}'",
    type(None): lambda value: "NULL",
}
