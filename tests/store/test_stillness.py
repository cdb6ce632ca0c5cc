"""Runs that tell nothing: what counts as telling something, whatever is kept of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import recorded_runs
from recorded_runs import Story
from storing import url_of

from plet_celery.store import IngestLimits, stillness


@pytest.mark.parametrize(("head", "tail"), [(64 << 10, 192 << 10), (64 << 10, 0), (0, 0)])
def test_a_run_that_writes_lines_is_not_still_whether_or_not_they_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: int, tail: int
) -> None:
    limits = IngestLimits(log_head_bytes=head, log_tail_bytes=tail)
    monkeypatch.setattr(recorded_runs, "IngestLimits", lambda: limits)
    story, now = Story(url_of(tmp_path / "plet.db")), time.time()
    talking = story.run("shop.talk", started=now - 1200)
    for _ in range(39):
        talking.log("still at it", after=30.0)
    silent = story.run("shop.hang", started=now - 1200)
    silent.log("begins")
    story.ship()
    journal = story.store.tables.journal
    with story.store.writing() as connection:
        connection.execute(journal.update().values(touched_at=now, as_of=now))

    found = stillness.still_runs(story.store, now=now, limit_of=lambda task: 600.0)

    assert [(one.run_id, round(one.silent_for)) for one in found] == [(silent.id, 1200)]
    story.close()
