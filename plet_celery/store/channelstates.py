"""How each channel does: failures in a row, since when, and whether it is disabled. One row a channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from plet_celery.store.schema import Tables
from plet_celery.store.store import Store


@dataclass(frozen=True, kw_only=True)
class ChannelDoc:
    """What else is known of a channel, kept as JSON in its row."""

    kind: str = ""
    target: str = ""
    """Where it goes, for people: never a secret."""
    status: str = ""
    """What the last try came to."""
    tried_at: float | None = None
    next_at: float = 0.0
    """Nothing is sent before, as it failed."""


@dataclass(frozen=True, kw_only=True)
class ChannelState:
    """One row. Times are seconds since the epoch."""

    name: str
    failures: int = 0
    """In a row."""
    failing_since: float | None = None
    succeeded_at: float | None = None
    disabled_at: float | None = None
    """Since then nothing is sent, until a test succeeds."""
    doc: ChannelDoc = field(default_factory=ChannelDoc)


def states(store: Store) -> dict[str, ChannelState]:
    """Return how every channel does that was ever used, by name."""
    table = store.tables.watching.channel
    with store.reading() as connection:
        found = [_state(row) for row in connection.execute(sa.select(table)).mappings()]
    return {one.name: one for one in found}


def change(
    connection: Connection, tables: Tables, name: str, step: Callable[[ChannelState], ChannelState]
) -> ChannelState:
    """Write what becomes of a channel, in the transaction that says why; return it.

    Args:
        step: of the row as it is, locked, what it is from now on.
    """
    table = tables.watching.channel
    query = sa.select(table).where(table.c.name == name).with_for_update()
    row = connection.execute(query).mappings().first()
    if row is None:
        after = step(ChannelState(name=name))
        try:
            with connection.begin_nested():
                connection.execute(table.insert().values(_values(after)))
            return after
        except IntegrityError:
            # Somebody tests the channel at the same moment.
            row = connection.execute(query).mappings().one()
    after = step(_state(row))
    connection.execute(table.update().where(table.c.name == name).values(_values(after)))
    return after


def forget(store: Store, names: Iterable[str]) -> None:
    """Delete what is known of channels."""
    table = store.tables.watching.channel
    with store.writing() as connection:
        connection.execute(table.delete().where(table.c.name.in_(sorted(names))))


_decoder: Final = msgspec.json.Decoder(ChannelDoc)


def _state(row: RowMapping) -> ChannelState:
    values = {
        name: row[name] for name in ("name", "failures", "failing_since", "succeeded_at", "disabled_at")
    }
    try:
        return ChannelState(**values, doc=_decoder.decode(row["doc"]))
    except msgspec.DecodeError:  # of another version; the next try writes it anew
        return ChannelState(**values)


def _values(state: ChannelState) -> dict[str, Any]:
    return {
        "name": state.name,
        "failures": state.failures,
        "failing_since": state.failing_since,
        "succeeded_at": state.succeeded_at,
        "disabled_at": state.disabled_at,
        "doc": msgspec.json.encode(state.doc).decode(),
    }
