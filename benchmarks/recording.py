"""What recording adds to a task in the task process, beside what one Redis result adds.

Both sides run interleaved in one process; the figure is the median of the rounds' ratios.

    python benchmarks/recording.py [--redis URL] [--rounds 15] [--tasks 2000]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.app.trace import build_tracer

from plet_celery import Plet, TrackedTask


def _nothing() -> None: ...


def tracer(app: Celery, name: str, **options: object) -> Callable[[int], float]:
    """Return what runs `count` no-op tasks through Celery's own tracer and tells seconds per task."""

    decorate: Any = app.task(name=name, **options)  # type: ignore[call-overload]
    task = app.tasks[decorate(_nothing).name]
    trace = build_tracer(name, task, app=app)
    request = {"hostname": "bench@host", "delivery_info": {"routing_key": "celery"}, "is_eager": False}

    def run(count: int) -> float:
        start = time.perf_counter()
        for number in range(count):
            task_id = f"00000000-0000-0000-0000-{number:012d}"
            trace(task_id, [], {}, {**request, "id": task_id, "root_id": task_id})
        return (time.perf_counter() - start) / count

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", default="redis://127.0.0.1:6379/15")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tasks", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        plain = tracer(Celery("plain", set_as_current=False), "plain", ignore_result=True)
        redis = tracer(Celery("redis", backend=options.redis, set_as_current=False), "redis")
        # Plet's receivers see every app's signals, so "plain" carries their filter, as in life.
        recorded_app = Celery("recorded", set_as_current=False)
        recorded_app.conf.update(plet_home=home, plet_shipper="off")
        Plet(recorded_app)
        recorded = tracer(recorded_app, "recorded", ignore_result=True, base=TrackedTask)
        thinned_app = Celery("thinned", set_as_current=False)
        thinned_app.conf.update(plet_home=home, plet_shipper="off", plet_sample={"thinned": 0.0})
        Plet(thinned_app)
        thinned = tracer(thinned_app, "thinned", ignore_result=True, base=TrackedTask)
        ratios, added, results, left_out = [], [], [], []
        for _ in range(options.rounds):
            base, with_redis, with_plet = plain(options.tasks), redis(options.tasks), recorded(options.tasks)
            left_out.append((thinned(options.tasks) - base) / (with_plet - base))
            added.append(with_plet - base)
            results.append(with_redis - base)
            ratios.append((with_plet - base) / (with_redis - base))
    print(
        f"added per task: plet {statistics.median(added) * 1e6:.1f} us, Redis result "
        f"{statistics.median(results) * 1e6:.1f} us, ratio {statistics.median(ratios):.3f} (hold 0.15)"
    )
    print(f"a run that sampling leaves out ÷ a recorded one: {statistics.median(left_out):.2f}")


if __name__ == "__main__":
    main()
