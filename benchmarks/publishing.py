"""What plet adds to a caller: time per `apply_async`, at the first one, and at the end of a script.

Three callers publish in turns to one Valkey: a plain app, one with `Plet(app)` on a host that no shipper
serves, one where a shipper does (its lock is held, so `run.queued` is written). Then whole scripts that
publish once. CPU time of the caller beside the wall clock: a round trip to the broker is mostly waiting.

    python benchmarks/publishing.py [--rounds 15] [--publishes 300] [--scripts 9]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery

from plet_celery import Plet
from plet_celery.election import ShipLock
from plet_celery.embedded.valkey import Valkey, running_valkey
from plet_celery.journal import open_journal

_SCRIPT = """\
import sys, time
from celery import Celery
app = Celery("script", broker=sys.argv[1])
if sys.argv[2] != "plain":
    from plet_celery import Plet
    app.conf.plet_home = sys.argv[3]
    Plet(app)
start = time.perf_counter()
app.send_task("nothing")
first = time.perf_counter() - start
print(first, time.process_time(), time.time(), flush=True)
"""


def publisher(server: Valkey, home: Path | None, *, served: bool) -> Callable[[int], tuple[float, float]]:
    """Return what publishes `count` messages and tells seconds per message: by the clock, and of CPU."""
    app = Celery(f"bench-{served}", broker=server.broker_url, set_as_current=False)
    if home is not None:
        app.conf.plet_home = str(home)
        open_journal(Plet(app).journal)
        if served:
            lock = ShipLock(Plet(app).journal)
            assert lock.acquire()
            _held.append(lock)

    @app.task(name="nothing", ignore_result=True, shared=False)
    def nothing(number: int, name: str) -> None: ...

    task: Any = nothing

    def publish(count: int) -> tuple[float, float]:
        start, cpu = time.perf_counter(), time.process_time()
        for number in range(count):
            task.apply_async((number,), {"name": "of a row"})
        return (time.perf_counter() - start) / count, (time.process_time() - cpu) / count

    return publish


_held: list[ShipLock] = []
_PARTS = (
    "a script, all of it, by the clock",
    "a script, all of it, CPU",
    "its first publish, by the clock",
    "from there to its end, by the clock",
    "from there to its end, CPU",
)


def script(server: Valkey, home: Path, kind: str) -> tuple[float, ...]:
    """Run a script that publishes once; return seconds, in the order of `_PARTS`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PLET_")}
    argv = [sys.executable, "-c", _SCRIPT, server.broker_url, kind, str(home)]
    start, used = time.time(), _cpu_of_children()
    done = subprocess.run(argv, env=env, check=True, capture_output=True, text=True)
    end, cpu = time.time(), _cpu_of_children() - used
    first, cpu_then, at = map(float, done.stdout.split())
    return end - start, cpu, first, end - at, cpu - cpu_then


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compare(name: str, plain: list[float], ours: list[float], unit: float = 1e6, word: str = "us") -> None:
    """Print medians and the median of the rounds' ratios."""
    ratio = statistics.median(one / other for one, other in zip(ours, plain, strict=True))
    print(
        f"{name:42} {statistics.median(ours) * unit:8.1f} {word}, plain "
        f"{statistics.median(plain) * unit:8.1f} {word}, ratio {ratio:.3f}"
    )


def main() -> None:
    """Print what each caller pays, as ratios to plain Celery."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--publishes", type=int, default=300)
    parser.add_argument("--scripts", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_valkey(Path(name)) as server:
        folder = Path(name)
        # Plet's receivers see every app's signals, so "plain" carries their filter, as in life.
        callers = {
            "plain": publisher(server, None, served=False),
            "without a shipper": publisher(server, folder / "unserved", served=False),
            "with a shipper": publisher(server, folder / "served", served=True),
        }
        times: dict[str, list[tuple[float, float]]] = {one: [] for one in callers}
        for publish in callers.values():
            publish(20)
        for _ in range(options.rounds):
            for one, publish in callers.items():
                times[one].append(publish(options.publishes))
            server.flush()
        print(f"rounds: {options.rounds} of {options.publishes} publishes, interleaved")
        for number, clock in enumerate(("by the clock", "CPU")):
            plain, unserved, served = ([one[number] for one in found] for found in times.values())
            compare(f"apply_async, no shipper here, {clock}", plain, unserved)
            compare(f"apply_async, run.queued written, {clock}", plain, served)
        kinds: dict[str, list[tuple[float, ...]]] = {"plain": [], "plet": []}
        for _ in range(options.scripts):
            for kind, found in kinds.items():
                found.append(script(server, folder / "served", kind))
        for number, what in enumerate(_PARTS):
            before, ours = ([one[number] for one in kinds[kind]] for kind in ("plain", "plet"))
            compare(what, before, ours, 1e3, "ms")
    for lock in _held:
        lock.close()


if __name__ == "__main__":
    main()
