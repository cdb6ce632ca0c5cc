"""Runs of every shape for the tests of the pages, and fragments rendered as a page renders them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlencode

from plet_celery.store.records import Attempt, Run, Stage
from plet_celery.web.frame import fragment
from plet_celery.web.moments import Reader, fill

T0 = 1_790_000_000.0
"""When the sample runs were queued."""


def make_run(state: str = "succeeded", **fields: Any) -> Run:
    values: dict[str, Any] = {"queued_at": T0, "started_at": T0 + 1, **fields}
    return Run(id="r-1", short_id="1f3a9c2e", task="shop.import_catalogue", state=state, **values)


def make_attempt(number: int = 1, state: str = "succeeded", start: float = 1.0, **fields: Any) -> Attempt:
    values: dict[str, Any] = {"worker": "celery@a", "started_at": T0 + start, **fields}
    return Attempt(id=f"a{number}", run_id="r-1", number=number, state=state, **values)


def make_stage(
    number: int, name: str, start: float | None, took: float | None, state: str = "", **fields: Any
) -> Stage:
    """A stage that began `start` seconds after T0 and took `took`; it runs if that is None."""
    values: dict[str, Any] = {"attempt_id": "a1", **fields}
    if start is not None:
        values["started_at"] = T0 + start
        if took is not None:
            values |= {"ended_at": T0 + start + took, "elapsed": took}
    state = state or ("planned" if start is None else "running" if took is None else "succeeded")
    return Stage(run_id="r-1", number=number, name=name, state=state, **values)


def make_child(
    number: int, task: str = "shop.parse", state: str = "succeeded", start: float = 2.0, took: float = 1.0
) -> Run:
    started = None if state == "queued" else T0 + start
    return Run(
        id=f"c{number}",
        short_id=f"c{number:07}",
        task=task,
        state=state,
        parent_id="r-1",
        queued_at=T0 + start - 0.5,
        started_at=started,
        ended_at=T0 + start + took if state not in ("queued", "running") else None,
        runtime=took if state not in ("queued", "running") else None,
    )


def render(name: str, **namespace: Any) -> str:
    """Return a fragment as a page sends it, twelve seconds after T0."""
    words: dict[str, Any] = {"here": _here, "run_url": lambda run_id: "/plet/runs/" + quote(run_id, safe="")}
    return fill(fragment(name, **words | namespace), Reader(T0 + 12)).decode()


def _here(**changes: object) -> str:
    return "?" + urlencode({key: value for key, value in changes.items() if value is not None})


def lines_of(rows: Iterable[Any]) -> list[tuple[str, int, str]]:
    """What rows are: kind, depth, name."""
    return [(row.kind, row.depth, row.name) for row in rows]
