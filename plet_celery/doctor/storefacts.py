"""The store as seen from here: reachable, its schema, its size, what it refused, which hosts write to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from plet_celery.doctor.finding import Finding, Level
from plet_celery.doctor.gathering import Trouble
from plet_celery.store import SchemaStatus
from plet_celery.store.condition import COUNT_MAX, Answer, DeadLetters
from plet_celery.store.records import HostStatus
from plet_celery.terminal.text import size, span

CLOCK_MAX: Final = 30.0
"""Seconds by which two clocks may differ."""
_SLOW: Final = 0.25
_HOSTS_SHOWN: Final = 20


def decide_reach(answer: Answer | Trouble | None, *, shown: str, is_new: bool) -> Iterator[Finding]:
    """Say whether the store answers.

    Args:
        shown: its URL without secrets.
        is_new: it is the embedded one, and was not made yet.
    """
    if is_new:
        text = f"{shown} is not there yet: the first worker makes it"
        yield Finding(check="store.reach", level=Level.NOTE, text=text, data={"url": shown})
    elif isinstance(answer, Answer):
        data = {"url": shown, "latency": round(answer.latency, 6), "clock_ahead": round(answer.ahead, 3)}
        slow = answer.latency > _SLOW
        yield Finding(
            check="store.reach",
            level=Level.WARNING if slow else Level.OK,
            text=f"{shown} answers in {span(answer.latency)}",
            fix="bring the store nearer: a shipper asks a few times for each batch" if slow else "",
            docs="docs/production.md#choose-a-database" if slow else "",
            data=data,
        )
        yield from _clock(answer.ahead)
    elif answer is not None:
        yield Finding(
            check="store.reach",
            level=Level.ERROR,
            text=answer.text if "://" in answer.text else f"{shown}: {answer.text}",
            fix="start it, or correct plet_database_url; the journal keeps what is recorded meanwhile",
            docs="docs/production.md#backlog",
            data={"url": shown, "error": answer.kind},
        )


def decide_schema(status: SchemaStatus, *, prefix: str) -> Finding:
    """Say whether the tables are this version's."""
    data = {"current": status.current, "head": status.head}
    if status.is_current:
        return Finding(
            check="store.schema", level=Level.OK, text=f"tables at {status.head} (head)", data=data
        )
    if status.is_newer:
        text = f"tables at {status.current} come from a newer plet-celery; this one knows {status.head}"
        fix = "upgrade plet-celery here"
    else:
        there = f"tables at {status.current}" if status.current else "no tables yet"
        text, fix = f"{there}, this version needs {status.head}", f"{prefix} migrate"
    docs = "docs/production.md#upgrade"
    return Finding(check="store.schema", level=Level.ERROR, text=text, fix=fix, docs=docs, data=data)


def decide_size(bytes_used: int) -> Finding:
    """Say how large the tables are."""
    data = {"bytes": bytes_used}
    return Finding(check="store.size", level=Level.OK, text=f"{size(bytes_used)} in tables", data=data)


def decide_dead_letters(found: DeadLetters, *, table: str) -> Finding:
    """Say which events the store refused.

    Args:
        table: its name in SQL.
    """
    if not found.count:
        return Finding(check="store.dead_letters", level=Level.OK, text="no event was refused")
    count = f"{COUNT_MAX:,}+".replace(",", " ") if found.count >= COUNT_MAX else str(found.count)
    newest = "; ".join(f"{one.kind} of run {one.run_id or '–'}: {one.reason}" for one in found.newest)
    return Finding(
        check="store.dead_letters",
        level=Level.WARNING,
        text=f"refused by the store: {count} events; the newest: {newest}",
        fix=f"SELECT buried_at, kind, run_id, reason, record FROM {table} ORDER BY buried_at DESC; "
        "report them, then delete the rows",
        docs="docs/production.md#refused-events",
        data={
            "count": found.count,
            "newest": [
                {"kind": one.kind, "run_id": one.run_id, "reason": one.reason, "buried_at": one.buried_at}
                for one in found.newest
            ],
        },
    )


