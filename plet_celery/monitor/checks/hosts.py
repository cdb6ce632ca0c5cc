"""`disk` and `clock`: how much room each host has where it records, and whose clock is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from plet_celery.monitor.checks.look import Looks
from plet_celery.monitor.checks.shippers import subject_of
from plet_celery.store import hostfacts
from plet_celery.store.hostfacts import HostFacts
from plet_celery.store.hoststatus import SKEW_MAX
from plet_celery.store.records import HostStatus
from plet_celery.terminal.text import size, span
from plet_celery.watchfacts import CheckResult, Level

DISK: Final = "disk"
CLOCK: Final = "clock"


def _present(hosts: list[HostStatus]) -> list[HostStatus]:
    """Return the journals that are served: of a host that is silent, the check of its shipper tells."""
    return [one for one in hosts if one.left_at is None and one.unreachable_since is None]


def check_disks(looks: Looks) -> Iterator[CheckResult]:
    """Look at the disk of every host that is heard of, as its shipper last told it."""
    facts = hostfacts.by_journal(looks.world.store)
    hosts = _present(looks.hosts())
    if not hosts:
        yield _nothing(DISK)
    for host in hosts:
        yield decide_disk(subject_of(host), facts.get(host.journal, HostFacts()))


def decide_disk(subject: str, facts: HostFacts) -> CheckResult:
    """Say whether recording drops, or soon will, because a disk is full."""
    free, floor = facts.disk_free_bytes, facts.disk_floor_bytes
    if free is None or floor is None:
        return CheckResult(
            name=DISK,
            subject=subject,
            level=Level.NO_DATA,
            observation="its shipper has not told how much room there is",
            expectation="more than recording needs",
            advice="a shipper of this version tells it within plet_host_beat; restart an older one",
        )
    values: dict[str, Any] = {"free_bytes": free, "floor_bytes": floor, "total_bytes": facts.disk_total_bytes}
    expectation = f"more than {size(2 * floor)}: below {size(floor)} recording drops lines and progress"
    level, affected, advice = Level.OK, "", ""
    if free < 2 * floor:
        level = Level.CRITICAL if free < floor else Level.WARNING
        advice = "free some space, or keep runs for a shorter time (plet_retention_days)"
        affected = "logs and progress of every run there"
    return CheckResult(
        name=DISK,
        subject=subject,
        level=level,
        observation=f"{size(free)} free at plet_home",
        expectation=expectation,
        affected=affected,
        advice=advice,
        values=values,
    )


def check_clocks(looks: Looks) -> Iterator[CheckResult]:
    """Compare the clock of every host that is heard of with the store's."""
    hosts = _present(looks.hosts())
    if not hosts:
        yield _nothing(CLOCK)
    for host in hosts:
        yield decide_clock(subject_of(host), host.skew)


def decide_clock(subject: str, skew: float | None) -> CheckResult:
    """Say whether a clock is right.

    Args:
        skew: seconds by which it is ahead of the store's; None where that is not known yet.
    """
    expectation = f"at most {span(SKEW_MAX, whole=True)} from the store's"
    if skew is None:
        text = "it has not been compared yet"
        return CheckResult(
            name=CLOCK, subject=subject, level=Level.NO_DATA, observation=text, expectation=expectation
        )
    wrong = abs(skew) > SKEW_MAX
    where = "ahead of" if skew > 0 else "behind"
    return CheckResult(
        name=CLOCK,
        subject=subject,
        level=Level.WARNING if wrong else Level.OK,
        observation=f"{span(abs(skew))} {where} the store's clock",
        expectation=expectation,
        affected="waiting times, and what is late: wrong for runs of that host" if wrong else "",
        advice="let a time service set its clock (chrony, systemd-timesyncd)" if wrong else "",
        values={"skew": round(skew, 3)},
    )


def _nothing(name: str) -> CheckResult:
    return CheckResult(
        name=name,
        level=Level.NO_DATA,
        observation="no host is heard of",
        expectation="at least one",
        advice="see the check of the shippers",
    )
