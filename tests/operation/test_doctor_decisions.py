"""What the doctor makes of facts: pure decisions, no clock, no disk."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from plet_celery import presence
from plet_celery.cli.doctor import exit_code
from plet_celery.doctor import celeryconf, folders, journal, storefacts
from plet_celery.doctor.finding import Finding, Level, worst
from plet_celery.doctor.gathering import Trouble, gather
from plet_celery.places import mask_url
from plet_celery.store import SchemaStatus
from plet_celery.store.condition import Answer, DeadLetter, DeadLetters
from plet_celery.store.records import HostStatus

ROOT = Path(__file__).parents[2]
HOUR = 3600.0
DAY = 86_400.0
CONF = celeryconf.Conf(
    broker="redis",
    backend="redis",
    visibility_timeout=HOUR,
    result_expires=90 * DAY,
    tracked=frozenset({"shop.load"}),
)
FOLDER = folders.Folder(
    path=Path("/srv/plet"),
    exists=True,
    is_folder=True,
    owner=1000,
    mode=0o700,
    writable=True,
    filesystem="ext4",
    free_bytes=50 << 30,
    total_bytes=100 << 30,
)


def conf_levels(longest: dict[str, float] | None = None, **changes: Any) -> dict[str, Level]:
    """The findings that are not fine, by check."""
    found = celeryconf.decide_conf(
        dataclasses.replace(CONF, **changes), longest=longest or {}, retention=30 * DAY
    )
    shown = list(found)
    assert all(one.fix and one.docs for one in shown if one.level >= Level.WARNING)
    return {one.check: one.level for one in shown if one.level > Level.OK}


def test_ordinary_settings_are_fine() -> None:
    assert conf_levels({"shop.load": 20.0}) == {}


@pytest.mark.parametrize(
    ("changes", "check", "level"),
    [
        ({"has_plet": False}, "celery.plet", Level.ERROR),
        ({"enabled": False}, "celery.plet", Level.WARNING),
        ({"broken_import": "ImportError: no shop"}, "celery.tasks", Level.ERROR),
        ({"broker": "filesystem"}, "celery.broker", Level.ERROR),
        ({"broker": "sqla"}, "celery.broker", Level.WARNING),
        ({"broker": ""}, "celery.broker", Level.NOTE),
        ({"backend": "rpc"}, "celery.backend", Level.WARNING),
        ({"backend": "rpc", "tracked": frozenset()}, "celery.backend", Level.NOTE),
        ({"backend": "file"}, "celery.backend", Level.WARNING),
        ({"backend": "disabled"}, "celery.backend", Level.NOTE),
        ({"ignoring": frozenset({"shop.load"})}, "celery.ignore_result", Level.NOTE),
        ({"result_expires": DAY}, "celery.result_expires", Level.NOTE),
        ({"hijacks_root": False}, "celery.logging", Level.NOTE),
        ({"accepts_pickle": True}, "celery.pickle", Level.WARNING),
    ],
)
def test_a_risky_setting_is_told_with_its_way_out(changes: dict[str, Any], check: str, level: Level) -> None:
    assert conf_levels(**changes) == {check: level}


def test_a_late_task_that_outlasts_the_visibility_timeout_runs_twice() -> None:
    found = conf_levels({"shop.load": 2 * HOUR}, late=frozenset({"shop.load"}))

    assert found == {"celery.visibility_timeout": Level.ERROR}


def test_what_is_reserved_behind_a_long_run_is_handed_out_again() -> None:
    early = {"celery.acks_early": Level.WARNING}

    assert conf_levels({"shop.load": 2 * HOUR}) == early | {"celery.visibility_timeout": Level.WARNING}
    assert conf_levels({"shop.load": 2 * HOUR}, prefetch=1) == early
    assert conf_levels({"shop.load": 2 * HOUR}, visibility_timeout=None) == early


def test_a_long_run_that_acknowledges_early_is_lost_with_its_worker() -> None:
    assert conf_levels({"shop.load": 299.0}) == {}
    assert conf_levels({"shop.load": 300.0}) == {"celery.acks_early": Level.WARNING}
    assert conf_levels({"shop.load": 300.0}, late=frozenset({"shop.load"})) == {}


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, Level.OK),
        ({"exists": False}, Level.NOTE),
        ({"is_folder": False}, Level.ERROR),
        ({"owner": 0}, Level.ERROR),
        ({"mode": 0o770}, Level.ERROR),
        ({"writable": False}, Level.ERROR),
        ({"refused": "lies on 'nfs4'", "exists": False}, Level.ERROR),
        ({"filesystem": "tmpfs"}, Level.WARNING),
    ],
)
def test_a_journal_folder_must_be_ours_alone_and_on_a_local_disk(
    changes: dict[str, Any], level: Level
) -> None:
    folder = dataclasses.replace(FOLDER, **changes)

    assert folders.decide_folder("journal", folder, uid=1000, private=True).level is level


@pytest.mark.parametrize(("free", "level"), [(50, Level.OK), (9, Level.WARNING), (4, Level.ERROR)])
def test_a_disk_that_is_nearly_full_is_told(free: int, level: Level) -> None:
    folder = dataclasses.replace(FOLDER, free_bytes=free << 30)

    found = folders.decide_disk(folder, min_free_bytes=1 << 30, min_free_percent=5.0)

    assert [one.level for one in found] == [level]


def server(held: bool = True, beat: dict[str, Any] | None = None, writers: int = 2) -> journal.Server:
    facts: dict[str, Any] = {
        "process": presence.this_process(),
        "role": "shipper",
        "mono": 1.0,
        "wall": 999.0,
        "plet": "1.0",
        "fingerprint": "aa",
        "state": "serving",
    }
    return journal.Server(
        held=held,
        beat=presence.Beat(**(facts | beat)) if beat is not None else None,
        writers=writers,
        wall=1000.0,
    )


def served(found: journal.Server, mode: str = "spawn") -> dict[str, Level]:
    told = journal.decide_server(
        found, mode=mode, stale=30.0, version="1.0", fingerprint="aa", prefix="celery -A shop plet"
    )
    return {one.check: one.level for one in told}


def test_a_served_journal_is_fine() -> None:
    assert served(server(beat={})) == {"shipper.server": Level.OK}


def test_a_shipper_without_a_sign_of_life_is_frozen() -> None:
    assert served(server(beat={"wall": 900.0}))["shipper.server"] is Level.ERROR


def test_another_version_and_other_settings_are_told() -> None:
    assert served(server(beat={"plet": "0.9"}))["shipper.version"] is Level.WARNING
    assert served(server(beat={"fingerprint": "bb"}))["shipper.settings"] is Level.NOTE


def test_a_journal_that_nobody_serves_matters_where_somebody_writes() -> None:
    assert served(server(held=False, writers=0)) == {"shipper.server": Level.OK}
    assert served(server(held=False)) == {"shipper.server": Level.WARNING}
    assert served(server(held=False), mode="external") == {"shipper.server": Level.ERROR}
    assert served(server(held=False, writers=0), mode="off") == {"shipper.server": Level.WARNING}


def test_what_a_shipper_stumbled_over_is_told() -> None:
    store = {
        "events": 5,
        "failures": 3,
        "error": "down",
        "dropped": {"disk": 7},
        "damaged_bytes": 12,
        "missing_segments": 1,
        "unsupported": 2,
    }
    found = served(server(beat={"sinks": {"store": store, "logs": {"events": 5}}, "refused_segments": 1}))

    assert found["shipper.store"] is Level.ERROR
    assert found["shipper.logs"] is Level.OK
    assert {name for name, level in found.items() if level is Level.WARNING} == {
        "shipper.store.format", "shipper.damage", "shipper.gaps", "shipper.drops",
    }  # fmt: skip
    assert found["shipper.fsync"] is Level.ERROR


@pytest.mark.parametrize(("oldest", "level"), [(999.0, Level.OK), (900.0, Level.WARNING)])
def test_a_backlog_is_told_when_it_is_old(oldest: float, level: Level) -> None:
    behind = journal.Backlog(size_bytes=4000, events=10, oldest=oldest)

    found = list(journal.decide_backlog(behind, served=True, now=1000.0))

    assert [one.level for one in found] == [level]
    assert "10 events" in found[0].text


def test_a_store_that_is_slow_or_has_another_time_is_told() -> None:
    def levels(latency: float, ahead: float) -> list[Level]:
        answer = Answer(latency=latency, ahead=ahead)
        return [one.level for one in storefacts.decide_reach(answer, shown="x", is_new=False)]

    assert levels(0.01, 1.0) == [Level.OK, Level.OK]
    assert levels(0.5, 1.0) == [Level.WARNING, Level.OK]
    assert levels(0.01, -31.0) == [Level.OK, Level.WARNING]


def test_a_store_that_is_not_made_yet_is_no_error() -> None:
    gone = Trouble("cannot be opened", "StoreUnavailable")

    assert [one.level for one in storefacts.decide_reach(gone, shown="x", is_new=True)] == [Level.NOTE]
    assert [one.level for one in storefacts.decide_reach(gone, shown="x", is_new=False)] == [Level.ERROR]


@pytest.mark.parametrize(
    ("current", "level", "fix"),
    [
        ("0001", Level.OK, ""),
        (None, Level.ERROR, "celery -A shop plet migrate"),
        ("9999", Level.ERROR, "upgrade plet-celery here"),
    ],
)
def test_the_schema_must_be_this_versions(current: str | None, level: Level, fix: str) -> None:
    found = storefacts.decide_schema(SchemaStatus(current, "0001"), prefix="celery -A shop plet")

    assert (found.level, found.fix) == (level, fix)


def test_refused_events_are_told_with_the_newest_reason() -> None:
    letter = DeadLetter(
        writer="w", segment=1, offset=0, journal_id="j", at=1.0, buried_at=2.0, kind="stage.started",
        run_id="abc", reason="value too long",
    )  # fmt: skip
    found = storefacts.decide_dead_letters(DeadLetters(count=1000, newest=[letter]), table="plet.dead_letter")

    assert found.level is Level.WARNING
    assert "1 000+" in found.text
    assert "value too long" in found.text
    assert "FROM plet.dead_letter" in found.fix


def host(**changes: Any) -> HostStatus:
    facts: dict[str, Any] = {
        name: None for name in HostStatus.__struct_fields__ if name not in HostStatus.__struct_defaults__
    }
    facts |= {
        "host": "a", "journal": "j" * 32, "machine": "m", "boot": "b", "pid": 1, "epoch": 1, "lease_age": 1.0,
        "unreachable_since": None, "left_at": None, "skew": 0.1, "is_skewed": False, "taken_at": 0.0,
    }  # fmt: skip
    return HostStatus(**(facts | changes))


def test_hosts_in_trouble_come_first() -> None:
    found = list(
        storefacts.decide_hosts(
            [host(), host(host="b", skew=99.0, is_skewed=True), host(host="c", unreachable_since=100.0)],
            now=1000.0,
            dialect="postgresql",
        )
    )

    assert [one.check for one in found] == ["hosts.unreachable", "hosts.skew", "hosts.seen"]
    assert "15 m 00 s ago" in found[0].text


def test_two_hosts_on_one_sqlite_file_are_refused() -> None:
    two = [host(), host(host="b", machine="other")]

    assert worst(storefacts.decide_hosts(two, now=1.0, dialect="sqlite")) is Level.ERROR
    assert worst(storefacts.decide_hosts(two, now=1.0, dialect="postgresql")) is Level.OK


def test_exit_codes() -> None:
    def one(level: Level, check: str = "celery.broker") -> Finding:
        return Finding(check=check, level=level, text="")

    assert exit_code([], fail_on="error") == 0
    assert exit_code([one(Level.WARNING)], fail_on="error") == 0
    assert exit_code([one(Level.WARNING)], fail_on="warning") == 3
    assert exit_code([one(Level.ERROR)], fail_on="warning") == 1
    assert exit_code([one(Level.ERROR), one(Level.ERROR, "store.reach")], fail_on="error") == 69


def test_a_step_that_hangs_is_a_fact_and_holds_up_no_other_group() -> None:
    import threading

    never = threading.Event()

    def fail() -> None:
        raise OSError("no such disk")

    found = gather(
        {
            "disk": [("disk.a", lambda: 1), ("disk.b", never.wait), ("disk.c", lambda: 3)],
            "store": [("store.a", fail), ("store.b", lambda: 2)],
        },
        timeout=3.0,
    )
    never.set()

    assert found.get("disk.a", int) == 1
    assert found.get("store.b", int) == 2
    assert found.found["disk.b"] == Trouble("no answer within 3 s", "timeout")
    assert "disk.b did not answer" in found.found["disk.c"].text
    assert found.found["store.a"] == Trouble("no such disk", "OSError")


@pytest.mark.parametrize(
    "url",
    [
        "redis://:canary/1@host:6379/0",
        "redis://:canary?x@host/0",
        "redis://:canary#1@host/0",
        "sentinel://:canary@a:26379;sentinel://:canary@b:26379",
        "postgresql://canary:canary@host/db?password=canary",
        "amqp://canary:canary@host//",
    ],
)
def test_no_part_of_a_password_is_shown_of_a_url(url: str) -> None:
    assert "canary" not in mask_url(url)


def test_every_link_of_a_finding_leads_somewhere() -> None:
    sources = [*(ROOT / "plet_celery" / "doctor").glob("*.py"), ROOT / "plet_celery" / "cli" / "doctor.py"]
    links = {
        link
        for file in sources
        for link in re.findall(r'"((?:docs/[\w-]+|README)\.md[#\w-]*)"', file.read_text())
    }
    assert len(links) > 5

    for link in sorted(links):
        page, _, anchor = link.partition("#")
        headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
        assert not anchor or anchor in {slug(heading) for heading in headings}, link


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