def decide_hosts(hosts: Sequence[HostStatus], *, now: float, dialect: str) -> Iterator[Finding]:
    """Say which hosts are heard of, which are not, and whose clock is off; the troubled ones first.

    Args:
        now: wall time, seconds since the epoch.
        dialect: of the store.
    """
    if not hosts:
        yield Finding(check="hosts.none", level=Level.NOTE, text="no host has shipped anything yet")
    ordered = sorted(hosts, key=lambda one: (one.unreachable_since is None, not one.is_skewed, one.host))
    for host in ordered[:_HOSTS_SHOWN]:
        yield _host(host, now)
    if len(hosts) > _HOSTS_SHOWN:
        text = f"and {len(hosts) - _HOSTS_SHOWN} more hosts, none of them worse"
        yield Finding(check="hosts.more", level=Level.OK, text=text)
    machines = {host.machine for host in hosts if host.left_at is None}
    if dialect == "sqlite" and len(machines) > 1:
        yield Finding(
            check="hosts.sqlite",
            level=Level.ERROR,
            text=f"{len(machines)} hosts write into one SQLite file, which only one host can use safely",
            fix="use PostgreSQL or MariaDB: set plet_database_url",
            docs="docs/production.md#choose-a-database",
            data={"machines": len(machines)},
        )


def decide_store_id(journals: str | None, stores: str) -> Iterator[Finding]:
    """Say whether this host's journal belongs to this store.

    Args:
        journals: the store id that the journal remembers.
        stores: this store's own id.
    """
    if journals is not None and journals != stores:
        yield Finding(
            check="store.identity",
            level=Level.ERROR,
            text=f"the journal belongs to store {journals[:8]}, this one is {stores[:8]}: nothing is shipped",
            fix="set plet_database_url back, or set plet_home to a new folder",
            docs="docs/production.md#backup-and-restore",
            data={"journal": journals, "store": stores},
        )


def _clock(ahead: float) -> Iterator[Finding]:
    data = {"ahead": round(ahead, 3)}
    where = f"{span(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} the store's"
    if abs(ahead) > CLOCK_MAX:
        yield Finding(
            check="store.clock",
            level=Level.WARNING,
            text=f"this host's clock is {where}: waiting times and orders across hosts are wrong",
            fix="let a time service set the clocks (chrony, systemd-timesyncd)",
            docs="docs/hosts.md",
            data=data,
        )
    else:
        yield Finding(check="store.clock", level=Level.OK, text=f"this host's clock is {where}", data=data)


def _host(host: HostStatus, now: float) -> Finding:
    name = f"{host.host} ({host.journal[:8]})"
    data = {
        "host": host.host,
        "journal": host.journal,
        "lease_age": round(host.lease_age, 3),
        "unreachable_since": host.unreachable_since,
        "left_at": host.left_at,
        "skew": host.skew,
        "backlog_bytes": host.backlog_bytes,
        "plet": host.plet,
    }
    if host.unreachable_since is not None:
        since = span(max(0.0, now - host.unreachable_since), whole=True)
        return Finding(
            check="hosts.unreachable",
            level=Level.WARNING,
            text=f"{name} was last heard of {since} ago, and did not say goodbye",
            fix="is the host up, and does it reach the store? Run this command there",
            docs="docs/hosts.md",
            data=data,
        )
    if host.is_skewed and host.skew is not None:
        return Finding(
            check="hosts.skew",
            level=Level.WARNING,
            text=f"{name}: its clock is {span(abs(host.skew))} {'ahead' if host.skew > 0 else 'behind'}",
            fix="let a time service set its clock (chrony, systemd-timesyncd)",
            docs="docs/hosts.md",
            data=data,
        )
    if host.left_at is not None:
        text = f"{name} left {span(max(0.0, now - host.left_at), whole=True)} ago: nobody writes there"
    else:
        behind = f", {size(host.backlog_bytes)} behind" if host.backlog_bytes else ""
        writers = f", {host.writers} writers" if host.writers is not None else ""
        text = f"{name} heard of {span(host.lease_age)} ago{writers}{behind}"
    return Finding(check="hosts.seen", level=Level.OK, text=text, data=data)
