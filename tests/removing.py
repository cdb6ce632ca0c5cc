"""Stores, hosts and log folders with runs of every age, for the tests of retention and erasure."""

from __future__ import annotations

import itertools
import time
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from plet_celery import events
from plet_celery.events import Event
from plet_celery.journal_place import open_journal
from plet_celery.logfiles import LogLimits
from plet_celery.logsink import LogFileSink
from plet_celery.mirror import Mirror
from plet_celery.mirror_copies import Origin
from plet_celery.shipper.removal import Remover
from plet_celery.store import IngestLimits, Store

DAY = 86_400.0


class Batch:
    """What a sink takes."""

    def __init__(self, found: list[Event], positions: dict[str, tuple[int, int]]) -> None:
        self.events = found
        self.positions = positions


class Host:
    """One journal with its log folders, shipped by hand into a store."""

    def __init__(
        self, store: Store, folder: Path, *, name: str = "atlas", mirror: Path | None = None
    ) -> None:
        self.store = store
        self.home = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.journal = open_journal(folder / "journal")
        self.id = self.journal.journal_id
        self.runs = folder / "runs"
        self.lease = store.take_lease(self.id, host=name, machine=name, boot="b", pid=1, now=0.0)
        self.mirror = (
            Mirror(mirror, self.runs, self.journal.directory, Origin(self.id, name)) if mirror else None
        )
        self._offset = itertools.count(0, 200)
        self._writer = uuid.uuid4().hex
        self.open_files()

    def open_files(self) -> None:
        """(Re)open what removes and writes log folders, as a new shipper would."""
        self.sink = LogFileSink(self.runs, self.journal.directory, limits=LogLimits(), fence=lambda: True)
        weakref.finalize(self, self.sink.close)
        if self.mirror is not None:
            self.sink.on_touched = self.mirror.note
        self.remover = Remover(
            journal_id=self.id, runs=self.runs, folders=self.sink, mirror=self.mirror, fence=lambda: True
        )

    def close(self) -> None:
        """Let go of the files."""
        self.sink.close()

    def event(self, kind: str, at: float, run: str | None, attempt: str | None, **data: Any) -> Event:
        """Return the next event of this host's writer."""
        return Event(
            kind=kind,
            wall=at,
            mono=at,
            run=run,
            attempt=attempt,
            data=data,
            writer=self._writer,
            segment=1,
            offset=next(self._offset),
        )

    def tell(self, found: list[Event], *, limits: IngestLimits | None = None) -> None:
        """Ship events into the store and into the log files."""
        self.tell_store(found, limits=limits)
        self.tell_files(found)

    def tell_store(self, found: list[Event], *, limits: IngestLimits | None = None) -> None:
        """Ship events into the store alone."""
        self.store.ingest(
            self.lease, found, self._behind(found), limits=limits or IngestLimits(), now=time.time()
        )

    def tell_files(self, found: list[Event]) -> None:
        """Ship events into the log files alone."""
        self.sink.apply(Batch(found, self._behind(found)), time.time())  # type: ignore[arg-type]

    def _behind(self, found: list[Event]) -> dict[str, tuple[int, int]]:
        return {self._writer: (1, found[-1].offset + 200)}

    def story(
        self,
        *,
        run: str | None = None,
        age: float = 0.0,
        text: str = "a line",
        end: str | None = events.RUN_SUCCEEDED,
        **facts: Any,
    ) -> list[Event]:
        """Return the events of a run that ended `age` seconds ago, with a bit of everything."""
        run = run or str(uuid.uuid4())
        at, attempt = time.time() - age - 10.0, uuid.uuid4().hex
        started = {"task": "shop.load", "worker": "w", "host": "h", "pid": 7, "trigger": "api"} | facts

        def one(kind: str, seconds: float, **data: Any) -> Event:
            return self.event(kind, at + seconds, run, attempt, **data)

        told = [
            one(events.RUN_STARTED, 0, **started),
            one(events.STAGE_STARTED, 1, stage=1, name=f"stage {text}"),
            one(events.LOG_WRITTEN, 2, level=40, stream="log", logger="x", text=text, i=1, o=0),
            one(events.METADATA_SET, 3, key="note", value=text, i=1),
            one(events.MEASURE_RECORDED, 4, values={"rows": 1.0}, i=1),
            one(events.STAGE_SUCCEEDED, 5, stage=1, result=text),
        ]
        if end is not None:
            told.append(one(end, 10, by="child", runtime=10.0, error={"type": "E", "message": text}))
        return told

    def run(self, **facts: Any) -> str:
        """Tell a run; return its id."""
        told = self.story(**facts)
        self.tell(told)
        assert told[0].run is not None
        return told[0].run

    def folders(self) -> list[str]:
        """Return the log folders on this host."""
        return folders_below(self.runs)


def folders_below(root: Path) -> list[str]:
    """Return the folders of runs below a root, relative to it."""
    return sorted(str(file.parent.relative_to(root)) for file in root.rglob("run.log"))


def counts(store: Store) -> dict[str, int]:
    """Return how many rows each table has."""
    with store.reading() as connection:
        return {
            name.rpartition(".")[2].removeprefix("plet_"): connection.execute(
                sa.select(sa.func.count()).select_from(table)
            ).scalar_one()
            for name, table in store.tables.metadata.tables.items()
        }


def texts(store: Store) -> Iterator[str]:
    """Yield every value of every table as text; compressed ones are unpacked."""
    import zlib

    with store.reading() as connection:
        for table in store.tables.metadata.sorted_tables:
            for row in connection.execute(sa.select(table)):
                for value in row:
                    if isinstance(value, bytes):
                        try:
                            yield zlib.decompress(value).decode("utf-8", "replace")
                        except zlib.error:
                            yield value.decode("utf-8", "replace")
                    elif value is not None:
                        yield str(value)
