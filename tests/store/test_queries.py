"""What readers are told of a run, its attempts, stages, events, log and measures."""

from __future__ import annotations

import json

import pytest
from histories import JOURNALS, T0, Teller, Writer
from storing import Shipper

from plet_celery import events, paths
from plet_celery.errors import PletError, RunAmbiguous, RunNotFound
from plet_celery.store import Store, queries, records

RUN = "0a0a0a0a-0000-4000-8000-00000000000a"
OTHER = "0a0b0b0b-0000-4000-8000-00000000000b"
ERROR = {"type": "ValueError", "module": "builtins", "message": "no such row"}


@pytest.fixture
def teller() -> Teller:
    return Teller()


@pytest.fixture
def writer(teller: Teller) -> Writer:
    return teller.writer()


def ship(store: Store, teller: Teller) -> None:
    assert Shipper(store).ship(teller.told) == 0


def test_a_failed_run_shows_error_stage_and_where_its_log_is(
    store: Store, teller: Teller, writer: Writer
) -> None:
    started = teller.start(
        writer, RUN, "a1", tenant="acme/north", user="eve", args=[1], stages=[["x", 2], ["y", None]]
    )
    teller.tell(writer, events.STAGE_STARTED, RUN, "a1", stage=1, name="x", total=4, unit="rows")
    teller.tell(writer, events.STAGE_PROGRESSED, RUN, "a1", stage=1, done=3, percent=37.5, message="row 3")
    teller.tell(writer, events.STAGE_FAILED, RUN, "a1", stage=1, done=3, elapsed=0.5, error=ERROR)
    teller.end(writer, events.RUN_FAILED, RUN, "a1", error=ERROR, usage={"cpu_user": 0.1})
    ship(store, teller)

    run = queries.get_run(store, RUN)
    (attempt,) = queries.attempts(store, RUN)
    first, second = queries.stages(store, RUN)

    assert (run.state, run.error, run.percent, run.args, run.user) == ("failed", ERROR, 37.5, [1], "eve")
    assert (run.stage, run.current, run.total, run.unit, run.message) == ("x", 3.0, 4.0, "rows", "row 3")
    assert (run.worker, run.host, run.queue, run.tracked) == ("celery@a", "1", "celery", True)
    assert run.runtime == attempt.runtime == 0.25
    assert run.waited == pytest.approx(0.51)
    folder = str(paths.run_folder("acme/north", started.wall, "api", RUN))
    assert run.log_folders == [folder]
    assert (attempt.log_folder, attempt.clock, attempt.ended_by) == (folder, "mono", "child")
    assert (first.state, first.elapsed, first.percent, first.weight, first.error) == (
        "failed",
        0.5,
        75.0,
        2.0,
        ERROR,
    )
    assert (second.state, second.name, second.number, second.weight) == ("planned", "y", 2, None)


def test_a_running_run_shows_its_innermost_stage(store: Store, teller: Teller, writer: Writer) -> None:
    teller.start(writer, RUN, "a1")
    teller.tell(writer, events.STAGE_STARTED, RUN, "a1", stage=1, name="outer")
    teller.tell(writer, events.STAGE_STARTED, RUN, "a1", stage=2, name="inner", parent=1)
    ship(store, teller)
    assert queries.get_run(store, RUN).stage == "inner"

    teller.tell(writer, events.STAGE_SUCCEEDED, RUN, "a1", stage=2, done=1, elapsed=0.1)
    ship(store, teller)
    assert queries.get_run(store, RUN).stage == "outer"

    teller.end(writer, events.RUN_SUCCEEDED, RUN, "a1")
    ship(store, teller)
    assert queries.get_run(store, RUN).stage is None


def test_a_stage_that_was_open_when_its_process_was_killed_has_failed(
    store: Store, teller: Teller, writer: Writer
) -> None:
    teller.start(writer, RUN, "a1")
    began = teller.tell(writer, events.STAGE_STARTED, RUN, "a1", stage=1, name="load")
    lost = teller.lose(teller.writer(), writer, RUN, "a1", writer.after)
    ship(store, teller)

    (stage,) = queries.stages(store, RUN, "a1")
    run = queries.get_run(store, RUN)

    assert (stage.state, stage.ended_at) == ("failed", lost.wall)
    assert stage.elapsed == pytest.approx(lost.wall - began.wall)
    assert (run.state, run.stage, run.reason) == ("lost", "load", "its process died")


