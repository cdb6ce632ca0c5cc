"""The journal of this host: who ships it, what is behind, what was damaged or dropped on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from plet_celery import presence
from plet_celery.doctor.finding import Finding, Level
from plet_celery.election import ShipLock
from plet_celery.journal_keeping import QUARANTINE_NAME, is_written, list_journal
from plet_celery.journal_place import JournalInfo, read_journal
from plet_celery.journal_reader import Reader
from plet_celery.terminal.text import counted, size, span

_BATCH: Final = 5000
_BATCH_BYTES: Final = 4 << 20
_OLD: Final = 60.0
"""Seconds after which what waits in the journal is late."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """Who holds the right to ship, and who writes."""

    held: bool
    beat: presence.Beat | None
    writers: int
    """Processes that have a segment open, the shipper's own included."""
    wall: float
    """When this was looked at."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What lies in the journal's folder."""

    segments: int
    total_bytes: int
    ignored: Mapping[str, str]
    quarantined: int
    quarantined_bytes: int


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """What the store has not taken yet."""

    size_bytes: int
    events: int = 0
    oldest: float | None = None
    """Wall time of the oldest event."""
    is_all: bool = True
    """False where only a part was counted, because time was up."""
    damaged_bytes: int = 0
    missing_segments: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)


def server(journal: Path) -> Server:
    """Return who serves a journal."""
    found = list_journal(journal).segments
    newest = {segment.writer: segment for segment in found}
    return Server(
        held=ShipLock.held_elsewhere(journal),
        beat=presence.read_beat(journal),
        writers=sum(1 for segment in newest.values() if is_written(segment)),
        wall=time.time(),
    )


def contents(journal: Path) -> Contents:
    """Return what lies in a journal's folder; nothing where there is none."""
    listing = list_journal(journal)
    quarantine = journal / QUARANTINE_NAME
    files = [file.stat().st_size for file in quarantine.iterdir()] if quarantine.is_dir() else []
    return Contents(
        segments=len(listing.segments),
        total_bytes=sum(segment.size for segment in listing.segments),
        ignored=dict(listing.ignored),
        quarantined=len(files),
        quarantined_bytes=sum(files),
    )


def backlog(journal: Path, positions: Mapping[str, tuple[int, int]], *, patience: float) -> Backlog:
    """Count what lies behind a sink's positions; the bytes always, the events for `patience` seconds."""
    reader = Reader(journal, positions)
    behind = reader.backlog_bytes()
    deadline = time.monotonic() + patience
    events, oldest, damaged, missing, more = 0, None, 0, 0, True
    dropped: dict[str, int] = {}
    while more and time.monotonic() < deadline:
        batch = reader.read(_BATCH, _BATCH_BYTES)
        more = batch.more
        events += len(batch.events)
        walls = [event.wall for event in batch.events]
        oldest = min([*walls, *([oldest] if oldest is not None else [])], default=None)
        damaged += sum(one.length for one in batch.damaged)
        missing += sum(batch.gaps.values())
        for reasons in batch.drops.values():
            for reason, count in reasons.items():
                dropped[reason] = dropped.get(reason, 0) + count
    return Backlog(
        size_bytes=behind,
        events=events,
        oldest=oldest,
        is_all=not more,
        damaged_bytes=damaged,
        missing_segments=missing,
        dropped=dropped,
    )


def info(journal: Path) -> JournalInfo | None:
    """Return what a journal says of itself; None where there is none yet.

    Raises:
        JournalError: its `journal.json` is damaged.
    """
    return read_journal(journal) if (journal / "journal.json").exists() else None


def decide_server(
    found: Server, *, mode: str, stale: float, version: str, fingerprint: str, prefix: str
) -> Iterator[Finding]:
    """Say whether the journal is served as it should be.

    Args:
        mode: `plet_shipper`.
        stale: `plet_lease_stale`.
        version: of plet_celery here.
        fingerprint: of the settings here.
        prefix: how a command is typed: `celery -A proj plet`.
    """
    if not found.held or found.beat is None:
        yield _unserved(found, mode=mode, prefix=prefix)
        return
    beat = found.beat
    yield _life(beat, max(0.0, found.wall - beat.wall), stale)
    yield from _kinship(beat, version=version, fingerprint=fingerprint)
    yield from _sinks(beat)


