"""What is kept where there is too much: event rows, log text, series; what is not is counted."""

from __future__ import annotations

import itertools
import random
from typing import Any

from histories import JOURNALS, Teller
from hypothesis import given
from hypothesis import strategies as st
from storing import Shipper, rows_of

from plet_celery import events
from plet_celery.store import IngestLimits, Store, eventrows, logtext, queries, series

RUN = "00000000-0000-4000-8000-00000000000a"
KIB = 1 << 10


def points(numbers: list[int]) -> list[series.Point]:
    return [series.Point(number, "w", float(number), number / 2) for number in numbers]


@given(st.lists(st.integers(1, 5000), max_size=300), st.integers(3, 40), st.randoms(use_true_random=False))
def test_thinning_does_not_depend_on_the_order(numbers: list[int], limit: int, chance: random.Random) -> None:
    whole = series.thinned(points(numbers), limit)
    shuffled = numbers + numbers[:7]
    chance.shuffle(shuffled)
    kept: list[series.Point] = []
    for start in range(0, len(shuffled), 11):
        kept = series.thinned([*kept, *points(shuffled[start : start + 11])], limit)

    assert kept == whole
    assert len(kept) == min(limit, len(set(numbers)))
    assert not numbers or {kept[0].number, kept[-1].number} == {min(numbers), max(numbers)}


def test_a_long_series_is_thinned_evenly() -> None:
    kept = [point.number for point in series.thinned(points(list(range(1, 100_001))), 1000)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(kept)]

    assert len(kept) == 1000
    assert max(gaps) <= 128 and sorted(gaps)[10] >= 64


def test_a_thin_series_of_many_calls_is_kept_whole() -> None:
    numbers = [7 + 1000 * number for number in range(1000)]

    assert [point.number for point in series.thinned(points(numbers), 1000)] == numbers


def test_series_of_an_attempt_are_bounded(store: Store) -> None:
    teller = Teller()
    writer = teller.writer()
    for i in range(1, 4):
        values = {f"m{number:03d}": 1.0 for number in range(90 * i, 90 * i + 90)}
        teller.tell(writer, events.MEASURE_RECORDED, RUN, "a1", values=values, i=i)
    shipper = Shipper(store)
    for one in reversed(teller.told):
        shipper.ship([one])

    names = [row[2] for row in rows_of(store)["measure"]]
    assert names == [f"m{number:03d}" for number in range(90, 290)]


def test_metadata_of_a_run_is_bounded(store: Store) -> None:
    teller = Teller()
    writer = teller.writer()
    for i in range(1, 251):
        teller.tell(writer, events.METADATA_SET, RUN, "a1", key=f"k{i:03d}", value="x" * 500, i=i)
    shipper = Shipper(store)
    shipper.ship(teller.told[100:])
    shipper.ship(teller.told[:100])

    assert sorted(queries.get_run(store, RUN).metadata) == [f"k{i:03d}" for i in range(1, 201)]
    assert all(len(row[2]) == 200 for row in rows_of(store)["run_metadata"])
    assert queries.list_runs(store, meta={"k001": "x" * 500}).items != []


def test_of_too_many_warnings_the_first_are_kept_and_the_rest_is_counted(store: Store) -> None:
    teller = Teller()
    writer = teller.writer()
    teller.start(writer, RUN, "a1")
    for i in range(1, 31):
        teller.tell(writer, events.LOG_WRITTEN, RUN, "a1", level=30, stream="log", text=f"w{i}", i=i, o=0)
    teller.tell(writer, events.EVENTS_DROPPED, RUN, "a1", count=4, reasons={"rate_limit": 4})
    teller.end(writer, events.RUN_FAILED, RUN, "a1")
    shipper = Shipper(store, IngestLimits(run_max_events=10))
    order = [*teller.told, *teller.told[3:20]]
    random.Random(1).shuffle(order)
    for start in range(0, len(order), 5):
        shipper.ship(order[start : start + 5])

    found = queries.run_events(store, RUN)
    (attempt,) = queries.attempts(store, RUN)

    assert [event.text for event in found if event.kind == "log.written"] == [f"w{i}" for i in range(1, 11)]
    assert [event.kind for event in found][-2:] == ["events.dropped", "run.failed"]
    assert attempt.events_dropped == 20
    assert queries.get_run(store, RUN).dropped == 4