def test_attempts_are_numbered_by_their_starts(store: Store, teller: Teller) -> None:
    here, there = teller.writer(JOURNALS[0]), teller.writer(JOURNALS[1])
    first = teller.start(there, RUN, "z")
    teller.end(there, events.RUN_RETRIED, RUN, "z", retries=0, reason="again", error=ERROR)
    second = teller.start(here, RUN, "a", retries=1)
    teller.end(here, events.RUN_SUCCEEDED, RUN, "a", result={"rows": 3})
    ship(store, teller)

    one, two = queries.attempts(store, RUN)
    run = queries.get_run(store, RUN)

    assert [(a.id, a.number, a.state, a.retries) for a in (one, two)] == [
        ("z", 1, "retrying", 0),
        ("a", 2, "succeeded", 1),
    ]
    assert (one.reason, one.error) == ("again", ERROR)
    assert (run.state, run.attempts, run.attempt, run.retries, run.result) == (
        "succeeded",
        2,
        2,
        1,
        {"rows": 3},
    )
    assert run.log_folders == [one.log_folder, two.log_folder]
    assert run.log_folders == [str(paths.run_folder("", e.wall, "api", RUN)) for e in (first, second)]
    assert run.runtime == pytest.approx(teller.told[-1][1].wall - first.wall)


def test_a_run_that_waits_is_listed_by_its_publish(store: Store, teller: Teller, writer: Writer) -> None:
    teller.start(writer, OTHER, "a1")
    queued = teller.tell(writer, events.RUN_QUEUED, RUN, None, task="shop.import", trigger="api", canvas=RUN)
    ship(store, teller)

    assert [run.id for run in queries.list_runs(store).items] == [RUN, OTHER]
    assert [run.id for run in queries.list_runs(store, states=["queued"], since=queued.wall).items] == [RUN]


def test_a_report_without_a_start_is_a_placeholder(store: Store, teller: Teller) -> None:
    teller.report(teller.writer(), events.RUN_CANCELLED, RUN, pid=None, terminated=False)
    ship(store, teller)

    run = queries.get_run(store, RUN)
    (attempt,) = queries.attempts(store, RUN)

    assert (run.state, run.reason, run.started_at, run.runtime) == ("cancelled", "revoked", None, None)
    assert run.log_folders == []
    assert (attempt.placeholder, attempt.started_at, attempt.log_folder) == (True, None, None)
    assert attempt.ended_by == "main"


def test_events_are_told_in_order_with_their_positions(store: Store, teller: Teller, writer: Writer) -> None:
    producer, main = teller.writer(), teller.writer()
    teller.tell(
        producer, events.RUN_QUEUED, RUN, None, task="shop.import", trigger="api", canvas=RUN, retries=0
    )
    teller.start(writer, RUN, "a1")
    teller.tell(writer, events.LOG_WRITTEN, RUN, "a1", level=20, stream="log", text="info", i=1, o=0)
    teller.tell(writer, events.LOG_WRITTEN, RUN, "a1", level=40, stream="log", text="bad", i=2, o=4)
    teller.report(main, events.RUN_LOST, RUN, reason="signal 9")
    teller.end(writer, events.RUN_FAILED, RUN, "a1", error=ERROR)
    earlier = teller.writer()
    teller.end(earlier, events.RUN_FAILED, RUN, None, upstream="other", error=ERROR)
    ship(store, teller)

    found = queries.run_events(store, RUN)

    kinds = ["run.queued", "run.started", "log.written", "run.lost", "run.failed", "run.failed"]
    assert [event.kind for event in found] == kinds
    assert [event.kind for event in queries.run_events(store, RUN, limit=2)] == kinds[-2:]
    assert (found[2].level, found[2].text, found[2].position) == (40, "bad", (writer.id, 1, 200))
    assert [event.position[0] for event in found if event.position] == [
        *(producer.id, writer.id, writer.id, main.id, writer.id, earlier.id)
    ]


