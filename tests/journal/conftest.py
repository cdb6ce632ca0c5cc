"""A journal of one test, its writers, and what stands in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from services import missing

from plet_celery import journal_delivery
from plet_celery.events import Event
from plet_celery.journal import Writer, WriterLimits, open_journal
from plet_celery.journal_reader import Batch, Reader

# The disk under the tests may be as full as it likes.
LIMITS = WriterLimits(min_free_bytes=0, min_free_percent=0, reserve_bytes=0)


class NewWriter(Protocol):
    """Makes a writer of the test's journal; limits by keyword."""

    def __call__(self, directory: Path | None = None, **limits: Any) -> Writer: ...


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """An open, empty journal."""
    return open_journal(tmp_path / "journal").directory


@pytest.fixture
def new_writer(journal: Path) -> Iterator[NewWriter]:
    """Writers that are closed after the test."""
    made: list[Writer] = []

    def make(directory: Path | None = None, **limits: Any) -> Writer:
        chosen = {"min_free_bytes": 0, "min_free_percent": 0, "reserve_bytes": 0} | limits
        writer = Writer(directory or journal, role="child", limits=WriterLimits(**chosen))
        made.append(writer)
        return writer

    yield make
    for writer in made:
        writer.close()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers that wait for a slow disk: here it is a busy machine, and a queue is not the subject."""
    monkeypatch.setattr(journal_delivery, "SLOW_IN_A_ROW", 1_000_000)


@pytest.fixture
def read_all() -> Callable[[Path], Batch]:
    """Reads a journal from the start, batch by batch, into one."""
    return read_journal


def read_journal(directory: Path) -> Batch:
    """Return everything that stands in a journal."""
    reader, whole = Reader(directory), Batch()
    while True:
        batch = reader.read()
        whole.events += batch.events
        whole.damaged += batch.damaged
        whole.positions |= batch.positions
        whole.headers |= batch.headers
        whole.gaps |= batch.gaps
        whole.unsupported |= batch.unsupported
        for writer, drops in batch.drops.items():
            total = whole.drops.setdefault(writer, {})
            for reason, count in drops.items():
                total[reason] = total.get(reason, 0) + count
        if not batch.more:
            return whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a tmpfs of a given size (`512k`) and returns its path."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        point = tmp_path / f"disk{len(mounted)}"
        point.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "plet-test", str(point)]
        if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
            missing("tmpfs", "run the tests as root, where mounting is allowed")
        mounted.append(point)
        return point

    yield mount
    for point in mounted:
        subprocess.run(["umount", "--lazy", str(point)], check=True)


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., Any]:
    """Runs Python source in a process of its own and returns what it prints as JSON."""

    def run(source: str, *arguments: object) -> Any:
        script = tmp_path / "script.py"
        script.write_text(source)
        command = [sys.executable, str(script), *map(str, arguments)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def texts(events: list[Event]) -> list[Any]:
    """Return the `i` of each event, in order."""
    return [event.data["i"] for event in events]