@given(st.sets(st.integers(0, 3000)), st.sets(st.integers(0, 3000), min_size=1))
def test_counted_events_are_a_set(one: set[int], other: set[int]) -> None:
    packed = eventrows.add_bits(None, sorted(one)) if one else None
    both = eventrows.add_bits(packed, sorted(other))

    assert eventrows.count_bits(both) == len(one | other)
    assert eventrows.add_bits(both, sorted(other)) == both


@given(
    st.integers(0, 40),
    st.integers(0, 1 << 20),
    st.integers(0, 1 << 20),
    st.integers(0, 200),
    st.integers(0, 300),
)
def test_what_a_log_drops_it_never_wants_back(chunk: int, end: int, more: int, head: int, tail: int) -> None:
    before = logtext.is_kept(chunk, end, head=head * KIB, tail=tail * KIB)
    after = logtext.is_kept(chunk, end + more, head=head * KIB // 2, tail=tail * KIB // 2)

    assert before or not after


def log_of(teller: Teller, lines: int, size: int = 100) -> None:
    writer = teller.writer()
    teller.start(writer, RUN, "a1")
    for i in range(1, lines + 1):
        text = f"line {i:06d} ".ljust(size, "x")
        teller.tell(
            writer, events.LOG_WRITTEN, RUN, "a1", level=20, stream="log", text=text, i=i, o=(i - 1) * size
        )


def test_a_long_log_keeps_head_and_tail_within_their_bytes(store: Store) -> None:
    teller = Teller()
    log_of(teller, 10_000)
    shipper = Shipper(store)
    for start in range(0, len(teller.told), 700):
        shipper.ship(teller.told[start : start + 700])

    lines = queries.stored_log(store, RUN)
    (gap,) = [number for number, line in enumerate(lines) if line.stream == "gap"]
    head, tail = lines[:gap], lines[gap + 1 :]

    assert [line.line for line in (head[0], tail[-1])] == [1, 10_000]
    assert abs(len(head) * 100 - 64 * KIB) <= logtext.CHUNK_BYTES
    assert abs(len(tail) * 100 - 192 * KIB) <= logtext.CHUNK_BYTES
    missing = 10_000 - len(head) - len(tail)
    assert lines[gap].text == f"— {missing:,} lines are not kept here —".replace(",", " ")
    assert lines[gap].line == head[-1].line + 1
    assert queries.get_run(store, RUN).log_lines == 10_000
    kept = sum(len(row[4]) for row in rows_of(store)["log_chunk"])
    assert kept < 64 * KIB


def test_log_text_can_be_switched_off(store: Store) -> None:
    teller = Teller()
    log_of(teller, 50)
    Shipper(store, IngestLimits(log_head_bytes=0, log_tail_bytes=0)).ship(teller.told)

    (gap,) = queries.stored_log(store, RUN)

    assert (gap.stream, gap.text) == ("gap", "— 50 lines are not kept here —")
    assert queries.get_run(store, RUN).log_lines == 50


def test_the_streams_of_an_attempt_share_the_budget(store: Store) -> None:
    teller = Teller()
    for stream in range(100):
        writer = teller.writer()
        for i in range(1, 4):
            offset = (i - 1) * 100_000
            teller.tell(writer, events.LOG_WRITTEN, RUN, "a1", level=20, text=f"{stream}.{i}", i=i, o=offset)
    Shipper(store).ship(teller.told)

    chunks = rows_of(store)["log_chunk"]
    lines = queries.stored_log(store, RUN, attempt=1)

    assert len({row[2] for row in chunks}) == logtext.STREAMS_MAX
    assert len(chunks) == 2 * logtext.STREAMS_MAX
    assert queries.get_run(store, RUN).log_lines == 300
    assert sum(line.stream == "gap" for line in lines) == 100
    assert queries.stored_log(store, RUN, attempt=2) == []


def test_lines_of_several_writers_are_told_in_the_order_of_time(store: Store) -> None:
    teller = Teller()
    one, other = teller.writer(), teller.writer()
    for i in range(1, 4):
        for writer in (one, other):
            data: dict[str, Any] = {
                "level": 20,
                "text": f"{writer.id[:8]}.{i}",
                "i": i,
                "o": i * 10,
                "context": {"n": i},
            }
            teller.tell(writer, events.LOG_WRITTEN, RUN, "a1", stage=2, **data)
    Shipper(store).ship(teller.told)

    lines = queries.stored_log(store, RUN)

    assert [line.text for line in lines] == [event.data["text"] for event in teller.of(JOURNALS[0])]
    assert (lines[0].context, lines[0].stage, lines[0].attempt, lines[0].stream) == ({"n": 1}, 2, 1, "log")
