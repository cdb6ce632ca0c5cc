"""`shipper`: each journal's lease, how far it lies behind, what was dropped, missing, damaged or refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from plet_celery.monitor.checks.look import Looks
from plet_celery.store import hostfacts, upkeep
from plet_celery.store.hostfacts import HostFacts
from plet_celery.store.records import HostStatus
from plet_celery.store.upkeep import Losses
from plet_celery.terminal.text import counted, size, span
from plet_celery.watchfacts import CheckResult, Level

NAME: Final = "shipper"
LOST_SECONDS: Final = 3600.0
"""What was dropped or refused is told for so long."""
BEHIND_SECONDS: Final = 60.0
"""A host that is heard of tells something every ten seconds: older than this, it lies behind."""
GONE_SECONDS: Final = 7 * 86_400.0
"""A journal that nobody ships for so long is forgotten here; the list of hosts still has it."""
EXPECTATION: Final = "a shipper that is heard of, less than a minute behind, nothing lost"


def check(looks: Looks) -> Iterator[CheckResult]:
    """Look at every journal that the store knows."""
    hosts, settings = looks.hosts(), looks.world.settings
    store = looks.world.store
    facts = hostfacts.by_journal(store)
    losses = upkeep.losses_by_journal(store, since=looks.now - LOST_SECONDS)
    known = [one for one in hosts if _age(one, looks.now) < GONE_SECONDS]
    if not known:
        yield CheckResult(
            name=NAME,
            level=Level.NO_DATA,
            observation="no host has shipped anything" + (" for a week" if hosts else " yet"),
            expectation=EXPECTATION,
            affected="all runs: none is recorded",
            advice="start a worker of an app with Plet(app); see celery plet doctor",
        )
    for host in known:
        yield decide(
            host,
            facts.get(host.journal, HostFacts()),
            losses.get(host.journal),
            now=looks.now,
            is_off=settings.shipper == "off",
        )


def subject_of(host: HostStatus) -> str:
    """Return what names a journal for people: its host, and the start of its id."""
    return f"{host.host} ({host.journal[:8]})"


def decide(
    host: HostStatus, facts: HostFacts, losses: Losses | None, *, now: float, is_off: bool = False
) -> CheckResult:
    """Say how the shipping of one journal does: the worst that is known, all of it in words."""
    values: dict[str, Any] = {
        "host": host.host,
        "journal": host.journal,
        "lease_age": round(host.lease_age, 1),
        "backlog_bytes": host.backlog_bytes,
        "plet": host.plet,
    }
    if host.left_at is not None:
        ago = span(max(0.0, now - host.left_at), whole=True)
        return _result(host, Level.OK, f"left {ago} ago: nobody writes there", values=values)
    if host.unreachable_since is not None:
        return _result(
            host,
            Level.CRITICAL,
            f"not heard of for {span(host.lease_age, whole=True)}, and it did not say goodbye",
            affected="everything that runs on that host: it is recorded, and not shown",
            advice="is the host up? Is celery plet ship running there? plet_shipper is 'off' here"
            if is_off
            else "is the host up, and does it reach the store? Run celery plet doctor there",
            since=host.unreachable_since,
            values=values,
        )
    level, parts, advice = Level.OK, [f"heard of {span(host.lease_age)} ago"], []
    for worse, text, what in (*_behind(host, now), *_troubles(facts), *_lost(losses, now)):
        level = max(level, worse, key=_RANK.__getitem__)
        parts.append(text)
        advice.append(what)
    values |= facts.values | (_counts(losses) if losses is not None else {})
    return _result(
        host,
        level,
        "; ".join(parts),
        affected="" if level is Level.OK else "what is recorded on that host: late, or with holes",
        advice="; ".join(dict.fromkeys(advice)),
        values=values,
    )


_RANK: Final = {Level.OK: 0, Level.NO_DATA: 1, Level.WARNING: 2, Level.CRITICAL: 3}
_Found = Iterator[tuple[Level, str, str]]


def _behind(host: HostStatus, now: float) -> _Found:
    ahead = host.skew if host.skew is not None else 0.0
    # Of what has arrived, by the host's own clock.
    age = max(0.0, now + ahead - host.as_of) if host.as_of is not None else None
    if age is not None and age > BEHIND_SECONDS:
        yield (
            Level.WARNING,
            f"the newest event that it has shipped is {span(age, whole=True)} old"
            + (f", {size(host.backlog_bytes)} wait" if host.backlog_bytes else ""),
            "see its shipper.log; is the store fast enough?",
        )


def _troubles(facts: HostFacts) -> _Found:
    if facts.log_failures:
        text = f"its log files failed {counted(facts.log_failures, 'time')} in a row: {facts.log_error}"
        yield Level.WARNING, text, "give the disk room; the journal keeps all until then"
    if facts.missing_segments:
        text = f"{facts.missing_segments} segments are missing that nobody had shipped"
        yield Level.WARNING, text, "let nothing but the shipper delete in the journal's folder"
    if facts.damaged_bytes:
        text = f"{size(facts.damaged_bytes)} of the journal are damaged"
        yield Level.WARNING, text, "check the disk (docs/production.md#damaged-segments)"
    if facts.refused_segments:
        text = f"the disk refused to sync {facts.refused_segments} segments"
        yield Level.CRITICAL, text, "look at the kernel's log (dmesg) and replace the disk"
    if facts.unsupported:
        text = f"{facts.unsupported} writers use a newer journal format, kept until it can be read"
        yield Level.WARNING, text, "upgrade plet-celery where that shipper runs"


def _lost(losses: Losses | None, now: float) -> _Found:
    if losses is None:
        return
    if losses.dropped:
        total = sum(losses.dropped.values())
        why = ", ".join(f"{count} for {reason}" for reason, count in sorted(losses.dropped.items()))
        ago = span(max(0.0, now - (losses.dropped_at or now)), whole=True)
        yield (
            Level.WARNING,
            f"{total} events dropped within an hour, the last {ago} ago: {why}",
            "give the disk room, or raise plet_journal_max_bytes, plet_log_rate (docs/production.md#drops)",
        )
    if losses.refused:
        yield (
            Level.WARNING,
            f"the store refused {losses.refused} events within an hour: {losses.reason}",
            "celery plet doctor shows them (docs/production.md#refused-events)",
        )


def _counts(losses: Losses) -> dict[str, Any]:
    return {"dropped": dict(losses.dropped), "refused": losses.refused}


def _age(host: HostStatus, now: float) -> float:
    return max(host.lease_age, now - host.left_at if host.left_at is not None else 0.0)


def _result(
    host: HostStatus,
    level: Level,
    observation: str,
    *,
    affected: str = "",
    advice: str = "",
    since: float | None = None,
    values: dict[str, Any],
) -> CheckResult:
    return CheckResult(
        name=NAME,
        subject=subject_of(host),
        level=level,
        observation=observation,
        expectation=EXPECTATION,
        affected=affected,
        advice=advice,
        since=since,
        values=values,
    )
