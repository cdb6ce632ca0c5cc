"""What differs for a run where many share a process, without a worker; with one: tests/live."""

from __future__ import annotations

import sys
from typing import Any

import gevent
import pytest
from gevent.hub import GreenletExit
from listwriter import ListWriter

from plet_celery import resources
from plet_celery.ends import being_stopped, end_of, is_told_by_main
from plet_celery.redaction import Redactor
from plet_celery.run import Run, RunFacts, RunLimits


def make(writer: ListWriter, **options: Any) -> Run:
    hard_limit = options.pop("hard_limit", None)
    facts = RunFacts("a-run", "an-attempt", "proj.load", hard_limit=hard_limit)
    return Run(facts, writer=writer, redactor=Redactor(), limits=RunLimits(), **options)


@pytest.mark.parametrize("strikes", [True, False])
def test_meta_goes_on_past_a_hard_limit_that_the_pool_does_not_keep(
    writer: ListWriter, strikes: bool
) -> None:
    metas: list[Any] = []
    run = make(writer, hard_limit=1.0, store_meta=metas.append, hard_limit_strikes=strikes)
    run.started -= 60

    with run.stage("late", total=2) as stage:
        stage.advance()

    assert bool(metas) is not strikes


def test_a_greenlet_killed_by_the_worker_is_told_by_its_main_process(writer: ListWriter) -> None:
    run = make(writer)
    assert not is_told_by_main(GreenletExit(), run, "gevent")

    being_stopped.add(run.id)
    try:
        assert is_told_by_main(GreenletExit(), run, "gevent")
        assert not is_told_by_main(GreenletExit(), run, "thread")
    finally:
        being_stopped.discard(run.id)


def test_a_greenlet_killed_by_anybody_else_is_lost(writer: ListWriter) -> None:
    kind, data = end_of(GreenletExit(), make(writer))

    assert kind == "run.lost"
    assert data["reason"] == "its greenlet was killed"


def test_a_gevent_timeout_is_the_hard_limit_only_where_there_is_one(writer: ListWriter) -> None:
    timeout = gevent.Timeout(1)

    assert is_told_by_main(timeout, make(writer, hard_limit=5.0), "gevent")
    assert not is_told_by_main(timeout, make(writer), "gevent")
    assert end_of(timeout, make(writer))[0] == "run.failed"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of one thread")
def test_usage_tells_what_can_be_told_apart() -> None:
    told = {
        of: set(resources.used_since(resources.snapshot(of), of))
        for of in (resources.PROCESS, resources.THREAD, resources.NOTHING)
    }

    assert told == {
        resources.PROCESS: {"cpu_user", "cpu_system", "rss_max_bytes"},
        resources.THREAD: {"cpu_user", "cpu_system"},
        resources.NOTHING: set(),
    }
