"""The merge of a run's metadata: of each key the newest value, removed ones remembered as such."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from plet_celery.events import Event
from plet_celery.store import bulk, merge
from plet_celery.store.below import Below, encoded
from plet_celery.store.columns import META_KEY_MAX, META_VALUE_MAX, fit
from plet_celery.store.load import RunWork
from plet_celery.store.writes import Row

KEYS_MAX: Final = 200
"""Keys of a run; the first by name are kept."""


class Value(msgspec.Struct, array_like=True, omit_defaults=True):
    """One key's newest value; the `doc` of its row."""

    stamp: merge.Stamp
    value: Any = None
    removed: bool = False


decode: Final = msgspec.json.Decoder(Value).decode
"""Reads the `doc` of a row."""

Rows = Mapping[str, Mapping[str, Row]]
"""Stored rows by run and key."""


def stored_rows(below: Below, runs: Iterable[str]) -> Rows:
    """Return the metadata rows of these runs."""
    table = below.tables.run_metadata
    old = [run for run in runs if below.works[run].row is not None]
    found: dict[str, dict[str, Row]] = {}
    for row in bulk.fetch(below.connection, table, [(run,) for run in old]):
        found.setdefault(row[0], {})[row[1]] = row
    return found


def put_metadata(below: Below, work: RunWork, found: Sequence[Event], rows: Mapping[str, Row]) -> None:
    """Merge the `metadata.set` of a batch into a run's rows; its own row is made already."""
    assert work.row is not None
    table = below.tables.run_metadata
    values = {key: decode(row[4]) for key, row in rows.items()}
    for event in found:
        name = event.data.get("key")
        if isinstance(name, str):
            key = fit(name, META_KEY_MAX)
            one = Value(merge.stamp_of(event), event.data.get("value"), "value" not in event.data)
            if key not in values or values[key].stamp < one.stamp:
                values[key] = one
    kept = sorted(values)[:KEYS_MAX]
    below.writes.delete(table, [(work.id, key) for key in rows if key not in kept])
    for key in kept:
        row = (work.id, key, search_text(values[key].value), work.row.created_at, encoded(values[key]))
        below.put(table, row, rows.get(key))


def search_text(value: Any) -> str | None:
    """Return a value as `--meta key=value` compares it: text as it is, else its JSON."""
    if value is None:
        return None
    shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return fit(shown, META_VALUE_MAX)
