"""`stage.advance()` and `track()` in a tight loop, beside tqdm's `update` and tqdm's loop.

python benchmarks/advance.py [--rounds 15] [--calls 300000]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from plet_celery.redaction import Redactor
from plet_celery.run import Run, RunFacts, RunLimits


class NoWriter:
    """Takes events and forgets them: the loop is measured, not the disk."""

    def append(self, kind: str, run: str | None, attempt: str | None, data: dict[str, Any]) -> bool:
        """Forget one event."""
        return True

    def drop(self, reason: str, count: int = 1) -> None:
        """Forget a count."""


def seconds(act: Callable[[], None], calls: int) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    act()
    return (time.perf_counter() - start) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=300_000)
    options = parser.parse_args()
    calls, null = options.calls, open(os.devnull, "w")  # noqa: SIM115
    run = Run(RunFacts("r", "a", "t"), writer=NoWriter(), redactor=Redactor(), limits=RunLimits())

    def advance() -> None:
        with run.stage("load", total=calls) as stage:
            for _ in range(calls):
                stage.advance()

    def update() -> None:
        with tqdm(total=calls, file=null) as bar:
            for _ in range(calls):
                bar.update()

    def track() -> None:
        for _ in run.track(range(calls), "load"):
            pass

    def loop() -> None:
        for _ in tqdm(range(calls), file=null):
            pass

    for name, ours, theirs in (("advance", advance, update), ("track", track, loop)):
        pairs = [(seconds(ours, calls), seconds(theirs, calls)) for _ in range(options.rounds)]
        ratio = statistics.median(a / b for a, b in pairs)
        a, b = (statistics.median(column) * 1e9 for column in zip(*pairs, strict=True))
        print(f"{name}: plet {a:.0f} ns, tqdm {b:.0f} ns, ratio {ratio:.2f} (hold 0.5)")
    null.close()


if __name__ == "__main__":
    main()
