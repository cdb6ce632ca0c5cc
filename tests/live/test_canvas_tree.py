"""The tree of a canvas from what real workers record of chains, groups, chords and replaced runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from canvases import Member, shape
from celery import chain, chord, group
from waiting import wait_until

from plet_celery.store import queries
from plet_celery.web.drawing.canvas import canvas

MakeLive = Callable[[], Any]


def members(live: Any, run_id: str) -> list[Member]:
    """The runs of a run's canvas, with the facts of their first start."""
    store = live.store()
    try:
        own = queries.get_run(store, run_id)
        return [_member(store, run) for run in [own, *queries.children(store, run_id)]]
    finally:
        store.close()


def _member(store: Any, run: Any) -> Member:
    starts = [one.data for one in queries.run_events(store, run.id) if one.kind == "run.started"]
    start = starts[0] if starts else {}
    return Member(
        id=run.id,
        task=run.task.rpartition(".")[2],
        state=run.state,
        percent=run.percent,
        parent_id=run.parent_id,
        group_id=run.group_id,
        group_index=start.get("group_index"),
        chord=start.get("chord"),
        chain_left=start.get("chain_left"),
        queued_at=run.queued_at,
        started_at=run.started_at,
        ended_at=run.ended_at,
        runtime=run.runtime,
        attempts=run.attempts,
        error=run.error,
    )


def tree_of(live: Any, run_id: str, count: int) -> Any:
    """The tree of a canvas by task names, once `count` of its runs have ended."""

    def ended() -> list[Member]:
        if live.run(run_id) is None:
            return []
        found = members(live, run_id)
        return (
            found
            if len(found) == count and all(one.state in ("succeeded", "failed") for one in found)
            else []
        )

    found = wait_until(ended, 60, what=lambda: f"{count} runs: {members(live, run_id)}")
    tree = canvas(found, here=run_id)
    tasks = {one.id: one.task for one in found}
    return _named(shape(tree), tasks), tree


def _named(shown: Any, tasks: dict[str, str]) -> Any:
    if isinstance(shown, list):
        return [_named(one, tasks) for one in shown]
    if isinstance(shown, tuple):
        return tuple(_named(one, tasks) for one in shown)
    if isinstance(shown, dict):
        return {tasks[key]: _named(inner, tasks) for key, inner in shown.items()}
    return tasks.get(shown, shown)


def test_what_workers_record_of_a_canvas_gives_its_tree(make_live: MakeLive) -> None:
    live = make_live()
    live.worker("-c", "2")
    app = live.app()

    steps: Any = chain(app.ok.si(), app.tracked.si(5), app.ok.si(), app.ok.si()).apply_async()
    middle: Any = chain(
        app.ok.si(), group(app.add.si(1, 1), app.add.si(2, 2)), app.collect.s(), app.chained.s()
    ).apply_async()
    end: Any = chain(app.ok.si(), group(app.add.si(1, 1), app.add.si(2, 2))).apply_async()
    twice: Any = chain(
        group(app.add.si(1, 1), app.add.si(1, 2)), group(app.add.si(1, 1), app.add.si(1, 2)), app.collect.s()
    ).apply_async()
    last: Any = chord(
        [app.add.si(1, 1), app.add.si(1, 2)], group(app.ok.si(), app.tracked.si(3))
    ).apply_async()
    bad: Any = chord([app.add.si(1, 1), app.fail.si()], app.collect.s()).apply_async()
    by_chord = app.replace_with_group.apply_async()
    by_chain: Any = chain(app.ok.si(), app.replaced.si("ok"), app.chained.si()).apply_async()
    spawned = app.start_chord.apply_async()
    pair = chain(app.add.si(1, 1), app.ok.si())
    side: Any = group(pair, pair).apply_async()
    chains: Any = chord([pair, pair], app.ok.si()).apply_async()

    assert tree_of(live, steps.id, 4)[0] == [["ok", "tracked", "ok", "ok"]]
    assert tree_of(live, middle.id, 5)[0] == [["ok", ("add", "add"), "collect", "chained"]]
    assert tree_of(live, end.results[0].id, 3)[0] == [["ok", ("add", "add")]]
    assert tree_of(live, twice.id, 5)[0] == [[("add", "add"), ("add", "add"), "collect"]]
    assert tree_of(live, last.results[0].id, 4)[0] == [[("add", "add"), ("ok", "tracked")]]
    named, broken = tree_of(live, bad.parent.results[0].id, 2)
    assert named == [[("add", "fail"), None]]
    failed = bad.parent.results[1].id[:8]
    assert broken.reasons == {bad.id: f"will not run: header member fail {failed} failed"}
    assert tree_of(live, by_chord.id, 3)[0] == [{"replace_with_group": [("add", "add")]}]
    assert tree_of(live, by_chain.id, 5)[0] == [["ok", {"replaced": [["ok", "ok"]]}, "chained"]]
    assert tree_of(live, spawned.id, 4)[0] == [{"start_chord": [[("add", "add"), "collect"]]}]
    assert tree_of(live, side.results[0].id, 4)[0] == [(["add", "ok"], ["add", "ok"])]
    assert tree_of(live, chains.id, 5)[0] == [[(["add", "ok"], ["add", "ok"]), "ok"]]
