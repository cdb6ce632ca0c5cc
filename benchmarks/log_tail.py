"""The last 200 lines of a 1 GiB run log: `RunLog.tail` beside `tail -n 200`, in the same run.

    python benchmarks/log_tail.py [--rounds 21] [--gib 1.0]

The file has real lines of 128 bytes and its index; both sides find it in the page cache. `tail` is
timed with its process, as a program that calls it would pay; the function is timed in ours. Also
shown: 200 lines in the middle, and the last 10 warnings (there are none: the whole index is read).
"""

from __future__ import annotations

import argparse
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plet_celery.logfiles import RunLog, text

LENGTH = 128
HOLD = 0.5


def make_log(folder: Path, size: int) -> int:
    """Write a log of `size` bytes with its index; return the number of lines."""
    block_lines = (1 << 20) // LENGTH
    pack = struct.Struct("<QdIIHHBBH").pack
    lines = size // LENGTH // block_lines * block_lines
    stamp, _ = text.Clock().at(1_700_000_000.0)
    head = text.record(stamp, "[INFO] [shop.load]", "imported a row ")
    block = (head[:-1] + b"." * (LENGTH - len(head)) + b"\n") * block_lines
    with (folder / "run.log").open("wb") as log, (folder / "run.idx").open("wb") as index:
        for first in range(0, lines, block_lines):
            log.write(block)
            numbers = range(first, first + block_lines)
            index.write(
                b"".join(
                    pack(number * LENGTH, 1_700_000_000.0 + number, number + 1, LENGTH, 1, 0, 20, 0, 3)
                    for number in numbers
                )
            )
    return lines


def milliseconds(act: Callable[[], Any]) -> float:
    """Return how long a call took."""
    start = time.perf_counter()
    act()
    return (time.perf_counter() - start) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--gib", type=float, default=1.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "run"
        folder.mkdir(mode=0o700)
        lines = make_log(folder, int(options.gib * (1 << 30)))
        log, path = RunLog(folder), str(folder / "run.log")

        def tail() -> None:
            subprocess.run(["tail", "-n", "200", path], check=True, capture_output=True)

        sides: dict[str, Callable[[], Any]] = {
            "tail -n 200": tail,
            "RunLog.tail(200)": lambda: log.tail(200),
            "RunLog.range(middle, 200)": lambda: log.range(lines // 2, 200),
            "RunLog.tail(10, level=30)": lambda: log.tail(10, level=30),
        }
        assert len(log.tail(200)) == len(log.range(lines // 2, 200)) == 200
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(options.rounds):
            for name, act in sides.items():
                times[name].append(milliseconds(act))
    print(f"{options.gib:g} GiB, {lines:,} lines, median of {options.rounds} rounds")
    base = statistics.median(times["tail -n 200"])
    for name, taken in times.items():
        middle = statistics.median(taken)
        print(f"{name:28} {middle:9.2f} ms   {middle / base:6.2f} × tail (hold for the first: {HOLD})")


if __name__ == "__main__":
    main()