def _life(beat: presence.Beat, age: float, stale: float) -> Finding:
    data = {
        "pid": beat.process.pid,
        "role": beat.role,
        "state": beat.state,
        "plet": beat.plet,
        "beat_age": round(age, 3),
        "settings": beat.fingerprint,
    }
    text = f"pid {beat.process.pid} serves: {beat.state}, plet {beat.plet}, sign of life {span(age)} ago"
    if age > stale:
        return Finding(
            check="shipper.server",
            level=Level.ERROR,
            text=f"{text}: it is frozen",
            fix=f"a worker ends it after {stale:g} s of looking; else end pid {beat.process.pid} yourself",
            docs="docs/shipper.md#a-frozen-shipper",
            data=data,
        )
    return Finding(check="shipper.server", level=Level.OK, text=text, data=data)


def _kinship(beat: presence.Beat, *, version: str, fingerprint: str) -> Iterator[Finding]:
    """Say whether who serves is of our version and settings."""
    if beat.plet != version:
        yield Finding(
            check="shipper.version",
            level=Level.WARNING,
            text=f"the shipper runs plet {beat.plet}, this is {version}",
            fix="restart the workers (or the unit of celery plet ship), so that one version serves",
            docs="docs/production.md#upgrade",
            data={"theirs": beat.plet, "ours": version},
        )
    elif beat.role == "shipper" and beat.fingerprint != fingerprint:
        yield Finding(
            check="shipper.settings",
            level=Level.NOTE,
            text="the shipper has other plet settings than this process: another environment or app, "
            "or a change that no worker was restarted for",
            data={"theirs": beat.fingerprint, "ours": fingerprint},
        )


def decide_contents(found: Contents) -> Iterator[Finding]:
    """Say what lies in the journal that should not."""
    yield Finding(
        check="journal.size",
        level=Level.OK,
        text=f"{size(found.total_bytes)} in {counted(found.segments, 'segment')}, shipped ones included",
        data={"bytes": found.total_bytes, "segments": found.segments},
    )
    if found.quarantined:
        yield Finding(
            check="journal.quarantine",
            level=Level.WARNING,
            text=f"{counted(found.quarantined, 'damaged segment')} ({size(found.quarantined_bytes)}) in "
            "quarantine; what could be read of them is stored",
            fix="check the disk; look with jq --seq . quarantine/*.plj, then delete them",
            docs="docs/production.md#damaged-segments",
            data={"files": found.quarantined, "bytes": found.quarantined_bytes},
        )
    if found.ignored:
        names = ", ".join(f"{name} ({why})" for name, why in list(found.ignored.items())[:3])
        yield Finding(
            check="journal.ignored",
            level=Level.WARNING,
            text=f"{len(found.ignored)} files look like segments and are none: {names}",
            fix="find out who put them there, then remove them",
            docs="docs/journal-format.md",
            data={"files": dict(found.ignored)},
        )


def decide_backlog(found: Backlog, *, served: bool, now: float) -> Iterator[Finding]:
    """Say whether the store lags behind, and what never came.

    Args:
        served: somebody ships now.
        now: wall time, seconds since the epoch.
    """
    age = max(0.0, now - found.oldest) if found.oldest is not None else 0.0
    data = {
        "bytes": found.size_bytes,
        "events": found.events,
        "is_all": found.is_all,
        "oldest_age": round(age, 3),
    }
    if not found.events and found.size_bytes == 0:
        yield Finding(check="journal.backlog", level=Level.OK, text="nothing waits", data=data)
    else:
        count = f"{found.events:,}{'' if found.is_all else '+'} events".replace(",", " ")
        text = f"{count} ({size(found.size_bytes)}) wait"
        text += f", the oldest for {span(age)}" if found.events else ""
        late = age > _OLD
        yield Finding(
            check="journal.backlog",
            level=Level.WARNING if late else Level.OK,
            text=text,
            fix=(
                "look at the store and at the sinks below"
                if served
                else "start a worker, or celery plet ship"
            )
            if late
            else "",
            docs="docs/production.md#backlog" if late else "",
            data=data,
        )
    yield from decide_losses(
        "journal", damaged=found.damaged_bytes, missing=found.missing_segments, dropped=found.dropped
    )


