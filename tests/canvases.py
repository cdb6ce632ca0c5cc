"""Runs of canvases as real workers record them, for the tests of the tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from timelines import T0

from plet_celery.web.drawing.canvas import Canvas, Unit
from plet_celery.web.drawing.canvas_view import lines


@dataclass
class Member:
    """A run as `canvas` takes it."""

    id: str
    task: str = "shop.parse"
    state: str = "succeeded"
    percent: float | None = None
    parent_id: str | None = None
    group_id: str | None = None
    group_index: int | None = None
    chord: str | None = None
    chain_left: int | None = None
    queued_at: float | None = T0
    started_at: float | None = T0 + 1
    ended_at: float | None = None
    runtime: float | None = None
    attempts: int = 1
    error: object = None

    @property
    def short_id(self) -> str:
        return self.id[:8]


def run(name: str, state: str = "succeeded", at: float = 0.0, **fields: Any) -> Member:
    """A run that was published `at` seconds after T0."""
    started = None if state == "queued" else T0 + at + 0.1
    return Member(name, **{"state": state, "queued_at": T0 + at, "started_at": started, **fields})


def chain(
    *names: str, first: str | None = None, at: float = 0.0, to_come: int = 0, **last: Any
) -> list[Member]:
    """Runs of a chain, each published by the one before; `last` are fields of the last one."""
    runs = []
    for place, name in enumerate(names):
        left = len(names) - 1 - place + to_come
        parent = names[place - 1] if place else first
        more = last if place == len(names) - 1 else {}
        runs.append(run(name, at=at + place, parent_id=parent, chain_left=left or None, **more))
    return runs


def group(key: str, *names: str, **fields: Any) -> list[Member]:
    """Members of a group."""
    return [run(name, group_id=key, group_index=index, **fields) for index, name in enumerate(names)]


def shape(tree: Canvas | Unit) -> Any:
    """The tree as nested lists of ids: a chain is a list of its steps, a group a tuple of its members.

    What a run started stands behind it in a dict: `{"a": [...]}`.
    """
    if isinstance(tree, Canvas):
        return [shape(unit) for unit in tree.units]
    steps: list[Any] = []
    for step in tree.steps:
        inner = [shape(unit) for unit in step.units]
        if step.run is not None:
            steps.append({step.run.id: inner} if inner else step.run.id)
        else:
            steps.append(tuple(inner) if step.kind == "group" else None)
    return steps if tree.is_chain else steps[0]


def shown(tree: Canvas) -> list[str]:
    """The names of the lines, indented by the lists that they are in."""
    found, depth = [], 0
    for line in lines(tree):
        if line.kind == "open":
            depth += 1
        elif line.kind == "close":
            depth -= 1
        elif line.kind != "end":
            found.append("  " * depth + (line.run_id or f"{line.name or line.kind} {line.size}"))
    return found
