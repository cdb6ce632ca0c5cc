"""A sink's loop: batches, fences, failures and what comes after a pass."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from plet_celery import events
from plet_celery.errors import JournalError, SchemaError, StaleWrite, StoreUnavailable
from plet_celery.events import Event
from plet_celery.journal import Writer, WriterLimits, open_journal
from plet_celery.journal_format import frame, salt_of
from plet_celery.journal_reader import Batch
from plet_celery.shipper.loops import BACKOFF_MAX, Hooks, Pace, SinkLoop, backoff
from plet_celery.shipper.notes import Notes

LIMITS = WriterLimits(min_free_bytes=0, min_free_percent=0.0, reserve_bytes=0)
PACE = Pace(gather=0.25, max_records=10, max_bytes=1 << 20)


class ListSink:
    """Keeps what it is given, and its checkpoint with it; fails on demand."""

    name = "list"

    def __init__(self) -> None:
        self.taken: list[Event] = []
        self.checkpoint: dict[str, tuple[int, int]] = {}
        self.raises: Exception | None = None
        self.raises_after_commit: Exception | None = None
        self.opened = 0
        self.forgotten: list[str] = []

    def positions(self) -> Mapping[str, tuple[int, int]]:
        self.opened += 1
        return dict(self.checkpoint)

    def apply(self, batch: Batch, now: float) -> None:
        if self.raises is not None:
            raise self.raises
        self.taken += batch.events
        self.checkpoint.update(batch.positions)
        if self.raises_after_commit is not None:
            raise self.raises_after_commit

    def forget(self, writers: Sequence[str]) -> None:
        self.forgotten += writers

    def sever(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    open_journal(tmp_path / "j")
    writer = Writer(tmp_path / "j", role="child", limits=LIMITS)
    for number in range(25):
        assert writer.append(events.LOG_WRITTEN, "r", "a", {"i": number})
    writer.close()
    return tmp_path / "j"


def loop(journal: Path, sink: ListSink, **more: Any) -> SinkLoop:
    return SinkLoop(sink, journal, pace=PACE, **({"fence": lambda: True} | more))


def numbers(sink: ListSink) -> list[int]:
    return [event.data["i"] for event in sink.taken]


def test_a_backlog_is_taken_without_a_pause(journal: Path) -> None:
    sink = ListSink()
    subject = loop(journal, sink)

    waits = [subject.turn() for _ in range(3)]

    assert waits[:2] == [0.0, 0.0]
    assert waits[2] >= PACE.gather
    assert numbers(sink) == list(range(25))


def test_only_a_pass_that_left_nothing_counts_as_caught_up(journal: Path) -> None:
    subject = loop(journal, ListSink())

    subject.turn()
    assert subject.caught_up == float("-inf")
    subject.turn()
    subject.turn()

    assert subject.caught_up > 0


def test_a_failed_batch_comes_again_and_nothing_twice(journal: Path) -> None:
    sink = ListSink()
    subject = loop(journal, sink)
    sink.raises = StoreUnavailable("down")
    assert subject.turn() > 0
    assert "down" in subject.facts()["error"]

    sink.raises = None
    for _ in range(3):
        subject.turn()

    assert numbers(sink) == list(range(25))
    assert subject.facts()["failures"] == 0


def test_a_commit_whose_answer_was_lost_is_not_repeated(journal: Path) -> None:
    """The connection broke after the database had committed: the checkpoint tells."""
    sink = ListSink()
    subject = loop(journal, sink)
    sink.raises_after_commit = StoreUnavailable("connection lost")
    subject.turn()

    sink.raises_after_commit = None
    for _ in range(3):
        subject.turn()

    assert sink.opened == 2
    assert numbers(sink) == list(range(25))


def test_a_stale_lease_ends_the_loop(journal: Path) -> None:
    sink = ListSink()
    subject = loop(journal, sink)
    sink.raises = StaleWrite("epoch 2 > 1")

    subject.turn()

    assert subject.fenced


def test_a_loop_without_the_lock_takes_nothing(journal: Path) -> None:
    sink = ListSink()
    subject = loop(journal, sink, fence=lambda: False)

    subject.turn()

    assert subject.fenced
    assert sink.taken == []


def test_the_lock_is_asked_for_again_before_the_sink(journal: Path) -> None:
    """A shipper frozen between reading and writing wakes up without the lock."""
    answers = iter([True, False])
    sink = ListSink()
    subject = loop(journal, sink, fence=lambda: next(answers))

    subject.turn()

    assert subject.fenced
    assert sink.taken == []


def test_what_was_seen_before_the_look_is_handed_on_after_it(journal: Path) -> None:
    order: list[str] = []
    sink = ListSink()
    subject = loop(
        journal,
        sink,
        hooks=Hooks(
            before=lambda: f"seen at {len(sink.taken)}", after=lambda positions, seen: order.append(seen)
        ),
    )

    for _ in range(3):
        subject.turn()

    assert order == ["seen at 0"]


def test_forgotten_writers_are_forgotten_after_a_pass(journal: Path) -> None:
    sink = ListSink()
    subject = loop(journal, sink)
    for _ in range(3):
        subject.turn()
    (writer,) = subject.positions

    subject.forget([writer])
    subject.turn()

    assert sink.forgotten == [writer]


def test_what_was_forgotten_takes_no_memory_any_more(tmp_path: Path) -> None:
    """A child a task leaves a writer a task: a shipper that lives for weeks must not remember them."""
    open_journal(tmp_path / "j")
    subject = loop(tmp_path / "j", ListSink())
    for _ in range(3):
        writer = Writer(tmp_path / "j", role="child", limits=LIMITS)
        assert writer.append(events.LOG_WRITTEN, "r", "a", {"i": 1})
        name = writer.id
        writer.close()
        subject.turn()
        for segment in (tmp_path / "j").glob("w-*.plj"):
            segment.unlink()

        assert name is not None
        subject.forget([name])
        subject.turn()

    assert subject._reader is not None
    assert subject._reader.positions() == subject.positions == {}


def test_what_a_batch_tells_is_counted_once_however_often_it_fails(tmp_path: Path) -> None:
    """A database that can be read but not written gives its checkpoint, and refuses, again and again."""
    open_journal(tmp_path / "j")
    writer = Writer(tmp_path / "j", role="child", limits=LIMITS)
    assert writer.append(events.LOG_WRITTEN, "r", "a", {"i": 1})
    writer.drop("rate_limit", 5)
    assert writer.append(events.LOG_WRITTEN, "r", "a", {"i": 2})
    writer.close()
    sink, notes = ListSink(), Notes("list", lambda writer, number: None)
    subject = loop(tmp_path / "j", sink, notes=notes)
    sink.raises = StoreUnavailable("read-only")

    for _ in range(3):
        subject.turn()
    sink.raises = None
    subject.turn()

    assert numbers(sink) == [1, 2]
    assert subject.facts()["dropped"] == {"rate_limit": 5}


@pytest.mark.parametrize(("failures", "longest"), [(1, 0.5), (2, 1.0), (4, 4.0), (7, 30.0), (1000, 30.0)])
def test_the_back_off_doubles_up_to_half_a_minute(failures: int, longest: float) -> None:
    assert backoff(failures, 1.0) == pytest.approx(longest)
    assert backoff(failures, 0.0) == pytest.approx(longest / 2)
    assert backoff(failures, 1.0) <= BACKOFF_MAX


def test_a_sink_that_is_down_is_not_hammered_by_those_who_wait(journal: Path) -> None:
    sink = ListSink()
    subject = loop(journal, sink)
    sink.raises = StoreUnavailable("down")
    subject.start()
    until = time.monotonic() + 2.5

    def woken_until_then() -> bool:
        subject.wake()
        return time.monotonic() > until

    wait_until(woken_until_then, every=0.01)

    subject.stop()
    assert subject.join(10)
    assert 2 <= subject.failures <= 6


@pytest.mark.parametrize("fault", [JournalError("another store"), SchemaError("no tables")])
def test_a_store_that_cannot_take_the_journal_is_told_from_one_that_is_down(
    journal: Path, fault: Exception
) -> None:
    sink = ListSink()
    subject = loop(journal, sink)
    sink.raises = fault
    subject.turn()
    assert subject.refused

    sink.raises = StoreUnavailable("down")
    subject.turn()
    assert not subject.refused


def test_a_segment_of_a_newer_format_is_counted_by_every_shipper_that_finds_it(tmp_path: Path) -> None:
    """The second one starts where the first one's checkpoint stands, before the segment."""
    open_journal(tmp_path / "j")
    writer = "a" * 32
    core = b'{"v":9,"k":"writer.started","n":1,"t":1.0,"m":1.0,"d":{}}'
    segment = tmp_path / "j" / f"w-{writer}.00000001.plj"
    segment.write_bytes(frame(core, salt_of(writer, 1)))
    segment.chmod(0o600)
    sink = ListSink()

    for _ in range(2):
        notes = Notes("list", lambda writer, number: None)
        one = loop(tmp_path / "j", sink, notes=notes)
        one.turn()
        assert set(one.unreadable) == {writer}
        assert one.facts()["unsupported"] == 1

    assert segment.exists()
    assert sink.checkpoint == {writer: (1, 0)}


def test_it_has_caught_up_only_to_when_it_looked_at_the_folder(journal: Path) -> None:
    """A read in several batches goes on with the files that its first batch saw; later ones are not in it."""
    sink = ListSink()
    subject = loop(journal, sink)
    assert subject.turn() == 0.0
    later = Writer(journal, role="child", limits=LIMITS)
    assert later.append(events.LOG_WRITTEN, "r", "a", {"i": 99})
    written = time.monotonic()

    while subject.turn() == 0.0:
        pass

    assert 99 not in numbers(sink)
    assert subject.caught_up < written
    while subject.turn() == 0.0:
        pass
    assert 99 in numbers(sink)
    assert subject.caught_up > written
    later.close()
