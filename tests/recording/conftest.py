"""A run that writes into a list, and an app whose eager tasks write into a real journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from listwriter import ListWriter

from plet_celery import Plet
from plet_celery.events import Event
from plet_celery.journal_reader import Reader
from plet_celery.redaction import Redactor
from plet_celery.run import Run, RunFacts, RunLimits


@pytest.fixture
def writer() -> ListWriter:
    return ListWriter()


@pytest.fixture
def make_run(writer: ListWriter) -> Callable[..., Run]:
    """Make a run: `make_run(declared=(("load", 1.0),), progress_rate=1000.0)`."""

    def make(
        *,
        declared: tuple[tuple[str, float], ...] = (),
        store_meta: Any = None,
        hard_limit: float | None = None,
        **limits: Any,
    ) -> Run:
        facts = RunFacts("a-run", "an-attempt", "proj.load", hard_limit=hard_limit)
        return Run(
            facts,
            writer=writer,
            redactor=Redactor(),
            # No progress by itself: a pause on a busy machine may be longer than the 0.1 s of the default.
            limits=RunLimits(**{"progress_rate": 0.001} | limits),
            declared=declared,
            store_meta=store_meta,
        )

    return make


class Recorded:
    """An app with Plet and what its eager tasks have written."""

    def __init__(self, app: Celery, home: Path) -> None:
        self.app = app
        self.plet = Plet(app)
        self.home = home

    def events(self, run_id: str | None = None) -> list[Event]:
        if not self.plet.journal.exists():
            return []
        found = Reader(self.plet.journal).read(max_records=1_000_000, max_bytes=1 << 30).events
        return [event for event in found if run_id is None or event.run == run_id]

    def kinds(self, run_id: str | None = None) -> list[str]:
        return [event.kind for event in self.events(run_id)]


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[Callable[..., Recorded]]:
    """Make an app whose tasks run eagerly: `make_app(plet_log_rate=5)`."""
    made: list[Recorded] = []

    def make(**conf: Any) -> Recorded:
        app = Celery(f"app{len(made)}", set_as_current=False)
        app.conf.update({"plet_home": str(tmp_path / f"home{len(made)}"), "plet_shipper": "off"} | conf)
        made.append(Recorded(app, tmp_path))
        return made[-1]

    yield make
    for one in made:
        recording = one.plet.recording()
        if recording is not None:
            recording.writer.close()  # type: ignore[attr-defined]
