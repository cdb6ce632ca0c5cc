"""What our plug-in adds to every `celery` call: paired timings of `celery --help` with and without it.

Run: python benchmarks/import_cost.py [rounds]
Celery imports every `celery.commands` entry point in every call, workers included. Both sides load the
other plug-ins (flower); "without" only skips ours.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

_HOLD_MS = 5.0

_WITHOUT = """
import importlib.metadata as metadata
before = metadata.entry_points
metadata.entry_points = lambda **given: [e for e in before(**given) if not e.value.startswith("plet_celery")]
"""
_CALL = """
import sys
sys.argv = ["celery", "--help"]
from celery.__main__ import main
main()
"""
_ALONE = """
import time, sys
sys.argv = ["celery", "--help"]
import importlib.metadata as metadata
before = metadata.entry_points
metadata.entry_points = lambda **given: [e for e in before(**given) if not e.value.startswith("plet_celery")]
import celery.bin.celery
loaded = set(sys.modules)
started = time.perf_counter()
import plet_celery.cli
print((time.perf_counter() - started) * 1000)
print(*sorted(set(sys.modules) - loaded))
"""


def main() -> None:
    """Print the medians and the modules."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    alone = [_run(_ALONE).splitlines() for _ in range(rounds)]
    cost = statistics.median(float(lines[0]) for lines in alone)
    pairs = [_pair() for _ in range(rounds)]
    print(
        f"the plug-in's import, after Celery's own: {cost:.2f} ms (median of {rounds}, hold {_HOLD_MS:g} ms)"
    )
    print(f"celery --help without it: {statistics.median(a for a, _ in pairs):.0f} ms")
    print(f"celery --help with it:    {statistics.median(b for _, b in pairs):.0f} ms")
    print(f"median difference of {rounds} pairs: {statistics.median(b - a for a, b in pairs):+.1f} ms")
    print("modules:", alone[0][1])


def _pair() -> tuple[float, float]:
    """Return milliseconds without and with, measured one right after the other."""
    return _time(_WITHOUT + _CALL), _time(_CALL)


def _time(code: str) -> float:
    started = time.perf_counter()
    _run(code)
    return (time.perf_counter() - started) * 1000


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
