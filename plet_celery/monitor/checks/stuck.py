"""`stuck`: runs that run, and have told nothing for longer than they may; with what their process does."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from plet_celery.monitor import stacks
from plet_celery.monitor.checks.look import Looks
from plet_celery.settings import Settings
from plet_celery.store import stillness
from plet_celery.store.stillness import StillRun
from plet_celery.terminal.text import span
from plet_celery.watchfacts import CheckResult, Level

NAME: Final = "stuck"
RUNS_SHOWN: Final = 20
STACKS_MAX: Final = 5
"""So many processes of each task are asked what they do."""


def check(looks: Looks) -> Iterator[CheckResult]:
    """Look for them, task by task, and ask their processes for their stacks."""
    settings = looks.world.settings
    found = stillness.still_runs(looks.world.store, now=looks.now, limit_of=limits_of(settings))
    by_task: dict[str, list[StillRun]] = {}
    for one in found:
        by_task.setdefault(one.task, []).append(one)
    asked = [run for runs in by_task.values() for run in runs[:STACKS_MAX]]
    seen: Mapping[str, stacks.Stack] = {}
    if asked:
        try:
            seen = stacks.ask(looks.world.app, asked, seconds=looks.seconds * 0.5)
        # Without a broker they are stuck all the same.
        except Exception:
            seen = {}
    if not found:
        yield CheckResult(
            name=NAME,
            level=Level.OK,
            observation="every running run has told something of late",
            expectation=f"progress or a line within {span(settings.stuck_after, whole=True)}",
        )
    for task, runs in sorted(by_task.items()):
        yield decide(task, runs, seen)


def limits_of(settings: Settings) -> Callable[[str], float]:
    """Return how long runs of a task may be silent, by its name."""

    def limit_of(task: str) -> float:
        for pattern, seconds in settings.stuck_after_tasks.items():
            if fnmatch.fnmatchcase(task, pattern):
                return seconds
        return settings.stuck_after

    return limit_of


def decide(task: str, runs: Sequence[StillRun], seen: Mapping[str, stacks.Stack]) -> CheckResult:
    """Say of one task which of its runs are stuck, the longest first."""
    first = runs[0]
    where = f", in stage {first.stage}" if first.stage else ""
    count = f"{len(runs)} runs tell nothing, the longest" if len(runs) > 1 else "a run tells nothing"
    return CheckResult(
        name=NAME,
        subject=task,
        level=Level.WARNING,
        observation=f"{count} for {span(first.silent_for, whole=True)}{where}"
        f" ({first.worker or 'worker unknown'})",
        expectation=f"progress or a line within {span(first.limit, whole=True)}",
        affected=f"{len(runs)} run{'s' if len(runs) > 1 else ''} of {task}, and the slots they hold",
        advice="see its stack below; raise plet_stuck_after_tasks where a task is silent for good reason",
        since=first.heard_at,
        values={"runs": [_shown(one, seen.get(one.run_id)) for one in runs[:RUNS_SHOWN]], "count": len(runs)},
    )


def _shown(run: StillRun, stack: stacks.Stack | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "run_id": run.run_id,
        "worker": run.worker,
        "host": run.host,
        "pid": run.pid,
        "stage": run.stage,
        "tenant": run.tenant,
        "silent_for": round(run.silent_for, 1),
    }
    if stack is not None:
        found |= {"stack": stack.text, "no_stack": stack.why_not}
    return {name: value for name, value in found.items() if value not in (None, "")}