def decide_losses(where: str, *, damaged: int, missing: int, dropped: Mapping[str, int]) -> Iterator[Finding]:
    """Say what was damaged, missing or dropped; the same words wherever it was counted."""
    if damaged:
        yield Finding(
            check=f"{where}.damage",
            level=Level.WARNING,
            text=f"{size(damaged)} are damaged and were passed over",
            fix="check the disk; the segment goes to quarantine once it was read",
            docs="docs/production.md#damaged-segments",
            data={"bytes": damaged},
        )
    if missing:
        yield Finding(
            check=f"{where}.gaps",
            level=Level.WARNING,
            text=f"{counted(missing, 'segment')} missing: somebody removed what was not yet stored",
            fix="let nothing but the shipper delete in the journal's folder",
            docs="docs/production.md#backlog",
            data={"segments": missing},
        )
    if dropped:
        total = sum(dropped.values())
        parts = ", ".join(f"{count} for {reason}" for reason, count in sorted(dropped.items()))
        yield Finding(
            check=f"{where}.drops",
            level=Level.WARNING,
            text=f"{counted(total, 'event')} dropped by their writers: {parts}",
            fix="give the disk room, or raise plet_journal_max_bytes, plet_log_rate",
            docs="docs/production.md#drops",
            data={"reasons": dict(dropped)},
        )


def _unserved(found: Server, *, mode: str, prefix: str) -> Finding:
    data = {"writers": found.writers, "mode": mode}
    last = ""
    if found.beat is not None:
        ago = span(max(0.0, found.wall - found.beat.wall), whole=True)
        last = f"; the last one was seen {ago} ago ({found.beat.state})"
    if mode == "off":
        text, level = f"plet_shipper is 'off': nothing is stored{last}", Level.WARNING
        fix = "set plet_shipper to 'spawn' or 'external'"
    elif not found.writers:
        text, level, fix = f"nobody serves, and nobody writes{last}", Level.OK, ""
    elif mode == "external":
        text, level = (
            f"nobody serves, and {counted(found.writers, 'process')} may write{last}",
            Level.ERROR,
        )
        fix = f"start {prefix} ship (plet_shipper is 'external')"
    else:
        text, level = (
            f"nobody serves, and {counted(found.writers, 'process')} may write{last}",
            Level.WARNING,
        )
        fix = "a worker spawns a shipper within 2 s; producers alone do not: start a worker"
    docs = "docs/shipper.md" if level > Level.NOTE else ""
    return Finding(check="shipper.server", level=level, text=text, fix=fix, docs=docs, data=data)


def _sinks(beat: presence.Beat) -> Iterator[Finding]:
    for name, facts in beat.sinks.items():
        failures = _count(facts.get("failures"))
        data: dict[str, Any] = {"sink": name, "failures": failures, "events": _count(facts.get("events"))}
        if failures:
            yield Finding(
                check=f"shipper.{name}",
                level=Level.ERROR,
                text=f"the {name} sink failed {failures} times in a row: {facts.get('error', '')}",
                fix="mend what it says; the journal keeps all until then",
                docs="docs/production.md#backlog",
                data=data,
            )
        else:
            text = f"the {name} sink works: {data['events']} events since it started"
            yield Finding(check=f"shipper.{name}", level=Level.OK, text=text, data=data)
        unsupported = _count(facts.get("unsupported"))
        if unsupported:
            yield Finding(
                check=f"shipper.{name}.format",
                level=Level.WARNING,
                text=f"{unsupported} writers use a newer journal format, kept until it can be read",
                fix="upgrade plet-celery where the shipper runs",
                docs="docs/production.md#upgrade",
                data={"writers": unsupported},
            )
    store = beat.sinks.get("store", {})
    dropped = store.get("dropped")
    yield from decide_losses(
        "shipper",
        damaged=_count(store.get("damaged_bytes")),
        missing=_count(store.get("missing_segments")),
        dropped={str(k): _count(v) for k, v in dropped.items()} if isinstance(dropped, dict) else {},
    )
    if beat.refused_segments:
        yield Finding(
            check="shipper.fsync",
            level=Level.ERROR,
            text=f"the disk refused to sync {beat.refused_segments} segments: what they hold is unknown",
            fix="look at the kernel's log (dmesg) and replace the disk",
            docs="docs/production.md#damaged-segments",
            data={"segments": beat.refused_segments},
        )


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
