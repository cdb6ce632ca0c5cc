"""What the writing side remembers: the sink's checkpoint, and the runs that may still say something.

Two small files in the journal's directory. `logsink.json` is the state after the last whole batch;
`logsink.undo` names the files the batch under way may touch, with their lengths before it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from plet_celery.events import Event
from plet_celery.logfiles.folders import replace_file
from plet_celery.logfiles.trace import Facts

_Kind = TypeVar("_Kind")

FORMAT: Final = 1
STATE_FILE: Final = "logsink.json"
UNDO_FILE: Final = "logsink.undo"


class Stage(msgspec.Struct, array_like=True):
    """A stage under way."""

    name: str
    volume: int
    """Where its first record lies: 0 is `run.log`, else a tail part."""
    entry: int
    lines: int = 0


class Volume(msgspec.Struct, array_like=True):
    """One tail part of an attempt whose head is full."""

    number: int
    log: int = 0
    entries: int = 0
    lines: int = 0


class Attempt(msgspec.Struct):
    """One attempt as the files know it."""

    id: str | None
    number: int
    facts: Facts
    line: int = 0
    """Number of its last line."""
    size: int = 0
    """Bytes of its records in `run.log`."""
    trace: int = 0
    """Bytes of its lines in `trace.jsonl`."""
    end: str | None = None
    """Kind of its first end."""
    full: bool = False
    """The head is full: further records go to the tail parts."""
    head_line: int = 0
    """Number of the last line before them."""
    volumes: list[Volume] = []
    dropped: int = 0
    """Lines in tail parts that gave way to newer ones."""
    untraced: int = 0
    """Events left out of a full trace."""
    stages: dict[int, Stage] = {}
    """Stages under way, by number."""
    names: dict[int, str] = {}
    """Names of declared stages that have not started."""
    stage_files: int = 0


class Run(msgspec.Struct):
    """One run with its folder, or (without one) a run that had nothing to say yet."""

    id: str
    folder: str | None = None
    log: int = 0
    entries: int = 0
    trace: int = 0
    mixed: bool = False
    """Its attempts overlap; see index.MIXED."""
    stages: dict[str, int] = {}
    """Sizes of its stage files."""
    attempts: list[Attempt] = []
    """The newest attempts; see ATTEMPTS_KEPT."""
    attempts_made: int = 0
    volumes_made: int = 0
    held: list[Event] = []
    """Events of a silent run."""
    micros: int = 0
    """Time of its last record but log lines, microseconds since the epoch."""
    cold: bool = False
    """Found on disk by a sink that does not know what it had written: check for events told twice."""

    @property
    def is_open(self) -> bool:
        """An attempt has not ended."""
        return any(attempt.end is None for attempt in self.attempts)


class State(msgspec.Struct):
    """The checkpoint and everything that goes with it."""

    format: int = FORMAT
    sequence: int = 0
    boot: str = ""
    positions: dict[str, tuple[int, int]] = {}
    runs: dict[str, Run] = {}
    """Runs with an open attempt."""
    ended: dict[str, Run] = {}
    """The newest ended runs with a folder: threads log on, reports come late, retries follow."""
    quiet: dict[str, Run] = {}
    """The newest ended runs without one: the same may give them something to say."""
    strays: list[Event] = []
    """Events whose run has not been seen to start: its file may be read later."""
    strays_dropped: int = 0
    removals: list[tuple[str, str]] = []
    """Files (folder, name) to remove after this checkpoint."""
    damaged: list[str] = []
    """Runs whose files are shorter than the checkpoint says."""
    uncertain_until: float = 0.0
    """Wall time of a start without a trusted state: runs that started before may have a folder already."""


class Undo(msgspec.Struct):
    """Lengths before batch `sequence`; a file of length 0 did not exist."""

    sequence: int
    files: list[tuple[str, str, int]]


_encode = msgspec.json.Encoder().encode


def load_state(directory: Path) -> State | None:
    """Return the saved state; None when there is none that can be read."""
    return _load(directory / STATE_FILE, State)


def load_undo(directory: Path) -> Undo | None:
    """Return the undo record; None when there is none that can be read."""
    return _load(directory / UNDO_FILE, Undo)


def save(directory: int, name: str, value: Any) -> None:
    """Put a state file in place in one step."""
    try:
        data = _encode(value)
    except UnicodeEncodeError:
        from plet_celery.logfiles.text import without_surrogates

        data = _encode(without_surrogates(msgspec.to_builtins(value)))
    replace_file(directory, name, data)


def boot_id() -> str:
    """Return what changes when the machine starts anew (unsynced files may then be cut)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def open_directory(path: Path) -> int:
    """Return a descriptor of the state directory."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _load(path: Path, kind: type[_Kind]) -> _Kind | None:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        return None
    return found if getattr(found, "format", FORMAT) == FORMAT else None
