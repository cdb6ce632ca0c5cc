"""Forks writers and kills them at random moments; prints what each had acknowledged.

Usage: kills.py <journal> <kills> <seed> <file|buffer>
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plet_celery import journal_delivery
from plet_celery.events import FORMAT
from plet_celery.journal import Writer, WriterLimits
from plet_celery.journal_format import Record, encode, frame, salt_of, segment_name

KINDS = ("run.started", "stage.progressed", "log.written", "run.succeeded")


def main() -> None:
    directory, kills, seed, how = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    dice = random.Random(seed)
    # A busy machine is no slow disk: what is queued is acknowledged before it is written.
    journal_delivery.SLOW_IN_A_ROW = 1_000_000  # type: ignore[attr-defined]
    limits = WriterLimits(segment_max_bytes=16_000, min_free_bytes=0, min_free_percent=0, reserve_bytes=0)
    writer = Writer(directory, role="child", limits=limits)
    acknowledged = []
    for number in range(kills):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _write(directory, writer, how, writing, number, dice.random())
        os.close(writing)
        acknowledged.append(_kill_and_collect(pid, reading, dice.uniform(0.0, 0.04)))
        os.close(reading)
    json.dump(acknowledged, sys.stdout)


def _write(directory: Path, writer: Writer, how: str, acks: int, number: int, seed: float) -> None:
    dice = random.Random(seed)
    append: Callable[..., bool] = _buffered(directory) if how == "buffer" else writer.append
    i = 0
    while True:
        i += 1
        data: dict[str, Any] = {"i": [number, i], "text": "x" * dice.choice((1, 50, 5_000))}
        if append(dice.choice(KINDS), f"run-{number}", "attempt", data):
            os.write(acks, struct.pack("<q", i))


def _buffered(directory: Path) -> Callable[[str, str, str, dict[str, Any]], bool]:
    """Negative control: a writer like any other, but with a buffer of its own."""
    name = os.urandom(16).hex()
    salt = salt_of(name, 1)
    file = open(directory / segment_name(name, 1), "ab")  # noqa: SIM115 - until the process is killed

    def append(kind: str, run: str, attempt: str, data: dict[str, Any]) -> bool:
        file.write(frame(encode(Record(FORMAT, kind, 1, 1.0, 1.0, run, attempt, data)), salt))
        return True

    return append


def _kill_and_collect(pid: int, acks: int, delay: float) -> list[int]:
    received = b""
    # The delay begins with the first acknowledgement, or a busy machine would kill only beginners.
    select.select([acks], [], [], 120)
    select.select([], [], [], delay)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while chunk := os.read(acks, 1 << 16):
        received += chunk
    whole = len(received) // 8 * 8
    return [number for (number,) in struct.iter_unpack("<q", received[:whole])]


if __name__ == "__main__":
    main()