def test_children_are_those_it_published_and_its_canvas(store: Store, teller: Teller, writer: Writer) -> None:
    head, member, child, stranger = (f"{n:08x}-0000-4000-8000-000000000000" for n in range(1, 5))
    teller.start(writer, head, "h")
    teller.start(writer, member, "m", canvas=head, parent=head, root=head, group="g")
    teller.start(writer, child, "c", canvas=child, parent=member)
    teller.start(writer, stranger, "s")
    ship(store, teller)

    assert [run.id for run in queries.children(store, head)] == [member]
    assert [run.id for run in queries.children(store, member)] == [head, child]
    assert queries.children(store, stranger) == []
    run = queries.get_run(store, member)
    assert (run.canvas, run.root_id, run.parent_id, run.group_id) == (head, head, head, "g")
    assert queries.get_run(store, head).canvas == head


def test_measures_are_series(store: Store, teller: Teller, writer: Writer) -> None:
    teller.start(writer, RUN, "a1")
    one = teller.tell(
        writer, events.MEASURE_RECORDED, RUN, "a1", values={"gap": 0.5, "loss": 2}, i=1, stage=3
    )
    teller.tell(writer, events.MEASURE_RECORDED, RUN, "a1", values={"gap": 0.25, "odd": "x"}, i=2)
    ship(store, teller)

    gap, loss = queries.measures(store, RUN)

    assert (gap.name, [point.value for point in gap.points]) == ("gap", [0.5, 0.25])
    assert (loss.name, loss.points) == (
        "loss",
        [records.MeasurePoint(at=one.wall, value=2.0, number=1, stage=3)],
    )


def test_metadata_keeps_the_newest_value_of_a_key(store: Store, teller: Teller, writer: Writer) -> None:
    teller.start(writer, RUN, "a1")
    for i, (key, value) in enumerate([("a", 1), ("b", [1]), ("a", "x"), ("c", None)], 1):
        teller.tell(writer, events.METADATA_SET, RUN, "a1", key=key, value=value, i=i)
    removed = teller.tell(writer, events.METADATA_SET, RUN, "a1", key="b", i=5)
    ship(store, teller)

    assert "value" not in removed.data
    assert queries.get_run(store, RUN).metadata == {"a": "x"}
    assert [run.id for run in queries.list_runs(store, meta={"a": "x"}).items] == [RUN]
    assert queries.list_runs(store, meta={"a": "1"}).items == []
    assert queries.list_runs(store, meta={"b": "[1]"}).items == []


def test_a_prefix_a_short_id_and_names_find_a_run(store: Store, teller: Teller, writer: Writer) -> None:
    odd = "import/../2026\n"
    teller.start(writer, RUN, "a1")
    teller.end(writer, events.RUN_FAILED, RUN, "a1", error=ERROR)
    teller.start(writer, OTHER, "b1")
    teller.start(writer, odd, "c1")
    ship(store, teller)

    assert queries.resolve_run(store, RUN) == queries.resolve_run(store, "0a0a") == RUN
    assert queries.resolve_run(store, paths.short_id(odd)) == queries.resolve_run(store, "import/") == odd
    assert queries.resolve_run(store, "@last") == odd
    assert queries.resolve_run(store, "@last-failed") == RUN
    with pytest.raises(RunAmbiguous, match=r"'0a0' fits several runs: 0a0a0a0a.*; give more characters"):
        queries.resolve_run(store, "0a0")
    for text in ("ffff", "", "%", "_", "0A0A"):
        with pytest.raises(RunNotFound, match="no run"):
            queries.resolve_run(store, text)


def test_names_of_an_empty_store_find_nothing(store: Store) -> None:
    with pytest.raises(RunNotFound, match="@last-failed: no failed run is recorded yet"):
        queries.resolve_run(store, "@last-failed")
    for ask in (queries.get_run, queries.attempts, queries.stages, queries.run_events, queries.stored_log):
        with pytest.raises(RunNotFound, match="no run 'x'"):
            ask(store, "x")
    assert queries.changes(store).items == []
    assert queries.count_runs_by_state(store) == {}


