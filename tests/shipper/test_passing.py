"""A shipper has passes of the monitor done where nobody else does them, and is not harmed by them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from shipping import document, shipping, told
from waiting import wait_until

from plet_celery import events
from plet_celery.errors import PletError
from plet_celery.journal import Writer, WriterLimits
from plet_celery.shipper.passing import CHILD_SECONDS, Child, Duty
from plet_celery.store import open_store, queries, watching
from plet_celery.store.watching import LastPass

NOW = 1_800_000_000.0


def _last(config: dict[str, Any]) -> LastPass | None:
    store = open_store(config["database_url"], read_only=True)
    try:
        return watching.last_pass(store)
    except PletError:
        return None
    finally:
        store.close()


def _passed(config: dict[str, Any]) -> LastPass | None:
    last = _last(config)
    return last if last is not None and last.passed_at is not None else None


def _await_pass(config: dict[str, Any]) -> LastPass:
    found = wait_until(lambda: _passed(config), 60, what=lambda: told(config))
    assert found is not None
    return found


def _children(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(pid).children()
        return [one for one in found if one.status() != psutil.STATUS_ZOMBIE]
    return []


@pytest.fixture
def silence() -> Iterator[str]:
    """The URL of a database that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"postgresql+psycopg://nobody@127.0.0.1:{server.getsockname()[1]}/none"


def test_it_is_due_two_intervals_after_the_last_sign_of_a_pass() -> None:
    duty = Duty(interval=30.0, began=100.0)

    def after(**facts: Any) -> float:
        return duty.due_in(LastPass(now=NOW, **facts), 1000.0)

    assert after(begun_at=NOW - 10, passed_at=NOW - 10) == 50
    assert after(begun_at=NOW - 61, passed_at=NOW - 60.5) < 0
    assert after(begun_at=NOW - 5, passed_at=NOW - 600) == 55, "somebody has tried a moment ago"
    assert after(begun_at=NOW - 600, held_until=NOW + 7) == 7, "somebody passes, or has died passing"


def test_where_nobody_ever_passed_the_time_counts_since_it_began() -> None:
    duty = Duty(interval=30.0, began=100.0)

    assert duty.due_in(LastPass(now=NOW), 101.0) == 59
    assert duty.due_in(LastPass(now=NOW), 160.0) == 0


def test_where_nobody_passes_a_pass_is_done_from_here(tmp_path: Path) -> None:
    config = document(tmp_path / "home", monitor_interval=1.0)

    with shipping(config):
        last = _await_pass(config)

    assert last.owner.startswith("shipper ")
    assert not last.has_app
    assert last.doc["caller"] == "shipper"


def test_where_somebody_passes_none_is_done_from_here(tmp_path: Path) -> None:
    """A pass that is kept recent by another one for many of the shipper's looks."""
    config = document(tmp_path / "home", monitor_interval=30.0)

    with shipping(config) as shipper:
        wait_until(lambda: _last(config), 60)
        store = open_store(config["database_url"])
        lease = watching.take(store, "beat", seconds=30)
        assert lease is not None
        watching.release(store, lease, passed=True, doc={})
        store.close()

        assert not _children(shipper.pid)
        assert "nobody passes" not in told(config)
    last = _last(config)
    assert last is not None
    assert last.owner == "beat"


@pytest.mark.parametrize("why", ["the monitor is off", "the app is not known"])
def test_where_there_is_none_to_do_none_is_done(tmp_path: Path, why: str) -> None:
    """Not known: `celery plet ship` without -A; its passes would call down a broker that it does not know."""
    config = document(tmp_path / "home", monitor_interval=1.0, monitor=why != "the monitor is off")
    if why == "the app is not known":
        del config["celery"]
    other = document(tmp_path / "other", monitor_interval=1.0)

    with shipping(config), shipping(other):
        wait_until(lambda: _passed(other), 60)

    last = _last(config)
    assert last is not None
    assert last.begun_at is None


