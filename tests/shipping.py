"""Shippers and streaming writers as real processes, and the oracle for what they store."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waiting import wait_until

from plet_celery import paths, presence
from plet_celery.election import ShipLock
from plet_celery.journal import open_journal
from plet_celery.settings import fingerprint, settings_to_json
from plet_celery.settings_sources import load_settings
from plet_celery.spawning import spawn_shipper
from plet_celery.store import open_store, queries

STREAMING = Path(__file__).parent / "streaming.py"


def document(home: Path, **settings: Any) -> dict[str, Any]:
    """What `plet.shipper_config()` returns for this home; the journal exists afterwards."""
    quick = {"fsync_interval": 0.2, "min_free_bytes": 0, "min_free_percent": 0.0}
    chosen = load_settings({f"plet_{name}": value for name, value in (quick | settings).items()}, {})
    home.mkdir(mode=0o700, exist_ok=True)
    journal = paths.journal_directory(home)
    open_journal(journal)
    return {
        "settings": json.loads(settings_to_json(chosen)),
        "journal": str(journal),
        "home": str(home),
        "database_url": paths.default_database_url(home),
        "fingerprint": fingerprint(chosen),
        "celery": {"main": "shop", "conf": {"broker_url": "memory://"}},
    }


def serving(config: dict[str, Any]) -> presence.Beat | None:
    """The beat of the shipper that serves now, if there is one."""
    journal = Path(config["journal"])
    beat = presence.read_beat(journal)
    if beat is None or beat.state not in ("serving", "draining") or not ShipLock.held_elsewhere(journal):
        return None
    return beat if presence.is_visible(beat.process) else None


def told(config: dict[str, Any]) -> str:
    """What the shipper wrote into its log."""
    file = Path(config["journal"]) / "shipper.log"
    return file.read_text() if file.exists() else ""


@contextlib.contextmanager
def shipping(config: dict[str, Any], **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A shipper, ended at the end whatever it does; waited for until it serves or has ended."""
    process = spawn_shipper(config, **more)
    try:
        wait_until(lambda: process.poll() is not None or is_served_by(config, process), 30, what=told(config))
        yield process
    finally:
        end(process)


def is_served_by(config: dict[str, Any], process: subprocess.Popen[bytes]) -> bool:
    beat = serving(config)
    return beat is not None and beat.process.pid == process.pid


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL and reap, also one that is stopped."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()


def ended(process: subprocess.Popen[bytes], timeout: float = 30.0) -> int:
    """Wait for the exit code."""
    return process.wait(timeout)


@dataclass
class Writing:
    """A streaming writer."""

    process: subprocess.Popen[bytes]
    notes: Path

    def wait(self, timeout: float = 120.0) -> None:
        """Wait until it has written all."""
        assert self.process.wait(timeout) == 0

    def held(self) -> dict[str, str]:
        """Wait until it holds; return the `run` it has begun and its `writer` id."""
        assert self.process.stdout is not None
        found: dict[str, str] = json.loads(self.process.stdout.readline())
        return found


@contextlib.contextmanager
def writing(config: dict[str, Any], seed: int, **options: Any) -> Iterator[Writing]:
    """A process that writes runs; see streaming.Options."""
    notes = Path(config["home"]) / f"acknowledged-{seed}"
    chosen = {"journal": config["journal"], "notes": str(notes), "seed": seed} | options
    process = subprocess.Popen(
        [sys.executable, STREAMING, json.dumps(chosen)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield Writing(process, notes)
    finally:
        end(process)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


@dataclass
class Said:
    """What the journal acknowledged, by run."""

    lines: dict[str, list[int]] = field(default_factory=dict)
    kinds: dict[str, Counter[str]] = field(default_factory=dict)

    @classmethod
    def in_files(cls, *notes: Path) -> Said:
        said = cls()
        for file in notes:
            for text in file.read_text().splitlines():
                note = json.loads(text)
                said.kinds.setdefault(note["run"], Counter())[note["kind"]] += 1
                if note["kind"] == "log.written":
                    said.lines.setdefault(note["run"], []).append(note["i"])
        return said

    @property
    def events(self) -> int:
        return sum(sum(kinds.values()) for kinds in self.kinds.values())


def faults(config: dict[str, Any], said: Said) -> list[str]:
    """Compare store and log files with what was acknowledged; every difference is one line."""
    found: list[str] = []
    store = open_store(config["database_url"], read_only=True)
    try:
        for run in said.kinds:
            found += _store_faults(store, run, said)
            found += _file_faults(Path(config["home"]), store, run, said)
    finally:
        store.close()
    return found


def _store_faults(store: Any, run: str, said: Said) -> Iterator[str]:
    lines = said.lines.get(run, [])
    try:
        record = queries.get_run(store, run)
    except Exception as error:
        yield f"store: {run}: {error}"
        return
    done = bool(said.kinds[run]["run.succeeded"])
    if done and record.state != "succeeded":
        yield f"store: {run} is {record.state}"
    if record.attempts != 1:
        yield f"store: {run} has {record.attempts} attempts"
    if record.log_lines != len(lines):
        yield f"store: {run} counts {record.log_lines} of {len(lines)} lines"
    texts = [line.text for line in queries.stored_log(store, run)]
    if texts != [f"line {number} of {run}" for number in lines]:
        yield f"store: {run} keeps {len(texts)} of {len(lines)} lines, or in another order"
    rows = Counter(row.kind for row in queries.run_events(store, run, limit=500))
    if rows["log.written"] != sum(1 for number in lines if number % 10 == 0):
        yield f"store: {run} has the events {dict(rows)}"
    if rows["run.started"] > 1 or rows["run.succeeded"] > 1:
        yield f"store: {run} has the events {dict(rows)}"


def _file_faults(home: Path, store: Any, run: str, said: Said) -> Iterator[str]:
    folders = list((home / "runs").glob(f"*/*_{paths.run_digest(run)}"))
    if len(folders) != 1:
        yield f"files: {run} has {len(folders)} folders"
        return
    try:
        text = (folders[0] / "run.log").read_text()
        trace = (folders[0] / "trace.jsonl").read_text().splitlines()
        traced = Counter(json.loads(line)["event.action"] for line in trace)
    except (OSError, ValueError) as error:
        yield f"files: {run}: {error}"
        return
    wanted = [f"line {number} of {run}" for number in said.lines.get(run, [])]
    places = [text.find(line) for line in wanted]
    if places != sorted(places) or any(text.count(line) != 1 for line in wanted):
        yield f"files: {run}: {sum(text.count(line) for line in wanted)} of {len(wanted)} lines in run.log"
    if traced != said.kinds[run]:
        yield f"files: {run}: trace.jsonl has {dict(traced)}, said was {dict(said.kinds[run])}"
