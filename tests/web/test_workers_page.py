"""Workers as rows: from what they told, what they run, and what Flower heard, whatever its shape."""

from __future__ import annotations

from typing import Any

import pytest

from plet_celery.store.overviews import WorkerStatus
from plet_celery.store.records import Run
from plet_celery.web.frame import fragment
from plet_celery.web.workers import Heard, heard_of, rows

NOBODY = Heard(None, None, None)


def status(name: str, **facts: Any) -> WorkerStatus:
    return WorkerStatus(name=name, **({"started_at": 1.0, "is_living": True} | facts))


def run(number: int) -> Run:
    return Run(id=str(number), short_id=str(number), task="t", state="running")


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({}, "online"),
        ({"stopping_at": 2.0}, "stopping"),
        ({"stopped_at": 2.0}, "stopped"),
        ({"is_living": False, "unreachable_since": 2.0}, "silent"),
        ({"is_living": False, "lost_at": 2.0}, "lost"),
        ({"is_living": False}, "gone"),
    ],
)
def test_a_worker_has_the_state_that_it_told_or_its_host(facts: dict[str, Any], state: str) -> None:
    (row,) = rows([status("a", **facts)], {}, {})

    assert row.state == state


def test_each_name_is_one_row_also_where_only_flower_or_a_run_knows_it() -> None:
    found = rows([status("a"), status("a", stopped_at=2.0)], {"b": [run(1)]}, {"c": NOBODY})

    assert [(row.name, row.state) for row in found] == [("a", "online"), ("b", "unknown"), ("c", "unknown")]


@pytest.mark.parametrize(
    ("facts", "heard", "is_linked"),
    [
        ({}, NOBODY, True),  # it answers when Flower asks it
        ({"stopped_at": 2.0}, NOBODY, False),
        ({"lost_at": 2.0}, NOBODY, False),
        ({"stopped_at": 2.0}, Heard(1.0, 70 << 20, 8), True),
    ],
)
def test_a_name_leads_to_flowers_page_where_flower_has_one(
    facts: dict[str, Any], heard: Heard, is_linked: bool
) -> None:
    html = fragment(
        "workers_list.html",
        rows=rows([status("a", **facts)], {}, {"a": heard}),
        worker_url=lambda name: f"/worker/{name}",
        run_url=str,
        plet_url=str,
        is_cut=False,
        is_more_running=False,
        limit=10,
    )

    assert ('href="/worker/a"' in html) is is_linked
    assert ">a</" in html


def test_of_many_runs_some_are_shown_and_the_rest_counted() -> None:
    (row,) = rows([], {"a": [run(number) for number in range(30)]}, {})

    assert (len(row.running), row.more_running) == (12, 18)


@pytest.mark.parametrize(
    "stats",
    [
        *(
            None,
            [],
            "text",
            {"rusage": 7, "pool": []},
            {"rusage": {"maxrss": "1"}, "pool": {"max-concurrency": "x"}},
        ),
        *(
            {"rusage": {"maxrss": float("nan")}},
            {"rusage": {"maxrss": float("inf")}},
            {"pool": {"max-concurrency": {}}},
        ),
    ],
)
def test_no_statistics_of_a_worker_make_the_page_fail(stats: Any) -> None:
    assert heard_of([], stats) == NOBODY
    assert heard_of([float("nan")], stats).beat_at is None


def test_what_flower_heard_is_told() -> None:
    stats = {"rusage": {"maxrss": 1024}, "pool": {"max-concurrency": 4}}

    assert heard_of([1.0, 5.0], stats) == Heard(5.0, 1 << 20, 4)
