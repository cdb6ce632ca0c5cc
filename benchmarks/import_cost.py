"""What our plug-in adds to every `celery` call: CPU time of loading its entry point, in fresh processes.

Run: python benchmarks/import_cost.py [rounds]
Celery loads every `celery.commands` entry point in every call, workers included. Each round loads
Celery's commands without us, then us, in one process: two whole processes differ by more than we cost.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

_HOLD_MS = 5.0

_ROUND = """
import importlib.metadata as metadata, json, sys, time
all_of_them = metadata.entry_points
def without_us(**given):
    return [one for one in all_of_them(**given) if not one.value.startswith("plet_celery")]
metadata.entry_points = without_us
from celery.bin.celery import celery
whole = time.process_time() * 1000
(ours,) = [one for one in all_of_them(group="celery.commands") if one.value.startswith("plet_celery")]
loaded = set(sys.modules)
started = time.process_time()
celery.add_command(ours.load())
added = (time.process_time() - started) * 1000
print(json.dumps({"added": added, "whole": whole, "modules": sorted(set(sys.modules) - loaded)}))
"""


def main() -> None:
    """Print the medians and the modules."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    found = [_round() for _ in range(rounds)]
    added = [one["added"] for one in found]
    print(f"added by the plug-in: median {statistics.median(added):.2f} ms of CPU, most {max(added):.2f} ms")
    print(f"hold: {_HOLD_MS:g} ms; rounds: {rounds}")
    print(
        f"Celery's command line without it: {statistics.median(one['whole'] for one in found):.0f} ms of CPU"
    )
    print("modules:", *found[0]["modules"])


def _round() -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", _ROUND], check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    main()
