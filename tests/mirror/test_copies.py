"""A mirror holds what the host's folders hold, as prefixes of whole lines, and nothing waits for it."""

from __future__ import annotations

import errno
import os
import random
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from removing import Host, folders_below
from storing import new_store
from waiting import wait_until

from plet_celery import events, mirror
from plet_celery.logsources.source import LogSource
from plet_celery.mirror import Mirror
from plet_celery.mirror_copies import places
from plet_celery.store import Store, queries
from plet_celery.wholewrites import write_whole


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = new_store(tmp_path)
    yield made
    made.close()


@pytest.fixture
def share(tmp_path: Path) -> Path:
    folder = tmp_path / "share"
    folder.mkdir()
    return folder


@pytest.fixture
def host(store: Store, tmp_path: Path, share: Path) -> Iterator[Host]:
    made = Host(store, tmp_path / "a", name="Atlas 1", mirror=share)
    yield made
    made.close()


def copier(host: Host) -> Mirror:
    assert host.mirror is not None
    return host.mirror


def files(root: Path) -> dict[str, bytes]:
    """Return all files below a root."""
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def place_of(host: Host, share: Path) -> Path:
    (found,) = places(share, host.id)
    return found


def test_the_copy_is_the_original_and_private(host: Host, share: Path) -> None:
    old = os.umask(0)
    try:
        host.run(tenant="acme/site1")
        host.run(text="a\nb")
        copier(host).turn()
    finally:
        os.umask(old)

    place = place_of(host, share)
    assert files(place) == files(host.runs)
    assert place.name.startswith("atlas-1") and place.name.endswith(host.id[:8])
    for one in place.rglob("*"):
        wanted = 0o700 if one.is_dir() else 0o600
        assert stat.S_IMODE(one.stat().st_mode) == wanted, one


def test_a_growing_run_is_always_a_prefix_of_whole_lines(
    host: Host, share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "_BLOCK", 300)  # many small appends
    told = host.story(end=None)
    host.tell(told)
    seen: list[bytes] = []
    true = write_whole

    def watched(descriptor: int, data: Any, offset: int) -> None:
        true(descriptor, data, offset)
        seen.extend(content for name, content in files(share).items() if name.endswith("run.log"))

    monkeypatch.setattr(mirror, "write_whole", watched)
    for number in range(2, 12):
        line = host.event(
            events.LOG_WRITTEN,
            time.time(),
            told[0].run,
            told[0].attempt,
            level=20,
            text=f"{number} é",
            i=number,
        )
        host.tell([line])
        copier(host).turn()

    whole = (host.runs / host.folders()[0] / "run.log").read_bytes()
    assert len(seen) > 20
    assert all(whole.startswith(content) for content in seen)
    assert [content for content in seen if content and not content.endswith(b"\n")] == []
    assert files(place_of(host, share)) == files(host.runs)


def test_what_is_rewritten_here_is_copied_anew(host: Host, share: Path) -> None:
    host.run()
    copier(host).turn()
    (folder,) = host.folders()
    log = host.runs / folder / "run.log"
    for content in (b"[another] line\n", log.read_bytes().replace(b"attempt", b"Attempt") * 3):
        log.write_bytes(content)
        copier(host).note([folder])
        copier(host).turn()
        assert (place_of(host, share) / folder / "run.log").read_bytes() == content
    (host.runs / folder / "stage_1_gone.log").write_bytes(b"")
    copier(host).note([folder])
    copier(host).turn()
    (host.runs / folder / "stage_1_gone.log").unlink()
    copier(host).note([folder])
    copier(host).turn()
    assert files(place_of(host, share)) == files(host.runs)