def test_a_task_id_of_10_kilobytes_is_kept_whole(store: Store, teller: Teller, writer: Writer) -> None:
    long_one, long_two = "x" * 10_000 + "1", "x" * 10_000 + "2"
    for name in (long_one, long_two):
        teller.start(writer, name, "a")
        teller.tell(writer, events.LOG_WRITTEN, name, "a", level=30, stream="log", text="hi", i=1, o=0)
        teller.end(writer, events.RUN_SUCCEEDED, name, "a")
    ship(store, teller)

    assert {run.id for run in queries.list_runs(store).items} == {long_one, long_two}
    assert queries.resolve_run(store, long_two) == queries.get_run(store, long_two).id == long_two
    assert queries.resolve_run(store, paths.short_id(long_one)) == long_one
    assert queries.attempts(store, long_one)[0].run_id == long_one
    assert [line.text for line in queries.stored_log(store, long_one)] == ["hi"]
    with pytest.raises(RunAmbiguous):
        queries.resolve_run(store, "xxxx")


def test_changes_are_told_once_and_in_order(store: Store, teller: Teller) -> None:
    shipper = Shipper(store)
    here, there = teller.writer(JOURNALS[0]), teller.writer(JOURNALS[1])
    begin = queries.changes(store).next
    teller.start(here, RUN, "a1")
    teller.start(there, OTHER, "b1")
    shipper.ship(teller.told)

    first = queries.changes(store, begin)
    assert {(one.id, one.version) for one in first.items} == {(RUN, 1), (OTHER, 1)}
    assert queries.changes(store, first.next).items == []

    shipper.ship([(there.journal, teller.end(there, events.RUN_SUCCEEDED, OTHER, "b1"))])
    second = queries.changes(store, first.next)
    assert [(one.id, one.version) for one in second.items] == [(OTHER, 2)]
    assert not second.more


def test_changes_page_without_losing_any(store: Store, teller: Teller, writer: Writer) -> None:
    shipper = Shipper(store)
    shipper.lease(JOURNALS[0])
    cursor = queries.changes(store).next
    names = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(12)]
    for size, start in ((1, 0), (7, 1), (4, 8)):
        shipper.ship(
            [(writer.journal, teller.start(writer, name, name)) for name in names[start : start + size]]
        )

    seen: list[str] = []
    more = True
    while more:
        page = queries.changes(store, cursor, limit=3)
        seen += [one.id for one in page.items]
        cursor, more = page.next, page.more

    assert set(seen) == set(names)
    for text in ("", "x", "e30x"):
        with pytest.raises(PletError, match="is no cursor"):
            queries.changes(store, text)


def test_counting_stops_at_a_thousand(
    store: Store, teller: Teller, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "COUNT_MAX", 3)
    for n in range(5):
        teller.start(writer, f"r{n}", f"a{n}")
    teller.end(writer, events.RUN_SUCCEEDED, "r0", "a0")
    ship(store, teller)

    assert queries.count_runs_by_state(store) == {"running": 3, "succeeded": 1}


def test_json_has_iso_times_and_seconds(store: Store, teller: Teller, writer: Writer) -> None:
    teller.start(writer, RUN, "a1")
    teller.end(writer, events.RUN_RETRIED, RUN, "a1", retries=0, when=T0 + 60)
    ship(store, teller)

    page = records.to_json(queries.list_runs(store))
    found = json.loads(json.dumps(records.to_json(queries.run_events(store, RUN))))

    assert page["items"][0]["started_at"] == "2026-09-21T14:13:20.010Z"
    assert page["items"][0]["waited"] == pytest.approx(0.51)
    assert page["next"] is None
    assert found[-1]["data"]["when"] == "2026-09-21T14:14:20.000Z"
    assert found[-1]["at"] == "2026-09-21T14:13:20.020Z"
