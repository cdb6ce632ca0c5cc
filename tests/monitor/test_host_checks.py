"""Checks of what hosts and the store tell: shippers, disks, clocks, beat, retention, passes, channels."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from histories import Teller
from hosting import HERE, THERE, Host, silence
from hosting import opened as store_opened
from storing import positions_of
from worlds import asked, kept, levels, pass_over, plain_app, result, world_of

from plet_celery import events
from plet_celery.monitor import book, verdict
from plet_celery.monitor.checks import beat
from plet_celery.settings_sources import load_settings
from plet_celery.store import Store, clockwatch, health, watching
from plet_celery.store.watching import LastPass
from plet_celery.watchfacts import CheckResult, Level

NAMES = ("shipper", "disk", "clock", "retention", "channel", "beat", "monitor")


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with store_opened(database_url) as made:
        yield made


def beat_of(host: Host, **more: Any) -> None:
    """Have a host tell of itself."""
    facts: dict[str, Any] = {
        "host": host.name,
        "backlog_bytes": 0,
        "writers": 1,
        "plet": "0.1",
        "disk_free_bytes": 50 << 30,
    }
    facts |= {"disk_floor_bytes": 1 << 30, "disk_total_bytes": 100 << 30} | more
    host.teller.now = time.time()
    told = [host.teller.tell(host.writer(), events.HOST_BEAT, None, None, **facts)]
    host.store.ingest(host.lease, told, positions_of(told), now=time.time())


def test_hosts_that_are_heard_of_are_well(store: Store) -> None:
    for journal, name in ((HERE, "atlas"), (THERE, "borea")):
        beat_of(Host(store, journal, name))

    for name in ("shipper", "disk", "clock"):
        found = asked(world_of(store), name, now=time.time())
        assert levels(found) == {
            f"atlas ({HERE[:8]})": Level.OK, f"borea ({THERE[:8]})": Level.OK,
        }, found  # fmt: skip


def test_without_any_host_nothing_is_ok(store: Store) -> None:
    for name in ("shipper", "disk", "clock"):
        assert levels(asked(world_of(store), name, now=time.time())) == {"": Level.NO_DATA}


def test_a_host_that_is_not_heard_of_is_critical_since_then(store: Store) -> None:
    host = Host(store, HERE, "atlas")
    beat_of(host)
    silence(store, HERE, 600)

    (silent,) = asked(world_of(store), "shipper", now=time.time()).values()

    assert silent.level is Level.CRITICAL
    assert silent.observation.startswith("not heard of for 10 m ")
    assert silent.since is not None
    assert abs(time.time() - 600 - silent.since) < 60
    assert levels(asked(world_of(store), "disk", now=time.time())) == {"": Level.NO_DATA}
    beat_of(host)
    assert asked(world_of(store), "shipper", now=time.time())[silent.subject].level is Level.OK


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        ({"missing_segments": 2}, Level.WARNING, "2 segments are missing"),
        ({"damaged_bytes": 4096}, Level.WARNING, "4.0 KiB of the journal are damaged"),
        ({"refused_segments": 1}, Level.CRITICAL, "refused to sync 1 segments"),
        ({"unsupported": 1}, Level.WARNING, "newer journal format"),
        ({"log_failures": 3, "log_error": "No space"}, Level.WARNING, "failed 3 times in a row: No space"),
    ],
)
def test_what_a_shipper_stumbles_over_is_told(
    store: Store, facts: dict[str, Any], level: Level, words: str
) -> None:
    host = Host(store, HERE, "atlas")
    beat_of(host, **facts)

    (found,) = asked(world_of(store), "shipper", now=time.time()).values()

    assert (found.level, words in found.observation) == (level, True), found
    beat_of(host)
    assert asked(world_of(store), "shipper", now=time.time())[found.subject].level is Level.OK


def test_a_shipper_that_lies_behind_is_told(store: Store) -> None:
    host = Host(store, HERE, "atlas")
    beat_of(host, backlog_bytes=5 << 20)

    (found,) = asked(world_of(store), "shipper", now=time.time() + 300).values()

    assert found.level is Level.WARNING
    assert "the newest event that it has shipped is 5 m " in found.observation
    assert "5.0 MiB wait" in found.observation


def test_drops_and_refused_events_are_told_for_an_hour(store: Store) -> None:
    host = Host(store, HERE, "atlas")
    beat_of(host)
    told = [
        host.teller.tell(host.writer(), events.EVENTS_DROPPED, None, None, count=3, reasons={"shed_log": 3})
    ]
    store.ingest(host.lease, told, positions_of(told), now=time.time())
    letter = store.tables.dead_letter
    with store.writing() as connection:
        facts = {"writer": "w", "segment": 0, "offset": 1, "journal_id": HERE, "at": 1.0}
        facts |= {"buried_at": time.time(), "kind": "k", "reason": "too large", "record": "r"}
        connection.execute(letter.insert().values(facts))

    (now,) = asked(world_of(store), "shipper", now=time.time()).values()
    (later,) = asked(world_of(store), "shipper", now=time.time() + 4000).values()

    assert now.level is Level.WARNING
    assert "3 events dropped within an hour" in now.observation
    assert "3 for shed_log" in now.observation
    assert "the store refused 1 events within an hour: too large" in now.observation
    assert (now.values["dropped"], now.values["refused"]) == ({"shed_log": 3}, 1)
    assert "dropped" not in later.observation


@pytest.mark.parametrize(
    ("free", "level"), [(50 << 30, Level.OK), (3 << 29, Level.WARNING), (1 << 29, Level.CRITICAL)]
)
def test_a_disk_is_judged_by_what_recording_needs(store: Store, free: int, level: Level) -> None:
    beat_of(Host(store, HERE, "atlas"), disk_free_bytes=free)

    (found,) = asked(world_of(store), "disk", now=time.time()).values()

    assert found.level is level
    assert found.values["free_bytes"] == free


def test_a_clock_that_is_wrong_is_told(store: Store) -> None:
    host = Host(store, HERE, "atlas")
    beat_of(host)
    table = store.tables.journal
    with store.writing() as connection:
        connection.execute(table.update().values(skew=-300.0))
    (wrong,) = asked(world_of(store), "clock", now=time.time()).values()
    beat_of(host)
    (right,) = asked(world_of(store), "clock", now=time.time()).values()

    assert (wrong.level, wrong.observation) == (Level.WARNING, "5 m 00 s behind the store's clock")
    assert right.level is Level.OK


def test_what_has_expired_and_is_still_there_is_told(store: Store) -> None:
    host = Host(store, HERE, "atlas")
    fresh = asked(world_of(store), "retention", now=time.time())[""]
    teller: Teller = host.teller
    host.ship([teller.start(host.writer(), "00000000-0000-4000-8000-00000000000a", "a1")])
    run = store.tables.run
    with store.writing() as connection:
        connection.execute(run.update().values(expires_at=time.time() - 3 * 86_400))

    (overdue,) = asked(world_of(store), "retention", now=time.time()).values()

    assert fresh.level is Level.OK
    assert overdue.level is Level.WARNING
    assert overdue.observation.startswith("1 run expired, the oldest 3 d 00 h ago, and is there")
    with store.writing() as connection:
        connection.execute(run.delete())
    assert asked(world_of(store), "retention", now=time.time())[""].level is Level.OK


def test_a_clock_that_jumped_holds_removal_up_and_is_told(store: Store) -> None:
    clockwatch.check(store, wall=time.time())
    before = asked(world_of(store), "retention", now=time.time())[""]
    info = store.tables.info
    with store.writing() as connection:
        old = '{"seen":' + str(time.time() - 30 * 86_400) + "}"
        connection.execute(info.update().where(info.c.name == "prune_clock").values(value=old))
    clockwatch.check(store, wall=time.time())

    (jumped,) = asked(world_of(store), "retention", now=time.time()).values()

    assert before.level is Level.OK
    assert jumped.level is Level.WARNING
    assert jumped.advice == "if the clock is right: celery plet prune --trust-clock"
    clockwatch.check(store, wall=time.time(), trust=True)
    assert asked(world_of(store), "retention", now=time.time())[""].level is Level.OK


def test_a_channel_that_is_disabled_is_critical(store: Store) -> None:
    now, table = time.time(), store.tables.watching.channel
    nothing = asked(world_of(store), "channel", now=now)
    rows = [
        {"name": "dead", "failures": 20, "failing_since": now - 9000, "disabled_at": now - 60, "doc": "{}"},
        {"name": "fine", "failures": 0, "succeeded_at": now - 5, "doc": "{}"},
        {"name": "lame", "failures": 2, "failing_since": now - 90, "doc": '{"status":"answered 503"}'},
    ]
    with store.writing() as connection:
        for row in rows:
            connection.execute(table.insert().values(row))

    found = asked(world_of(store), "channel", now=now)

    assert levels(nothing) == {"": Level.OK}
    assert levels(found) == {"dead": Level.CRITICAL, "fine": Level.OK, "lame": Level.WARNING}
    assert found["dead"].observation == "disabled 1 m 00 s ago, after 20 failures in a row"
    assert (found["lame"].since, found["lame"].observation) == (
        now - 90,
        "failed 2 times in a row: answered 503",
    )
    assert found["lame"].expectation == "every message taken"
    assert found["lame"].advice.endswith(", then: celery -A proj plet alerts test lame")
    with store.writing() as connection:
        connection.execute(table.update().values(failures=1, disabled_at=None))
    lame = asked(world_of(store), "channel", now=now)["lame"]
    assert lame.observation == "failed 1 time in a row: answered 503"
    with store.writing() as connection:
        connection.execute(table.update().values(failures=0, disabled_at=None))
    assert set(levels(asked(world_of(store), "channel", now=now)).values()) == {Level.OK}


# Beat, by plain facts


def ticking(**changed: Any) -> CheckResult:
    given: dict[str, Any] = {"asked_at": None, "run_at": None, "answering": [], "known_at": None}
    given |= {"scheduled": ["nightly"], "scheduler": "celery.beat:PersistentScheduler", "interval": 30.0}
    return beat.decide(**(given | {"now": 1000.0} | changed))


@pytest.mark.parametrize(
    ("facts", "level"),
    [
        ({}, Level.NO_DATA),
        ({"asked_at": 980.0}, Level.OK),
        ({"asked_at": 900.0}, Level.CRITICAL),
        ({"known_at": 900.0}, Level.CRITICAL),
        ({"run_at": 990.0, "asked_at": 500.0}, Level.OK),
        ({"run_at": 500.0}, Level.NO_DATA),
        ({"asked_at": 500.0, "answering": ["celerybeat@atlas"]}, Level.OK),
        ({"scheduled": []}, Level.OK),
        ({"scheduled": [], "asked_at": 500.0}, Level.CRITICAL),
        ({"scheduled": [], "known_at": 500.0, "now": 500.0 + 86_401}, Level.OK),
        ({"known_at": 500.0, "now": 500.0 + 86_401}, Level.CRITICAL),
        ({"scheduled": [], "scheduler": "django_celery_beat.schedulers:DatabaseScheduler"}, Level.NO_DATA),
    ],
)
def test_beat_is_known_by_its_ticks(facts: dict[str, Any], level: Level) -> None:
    assert ticking(**facts).level is level


def test_a_beat_that_stopped_is_told_since_its_last_tick(store: Store) -> None:
    now = time.time()
    passed = LastPass(now=now, passed_at=now - 5, doc={"beat_at": now - 20})
    app = plain_app(beat_schedule={"nightly": {"task": "shop.nightly", "schedule": 3600.0}})
    there = asked(world_of(store, app, passed=passed), "beat", now=now)
    later = dataclasses.replace(passed, now=now + 200)

    (gone,) = asked(
        world_of(store, app, passed=later, before=kept(there.values(), at=now)), "beat", now=now + 200
    ).values()

    assert there[""].level is Level.OK
    assert (gone.level, gone.since) == (Level.CRITICAL, now - 20)
    assert gone.affected == "periodic tasks: nightly"


# Passes


@pytest.mark.parametrize(
    ("ago", "word"), [(5, verdict.Word.OK), (40, verdict.Word.OK), (75, verdict.Word.LATE)]
)
def test_a_pass_is_late_after_two_intervals(store: Store, ago: float, word: verdict.Word) -> None:
    pass_over(store, [result(Level.OK)], ago=ago)

    found = verdict.read_health(store, load_settings({}, {}))

    assert found.word is word


def test_the_word_for_all_of_it() -> None:
    now = 1000.0
    passed = LastPass(now=now, passed_at=now - 5)

    def word(*found: Level, **more: Any) -> str:
        rows = kept((result(one, f"c{number}") for number, one in enumerate(found)), at=now)
        return verdict.judge(rows, more.get("passed", passed), load_settings({}, {})).word.value

    assert word(Level.OK) == "ok"
    assert word(Level.OK, Level.NO_DATA) == "no_data"
    assert word(Level.NO_DATA, Level.WARNING) == "warning"
    assert word(Level.WARNING, Level.CRITICAL) == "critical"
    assert word(Level.OK, passed=LastPass(now=now)) == "unknown"
    assert word(Level.OK, passed=LastPass(now=now, passed_at=now - 500)) == "late"


@pytest.mark.parametrize(
    ("passed_ago", "held_for", "is_late"),
    [
        (80.0, 20.0, False),  # it began after 65 s, and a channel that hangs holds it up
        (80.0, -1.0, True),  # it has died
        (100.0, 20.0, True),  # those before it have died
    ],
)
def test_a_pass_that_goes_on_and_began_in_time_is_not_late(
    passed_ago: float, held_for: float, is_late: bool
) -> None:
    now = 1000.0
    passed = LastPass(now=now, passed_at=now - passed_ago, begun_at=now - 15, held_until=now + held_for)
    rows = kept([result(Level.OK)], at=now)

    assert (verdict.judge(rows, passed, load_settings({}, {})).word is verdict.Word.LATE) is is_late
    assert book.is_late(passed, 30.0) is is_late


def test_a_monitor_that_is_switched_off_is_not_ok(store: Store) -> None:
    pass_over(store, [result(Level.OK)], ago=1)

    found = verdict.read_health(store, load_settings({"plet_monitor": False}, {}))

    assert found.word is verdict.Word.NO_DATA
    assert "plet_monitor is off" in found.text


def test_the_pass_before_is_looked_at(store: Store) -> None:
    now = time.time()
    never = asked(world_of(store, passed=watching.last_pass(store)), "monitor", now=now)[""]
    pass_over(store, [result(Level.OK)], ago=500)
    late = asked(world_of(store, passed=watching.last_pass(store)), "monitor", now=now)[""]
    pass_over(store, [result(Level.OK)], ago=1)
    well = asked(world_of(store, passed=watching.last_pass(store)), "monitor", now=now)[""]

    assert [never.level, late.level, well.level] == [Level.NO_DATA, Level.CRITICAL, Level.OK]
    assert asked(world_of(store), "monitor", now=now)[""].level is Level.NO_DATA
    assert health.list_health(store)


def test_a_folder_that_is_gone_harms_no_check(store: Store, tmp_path: Path) -> None:
    for name in NAMES:
        assert asked(world_of(store, home=tmp_path / "gone"), name, now=time.time())