def test_there_is_never_more_than_one_child(tmp_path: Path) -> None:
    config = document(tmp_path / "home", monitor_interval=1.0)
    seen: list[int] = []

    def third() -> bool:
        seen.append(len(_children(shipper.pid)))
        last = _last(config)
        return last is not None and last.begun_at is not None and last.begun_at > begun + 3

    with shipping(config) as shipper:
        first = _await_pass(config)
        begun = first.begun_at or 0.0
        wait_until(third, 60, every=0.05, what=lambda: told(config))

    assert max(seen) == 1


def test_a_child_ends_with_a_shipper_that_is_killed(tmp_path: Path, silence: str) -> None:
    config = document(tmp_path / "home") | {"database_url": silence}
    parent = os.fork()
    if not parent:
        Child(config, 300)
        signal.pause()
        os._exit(0)
    try:
        child = wait_until(lambda: _children(parent), 30)[0]
        os.kill(parent, signal.SIGKILL)
        assert psutil.wait_procs([child], timeout=90)[1] == []
    finally:
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)


def test_a_child_that_hangs_is_ended_when_its_time_is_over(tmp_path: Path, silence: str) -> None:
    config = document(tmp_path / "home") | {"database_url": silence}

    child = Child(config, 3)

    code = wait_until(lambda: child.code(time.monotonic()), 30)
    assert code in (75, -signal.SIGKILL)


def test_a_child_bounds_its_own_time_where_its_parent_is_frozen(tmp_path: Path, silence: str) -> None:
    config = document(tmp_path / "home") | {"database_url": silence}

    child = Child(config, 3)

    assert wait_until(lambda: child.code(0.0), 30) == 75, "nobody looks at its deadline but itself"


def test_a_child_is_ended_with_the_shipper(tmp_path: Path, silence: str) -> None:
    child = Child(document(tmp_path / "home") | {"database_url": silence}, CHILD_SECONDS)
    assert psutil.pid_exists(child.pid)

    child.end()

    assert not psutil.pid_exists(child.pid)


def test_a_child_gets_a_document_that_no_pipe_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A child that is slow to start is not what this is about.
    monkeypatch.setattr("plet_celery.spawning._WRITE_SECONDS", 60.0)
    config = document(tmp_path / "home", monitor=False)

    child = Child(config | {"objectives": [{"text": "x" * 1000}] * 1000}, 120)

    assert wait_until(lambda: [child.code(time.monotonic())] != [None], 90)
    assert child.code(time.monotonic()) == 0


def test_passes_that_fail_do_not_harm_shipping(tmp_path: Path) -> None:
    config = document(tmp_path / "home", monitor_interval=1.0, gather=0.05) | {"celery": "no mapping"}

    with shipping(config) as shipper:
        wait_until(lambda: "a pass failed" in told(config), 60, what=lambda: told(config))
        writer = Writer(
            Path(config["journal"]),
            role="worker",
            settings_fingerprint=config["fingerprint"],
            limits=WriterLimits(min_free_bytes=0, min_free_percent=0.0),
        )
        writer.append(events.RUN_STARTED, "run1", "a1", {"task": "shop.pay"})
        store = open_store(config["database_url"], read_only=True)
        wait_until(lambda: queries.list_runs(store).items, 60)
        store.close()
        writer.close()
        assert shipper.poll() is None
    last = _last(config)
    assert last is not None
    assert last.passed_at is None


def test_a_child_imports_no_app_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app lies where it could be imported, and tells if it is; the control imports it."""
    (tmp_path / "shopapp.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    config = document(tmp_path / "home", monitor_interval=1.0)
    config["celery"] = {"main": "shopapp", "conf": {"imports": ["shopapp"], "include": ["shopapp"]}}

    with shipping(config):
        _await_pass(config)

    assert not (tmp_path / "imported").exists()
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("shopapp")
    assert (tmp_path / "imported").exists()


def test_a_store_whose_clock_was_put_back_keeps_nobody_from_passing() -> None:
    duty = Duty(interval=30.0, began=100.0)
    last = LastPass(now=NOW, begun_at=NOW + 21_600, passed_at=NOW + 21_601)

    assert duty.due_in(last, 110.0) == 50.0
    assert duty.due_in(last, 1000.0) <= 0
