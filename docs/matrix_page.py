# ruff: noqa: E501 (the page's own lines)
"""Writes docs/pools.md from the matrix that the live tests hold against real workers.

python docs/matrix_page.py
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("pools.md")
MATRIX = Path(__file__).parents[1] / "tests" / "live" / "matrix.py"

_INTRODUCTION = """\
# Pools, brokers and result backends

<!-- Written by docs/matrix_page.py from tests/live/matrix.py; change it there. -->

What becomes of a run is decided by Celery, and Celery's pools differ. The tables below are what the tests see with real
workers: a run's state as plet tells it, and in small print what Celery's result backend says.

## How runs end, by pool

**Bold** differs from prefork; the reason is listed below the table. – means that the end does not exist there.

"""

_TEXT = """\
## What cannot be told apart

* **threads**: all runs share the worker's process. CPU seconds are those of the run's own thread (on Linux; not of threads
  that it starts), and there is no memory figure.
* **gevent**: all runs share one thread: there are no resource figures. A task that never yields holds up every other one,
  the worker's watch over the shipper included; nothing is lost by that. The shipper is a process of its own, without gevent.
* Log lines, stages, progress, metadata and measures are each run's own on every pool. Under gevent and threads, `print` and
  warnings stay captured between runs, too.
* A process that is killed takes all its runs with it: under threads, gevent and solo those are all runs of the worker.
* eventlet is not tested.

## Brokers

{brokers}

Tested with each: prefork with every end above; {smoke}. The states are the same. What brokers do differently:

{notes}

## Result backends

A run's end is Celery's own writing; plet adds progress (`PROGRESS`) while it runs. With each backend tasks reported progress as fast
as they could, up to their last line, and the state was right afterwards.

| backend | progress in the backend | remarks |
|---|---|---|
| Redis, Valkey | yes | |
| database (SQLAlchemy) | yes | tested on PostgreSQL; each update is a transaction, `plet_meta_rate` says how many there are |
| RPC over RabbitMQ | for the caller only | every state is a message to the one who called; others see the run in plet's store |
| RPC over Redis and others | no | a reader that looks at a state puts its message back behind the final one, which is then lost ([why](decisions/0033-no-progress-by-rpc-over-redis.md)) |
| filesystem | no | the file is written in place, a reader would find it empty or torn ([why](decisions/0013-no-progress-in-files.md)) |
| none, `ignore_result` | no | state and progress are in plet's store |

`TrackedResult(id, app=app).progress` reads the backend while the task runs, and plet's store where the backend has nothing.
"""


def page() -> str:
    """Return the whole page."""
    matrix = runpy.run_path(str(MATRIX))
    lines = [
        _INTRODUCTION.rstrip("\n"),
        "",
        *_table(matrix),
        "",
        "Why pools differ:",
        "",
        *_reasons(matrix),
        "",
    ]
    smoke = ", ".join(f"{pool} on {matrix['BROKERS'][broker]}" for pool, broker in matrix["SMOKE"])
    text = _TEXT.format(
        brokers="; ".join(matrix["BROKERS"].values()) + ".",
        smoke=f"{smoke} with what leaves the worker alive",
        notes="\n".join(f"* {note}" for note in matrix["NOTES"]),
    )
    return "\n".join(lines) + "\n" + text


def _table(matrix: dict[str, Any]) -> list[str]:
    pools = matrix["POOLS"]
    lines = [f"| end | what happens | {' | '.join(pools)} |", "|---|---|" + "---|" * len(pools)]
    for end, (what, usual) in matrix["ENDS"].items():
        cells = [_cell(matrix["outcome"](end, pool), usual) for pool in pools]
        lines.append(f"| {end} | {what} | {' | '.join(cells)} |")
    return lines


def _cell(found: Any, usual: Any) -> str:
    if found is None:
        return "–"
    state = found.plet if found.plet == usual.plet else f"**{found.plet}**"
    return f"{state} <sub>{found.celery}</sub>" if found.celery else state


def _reasons(matrix: dict[str, Any]) -> list[str]:
    by_reason: dict[tuple[str, str], list[str]] = {}
    for end in matrix["ENDS"]:
        for pool in matrix["POOLS"]:
            if why := matrix["reason"](end, pool):
                by_reason.setdefault((pool, why), []).append(end)
    order = {pool: number for number, pool in enumerate(matrix["POOLS"])}
    found = sorted(by_reason.items(), key=lambda item: order[item[0][0]])
    return [f"* **{pool}**, {'; '.join(f'*{end}*' for end in ends)}: {why}." for (pool, why), ends in found]


if __name__ == "__main__":
    PAGE.write_text(page())
