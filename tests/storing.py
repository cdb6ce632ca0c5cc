"""A store for tests: made fast, filled by journal, compared table by table."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from services import new_database

from plet_celery.events import Event
from plet_celery.store import IngestLimits, Lease, Store, open_store

# What says when and how often, not what: it differs between two ways to the same rows.
_VOLATILE = {
    "run": {"journal_id", "change_seq", "version"},
    "journal": {"epoch", "taken_at", "touched_at", "change_seq", "skew"},
    "info": {"value"},
}
# When the lease was touched: it differs whenever anything is written.
_TOUCHES = {"journal": {"taken_at", "touched_at", "skew"}}
_template: list[Path] = []


def url_of(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return f"sqlite:///{path}"


def new_store(folder: Path, name: str = "plet.db") -> Store:
    """Return a store with its tables; they are migrated once per test process and copied."""
    if not _template:
        made = Path(tempfile.mkdtemp(prefix="plet-test-")) / "empty.db"
        store = open_store(url_of(made))
        store.ensure_schema()
        store.close()
        _template.append(made)
    shutil.copy(_template[0], folder / name)
    store = open_store(url_of(folder / name))

    @sa.event.listens_for(store.engine, "connect")
    def hurry(connection: Any, record: Any) -> None:
        # These files need not survive a power cut.
        connection.execute("PRAGMA synchronous=OFF")

    return store


def store_on(engine: str, folder: Path, name: str = "plet") -> Store:
    """Return an empty store on `sqlite`, `postgresql` or `mariadb`.

    On a server it is made once per test process and `name`, emptied for the next one, and dropped by
    `drop_stores`: it may stay open.
    """
    if engine == "sqlite":
        return new_store(folder, f"{name}.db")
    known = _on_servers.get((engine, name))
    if known is None:
        known = open_store(_databases.enter_context(new_database(engine)))
        _databases.callback(known.close)
        if engine == "postgresql":
            sa.event.listen(known.engine, "connect", _hurry_postgres)
        known.ensure_schema()
        _on_servers[engine, name] = known
        return known
    return emptied(known)


def drop_stores() -> None:
    """Drop the databases that `store_on` has made."""
    _on_servers.clear()
    _databases.close()


_on_servers: dict[tuple[str, str], Store] = {}
_databases = contextlib.ExitStack()


def _hurry_postgres(connection: Any, record: Any) -> None:
    # These rows need not survive a crash of the server.
    connection.autocommit = True
    connection.execute("SET synchronous_commit = off")
    connection.autocommit = False


def emptied(store: Store) -> Store:
    """Return the store without any rows: faster than a new one, whose statements are compiled anew."""
    with store.engine.connect().execution_options(plet_writes=True) as connection, connection.begin():
        for table in store.tables.metadata.tables.values():
            if bare_name(table) != "info":
                connection.execute(table.delete())
    store._writer = type(store._writer)(store.tables)  # it remembers names that have a row
    return store


def examples(store: Store, count: int) -> settings:
    """Return the settings of a property of stores: as many examples on a file, fewer on a server.

    There an example takes ten times as long, and what engines do differently shows in few.
    """
    return settings(
        max_examples=count if store.url.get_backend_name() == "sqlite" else max(10, count // 8),
        deadline=None,
        # Explaining a failure traces every line, which takes minutes here.
        phases=[phase for phase in Phase if phase is not Phase.explain],
        suppress_health_check=list(HealthCheck),
    )


class Shipper:
    """What a journal's shipper does with a store."""

    def __init__(self, store: Store, limits: IngestLimits | None = None) -> None:
        self.store = store
        self.limits = limits or IngestLimits()
        self._leases: dict[str, Lease] = {}

    def lease(self, journal: str) -> Lease:
        """Return the lease of a journal, taken once."""
        if journal not in self._leases:
            self._leases[journal] = self.store.take_lease(
                journal, host="a", machine="m", boot="b", pid=1, now=0.0
            )
        return self._leases[journal]

    def ship(self, told: Iterable[tuple[str, Event]]) -> int:
        """Ingest a batch, journal by journal; return how many events were refused."""
        by_journal: dict[str, list[Event]] = {}
        for journal, event in told:
            by_journal.setdefault(journal, []).append(event)
        refused = 0
        for journal, found in by_journal.items():
            result = self.store.ingest(
                self.lease(journal), found, positions_of(found), limits=self.limits, now=2e9
            )
            refused += result.dead_letters
        return refused


def positions_of(found: Sequence[Event]) -> dict[str, tuple[int, int]]:
    """Return the positions behind the newest event of each writer."""
    positions: dict[str, tuple[int, int]] = {}
    for event in found:
        behind = (event.segment, event.offset + 100)
        positions[event.writer] = max(positions.get(event.writer, behind), behind)
    return positions


def rows_of(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables, without what says when and how often they were written."""
    return _rows(store, _VOLATILE)


def dump(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables, but for when the lease was touched."""
    return _rows(store, _TOUCHES)


def bare_name(table: sa.Table) -> str:
    """Return a table's name without the prefix that it has on MariaDB."""
    return table.name.removeprefix("plet_")


def _rows(store: Store, without: dict[str, set[str]]) -> dict[str, list[tuple[Any, ...]]]:
    found = {}
    with store.reading() as connection:
        for table in store.tables.metadata.sorted_tables:
            skipped = without.get(bare_name(table), set())
            columns = [column for column in table.columns if column.name not in skipped]
            rows = connection.execute(sa.select(*columns).order_by(*table.primary_key))
            found[bare_name(table)] = [tuple(row) for row in rows]
    return found
