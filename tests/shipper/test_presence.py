"""Signs of life and requests, by files beside the journal."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from filling import fill_within_a_write
from waiting import wait_until

from plet_celery import presence


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


def process_of(pid: int) -> presence.Process:
    found = presence.process_of(pid)
    assert found is not None
    return found


def a_beat(**changes: Any) -> presence.Beat:
    beat = presence.Beat(
        process=presence.this_process(),
        role="shipper",
        mono=1.5,
        wall=2.5,
        plet="1",
        fingerprint="f",
        state="serving",
        turns=(1.0,),
        sinks={"store": {"failures": 0}},
    )
    return msgspec.structs.replace(beat, **changes)


def test_a_beat_is_read_as_it_was_written(tmp_path: Path) -> None:
    beat = a_beat()

    presence.write_beat(tmp_path, beat)

    assert presence.read_beat(tmp_path) == beat
    assert (tmp_path / presence.BEAT_NAME).stat().st_mode & 0o777 == 0o600


def test_on_a_full_disk_a_beat_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever watches would take its shipper for a frozen one, and kill it again and again."""
    presence.write_beat(tmp_path, a_beat(sinks={"store": {"error": "x" * 500}}))

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(presence, "_write", full)

    for mono in (2.5, 3.5):
        presence.write_beat(tmp_path, a_beat(mono=mono))
        assert presence.read_beat(tmp_path) == a_beat(mono=mono)


def test_half_a_beat_never_takes_the_place_of_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        fill_within_a_write(patch)
        presence.write_beat(tmp_path, a_beat())

    assert not (tmp_path / presence.BEAT_NAME).exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "x"}', b"\xff"])
def test_a_damaged_beat_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / presence.BEAT_NAME).write_bytes(content)

    assert presence.read_beat(tmp_path) is None


def test_exactly_the_process_of_a_beat_is_ended(sleeper: subprocess.Popen[bytes]) -> None:
    assert presence.kill_exactly(process_of(sleeper.pid))

    assert sleeper.wait() == -signal.SIGKILL


@pytest.mark.parametrize("changes", [{"created": "1"}, {"boot": "b"}, {"namespace": "n"}, {"uid": 12345}])
def test_a_process_that_only_shares_the_pid_is_never_ended(
    sleeper: subprocess.Popen[bytes], changes: dict[str, object]
) -> None:
    other = msgspec.structs.replace(process_of(sleeper.pid), **changes)

    assert not presence.is_visible(other)
    assert not presence.kill_exactly(other)
    assert sleeper.poll() is None


def test_a_process_that_is_gone_is_not_visible() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE) as process:
        was = process_of(process.pid)

    assert not presence.is_visible(was)
    assert not presence.kill_exactly(was)


def test_a_request_is_seen_answered_and_withdrawn_once(tmp_path: Path) -> None:
    request = presence.request_drain(tmp_path, leave=True)

    assert presence.drain_requests(tmp_path) == {request: presence.Request(leave=True)}
    assert presence.withdraw(request)
    assert not presence.withdraw(request)
    assert presence.drain_requests(tmp_path) == {}


def test_a_drain_that_nobody_answers_takes_its_request_back(tmp_path: Path) -> None:
    assert not presence.await_drain(tmp_path, timeout=0.05, coming=lambda: True)
    assert presence.drain_requests(tmp_path) == {}


def test_a_drain_is_done_when_its_request_is_gone(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        wait_until(lambda: presence.drain_requests(tmp_path))
        for request in presence.drain_requests(tmp_path):
            presence.withdraw(request)
        os._exit(0)

    assert presence.await_drain(tmp_path, timeout=20.0, coming=lambda: True)
    os.waitpid(pid, 0)