def test_it_goes_on_where_it_was_after_a_crash_anywhere(
    host: Host, share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off at any write, rename or unlink; the next process finds by itself what is missing."""
    chance = random.Random(7)
    true = write_whole

    class Crash(BaseException):
        pass

    def cut(descriptor: int, data: Any, offset: int) -> None:
        kept = chance.choice([len(data), chance.randrange(len(data) + 1)])
        true(descriptor, bytes(data)[:kept], offset)
        if kept < len(data):
            raise Crash

    crashes = 0
    for number in range(12):
        host.run(text=f"{number} " + "x" * 500)
        while True:
            monkeypatch.setattr(mirror, "write_whole", cut)
            fresh = Mirror(share, host.runs, host.journal.directory, copier(host)._origin)
            try:
                fresh.turn()
            except Crash:
                crashes += 1
                continue
            break
        monkeypatch.undo()
        assert files(place_of(host, share)) == files(host.runs)
    assert crashes >= 12


def test_a_folder_planted_in_the_mirror_is_not_followed(host: Host, share: Path, tmp_path: Path) -> None:
    host.run(tenant="acme")
    copier(host).turn()
    outside = tmp_path / "outside"
    outside.mkdir()
    host.run(tenant="beta")
    (place_of(host, share) / "beta").symlink_to(outside)
    host.run(tenant="gamma")

    copier(host).turn()

    assert list(outside.iterdir()) == []
    assert {one.split("/")[0] for one in folders_below(place_of(host, share))} == {"acme", "gamma"}


def test_a_folder_that_cannot_be_copied_or_removed_is_told_once(
    host: Host, share: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run writes to it every second, and its removal is asked for every five."""
    host.run(tenant="acme")
    copier(host).turn()
    (place_of(host, share) / "beta").symlink_to(tmp_path)

    for _ in range(3):
        host.run(tenant="beta", run="the-same-run")
        copier(host).turn()
    assert not copier(host).has_removed(host.id, "beta/whatever")
    for _ in range(3):
        copier(host).turn()

    assert caplog.text.count("is not copied to the mirror") == 1
    assert caplog.text.count("is not removed") == 1


def test_copies_that_nobody_asks_for_again_leave_room_for_others(
    host: Host, share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a silent journal's copies each shipper asks, and only one tells the store."""
    monkeypatch.setattr(mirror, "DIRTY_MAX", 3)
    for number in range(3):
        assert not copier(host).has_removed("0" * 32, f"acme/{number}")
    copier(host).turn()

    assert not copier(host).has_removed("0" * 32, "acme/another")
    copier(host).turn()

    assert copier(host).has_removed("0" * 32, "acme/another")


def test_a_share_that_is_not_mounted_fills_no_disk(host: Host, share: Path) -> None:
    share.rmdir()
    host.run()

    with pytest.raises(FileNotFoundError, match="mount it"):
        copier(host).turn()

    assert not share.exists()
    share.mkdir()
    copier(host).turn()
    assert files(place_of(host, share)) == files(host.runs)


def test_a_full_mirror_is_said_once_and_tried_again(
    host: Host, share: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    true, full = write_whole, threading.Event()
    full.set()

    def limited(descriptor: int, data: Any, offset: int) -> None:
        if full.is_set():
            true(descriptor, bytes(data)[: len(data) // 2], offset)
            raise OSError(errno.ENOSPC, "No space left on device")
        true(descriptor, data, offset)

    monkeypatch.setattr(mirror, "write_whole", limited)
    monkeypatch.setattr(mirror, "_BACKOFF_MAX", 0.02)
    monkeypatch.setattr(mirror, "_LOG_EVERY", 1_000_000)
    host.run()
    made = copier(host)
    made.start()
    try:
        wait_until(lambda: made.failures >= 3, 30)
        # It goes on trying meanwhile: half a line is there for a moment, and taken back each time.
        wait_until(lambda: not any(files(share).values()), 30)
        wait_until(lambda: made.facts()["behind"] == 1, 30)
        assert caplog.text.count("mirror failed") == 1
        full.clear()
        wait_until(lambda: made.failures == 0 and made.facts()["behind"] == 0, 30)
    finally:
        assert made.stop(30, finish=True)
    assert files(place_of(host, share)) == files(host.runs)


def test_a_mirror_that_hangs_delays_nobody_and_is_left_behind(
    host: Host, share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, free = threading.Event(), threading.Event()
    true = write_whole

    def stuck(descriptor: int, data: Any, offset: int) -> None:
        hanging.set()
        free.wait(120)
        true(descriptor, data, offset)

    monkeypatch.setattr(mirror, "write_whole", stuck)
    made = copier(host)
    made.start()
    try:
        host.run()
        assert hanging.wait(30)
        for _ in range(20):
            host.run()  # store and log files go on, with the same sinks
        assert len(host.folders()) == 20 + 1
        assert not made.has_removed(host.id, host.folders()[0])
        assert not made.stop(0.05)
    finally:
        free.set()


def test_a_log_is_read_from_the_mirror_where_its_host_is_another(
    host: Host, share: Path, store: Store, tmp_path: Path
) -> None:
    told = host.story(end=None, text="first")
    host.tell(told)
    copier(host).turn()
    run, attempt = told[0].run, told[0].attempt
    assert run is not None
    for number in (2, 3):
        line = host.event(
            events.LOG_WRITTEN, time.time(), run, attempt, level=20, text=f"line {number}", i=number
        )
        host.tell([line])
    found = queries.get_run(store, run)
    elsewhere = tmp_path / "b" / "runs"

    here = LogSource(host.runs, store, found, mirror=str(share))
    there = LogSource(elsewhere, store, found, mirror=str(share))
    without = LogSource(elsewhere, store, found)

    assert (here.is_local, here.copies) == (True, [])
    assert not there.is_local and len(there.copies) == 1 and there.as_of is not None
    assert (without.is_local, without.copies) == (False, [])
    # The copy has one line, the store the two behind it.
    of_task = [line.text for line in there.history(None) if line.stream != "plet"]
    assert of_task == ["first", "line 2", "line 3"]
    copier(host).turn()
    assert [line.text for line in there.new() if line.stream != "plet"] == []  # each line comes once
    assert [line.text for line in there.tail(2)] == ["line 2", "line 3"]


def test_lines_that_neither_the_mirror_nor_the_store_has_are_a_marked_gap(
    host: Host, share: Path, store: Store, tmp_path: Path
) -> None:
    told = host.story(end=None, text="first")
    host.tell(told)
    copier(host).turn()
    run, attempt = told[0].run, told[0].attempt
    assert run is not None
    line = host.event(events.LOG_WRITTEN, time.time(), run, attempt, level=20, text="ninth", i=9)
    host.tell([line])

    there = LogSource(tmp_path / "b", store, queries.get_run(store, run), mirror=str(share))

    shown = [(one.stream, one.text) for one in there.history(None) if one.stream != "plet"]
    assert shown[1:] == [("gap", "— 7 lines have not reached the mirror —"), ("log", "ninth")]
