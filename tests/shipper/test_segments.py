"""Syncing, keeping, removing and setting aside segments."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from plet_celery import events
from plet_celery.journal import Writer, WriterLimits, open_journal
from plet_celery.journal_keeping import Segment, segments
from plet_celery.shipper.segments import Keeper, Passed, Syncer, is_passed, mark_damaged

LIMITS = WriterLimits(min_free_bytes=0, min_free_percent=0.0, reserve_bytes=0)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    open_journal(tmp_path / "j")
    return tmp_path / "j"


def written(journal: Path) -> Segment:
    """A sealed segment of a writer that is gone."""
    writer = Writer(journal, role="child", limits=LIMITS)
    assert writer.append(events.RUN_STARTED, "r", "a", {})
    mine = writer.id
    writer.close()
    return next(segment for segment in segments(journal) if segment.writer == mine)


def keeper(journal: Path, keep: float = 0.0, mine: bool = True) -> Keeper:
    return Keeper(journal, keep=keep, fence=lambda: mine)


def passed_by(*segments: Segment) -> dict[str, tuple[int, int]]:
    return {segment.writer: (segment.number, segment.size) for segment in segments}


NEWEST = {"w": 3}


@pytest.mark.parametrize(
    ("number", "checkpoints", "settled", "passed"),
    [
        (2, [{"w": (3, 0)}, {"w": (3, 0)}], set(), True),
        (2, [{"w": (2, 100)}, {"w": (3, 0)}], set(), True),
        (2, [{"w": (2, 99)}, {"w": (3, 0)}], set(), False),
        (2, [{"w": (3, 0)}, {}], set(), False),
        (3, [{"w": (3, 100)}, {"w": (3, 100)}], set(), False),
        (3, [{"w": (3, 100)}, {"w": (3, 100)}], {"w"}, True),
        (3, [{"w": (3, 100)}, {"w": (3, 99)}], {"w"}, False),
    ],
)
def test_a_segment_is_needed_until_every_sink_has_passed_it(
    number: int, checkpoints: list[dict[str, tuple[int, int]]], settled: set[str], passed: bool
) -> None:
    segment = Segment("w", number, Path("x"), 100)

    facts = Passed(checkpoints=checkpoints, settled=settled, newest=NEWEST)

    assert is_passed(segment, facts) is passed


def test_a_passed_segment_of_a_settled_writer_goes_and_its_writer_is_forgotten(journal: Path) -> None:
    segment = written(journal)
    checkpoint = passed_by(segment)

    gone = keeper(journal).retire(checkpoints=[checkpoint] * 2, settled={segment.writer}, wall=time.time())

    assert gone == [segment.writer]
    assert segments(journal) == []


def test_a_young_segment_is_kept_for_replay(journal: Path) -> None:
    segment = written(journal)
    facts = {"checkpoints": [passed_by(segment)] * 2, "settled": {segment.writer}}

    assert keeper(journal, keep=3600).retire(wall=segment.modified + 3599, **facts) == []  # type: ignore[arg-type]
    assert keeper(journal, keep=3600).retire(wall=segment.modified + 3601, **facts) == [  # type: ignore[arg-type]
        segment.writer
    ]


def test_a_writer_without_files_that_is_not_settled_is_not_forgotten(journal: Path) -> None:
    checkpoint = {"lost": (1, 100)}

    assert keeper(journal).retire(checkpoints=[checkpoint], settled=set(), wall=0.0) == []
    assert keeper(journal).retire(checkpoints=[checkpoint], settled={"lost"}, wall=0.0) == ["lost"]


def test_a_segment_that_is_still_written_stays(journal: Path) -> None:
    writer = Writer(journal, role="child", limits=LIMITS)
    assert writer.append(events.RUN_STARTED, "r", "a", {})
    (segment,) = segments(journal)

    keeper(journal).retire(checkpoints=[passed_by(segment)], settled={segment.writer}, wall=time.time() + 9)

    assert segments(journal) == [segment]
    writer.close()


def test_a_shipper_that_lost_its_lock_removes_nothing(journal: Path) -> None:
    segment = written(journal)

    keeper(journal, mine=False).retire(
        checkpoints=[passed_by(segment)], settled={segment.writer}, wall=time.time()
    )

    assert segments(journal) == [segment]


def test_a_damaged_segment_goes_to_quarantine_at_once(journal: Path) -> None:
    segment = written(journal)
    mark_damaged(journal, segment.writer, segment.number)

    keeper(journal, keep=3600).retire(
        checkpoints=[passed_by(segment)], settled={segment.writer}, wall=time.time()
    )

    assert segments(journal) == []
    assert (journal / "quarantine" / segment.path.name).stat().st_size == segment.size
    assert not list(journal.glob("damaged.*"))


def test_only_segments_that_grew_are_synced(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(os, "fsync", fsync)
    segment, syncer = written(journal), Syncer(journal)

    syncer.sync()
    syncer.sync()

    assert synced == [segment.path.name, journal.name]


def test_a_segment_that_the_disk_refused_is_never_reported_good(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second fsync may succeed although the first one dropped pages."""
    calls: list[int] = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    segment, syncer = written(journal), Syncer(journal)
    syncer.sync()
    before = len(calls)
    with segment.path.open("ab") as file:
        file.write(b"more")

    syncer.sync()

    assert syncer.failures == 1
    assert len(calls) == before
