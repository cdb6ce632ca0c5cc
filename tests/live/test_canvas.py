"""Context through every way a task can start another: chain, group, chord, link, replace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import chain, chord, group
from waiting import wait_until

from plet_celery.store import queries

MakeLive = Callable[[], Any]
HEADERS = {"plet_tenant": "acme/north", "plet_user": "bob", "plet_trigger": "api"}


def canvas(live: Any, key: str, count: int) -> list[Any]:
    """The runs of one canvas, once `count` of them have succeeded."""

    def ended() -> list[Any]:
        runs = queries.list_runs(live.store(), canvas=key, limit=50).items if live.is_readable() else []
        return runs if sum(run.state == "succeeded" for run in runs) >= count else []

    return wait_until(ended, 30)


def test_context_reaches_every_member_of_a_canvas(make_live: MakeLive) -> None:
    live = make_live()
    live.worker("-c", "2")
    app = live.app()

    head = app.add.s(1, 1).set(headers=dict(HEADERS))
    chained: Any = chain(head, app.chained.s(), app.chained.s()).apply_async()
    linked = app.ok.apply_async(link=app.link_target.s(), headers=dict(HEADERS))
    replaced = app.replace_with_group.apply_async(headers=dict(HEADERS))
    grouped = group(app.add.s(n, n) for n in range(3)).apply_async(headers=dict(HEADERS))
    chorded: Any = chord([app.add.s(n, n) for n in range(2)], app.collect.s()).apply_async(
        headers=dict(HEADERS)
    )

    first = chained.parent.parent.id
    families = {
        "chain": canvas(live, first, 3),
        "link": canvas(live, linked.id, 2),
        "replace": canvas(live, replaced.id, 3),
        "group": canvas(live, grouped.id, 3),
        "chord": canvas(live, chorded.parent.id, 3),
    }

    for name, runs in families.items():
        assert {(run.tenant, run.user) for run in runs} == {("acme/north", "bob")}, name
    assert [run.trigger for run in families["chain"] if run.id == first] == ["api"]
    assert {run.trigger for run in families["chain"] if run.id != first} == {"task"}
    assert {run.trigger for run in families["group"]} == {"api"}
    called = live.wait_state(replaced.id, "succeeded")
    assert (called.trigger, called.replaced, called.attempts) == ("api", True, 2)
    assert {run.queued_at is not None for runs in families.values() for run in runs} == {True}
