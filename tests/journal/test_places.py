"""Where a journal may lie; and where it may not: a clear error at the start, counts in a task."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filling import fill_within_a_write
from waiting import wait_until

from plet_celery import journal as journal_module
from plet_celery import journal_delivery
from plet_celery.errors import HomeError, JournalError
from plet_celery.host import boot_id, machine_id, process_started
from plet_celery.journal import open_journal
from plet_celery.journal_place import filesystem_of, read_journal, refuse_foreign_filesystem, remember_store
from plet_celery.journal_reader import Batch
from plet_celery.journal_segments import Segments

MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 27 0:30 / /srv rw,relatime shared:5 - overlay overlay rw,lowerdir=/a
33 27 0:31 / /srv/share rw,relatime shared:5 master:1 - nfs4 host:/export rw,vers=4.2
34 27 0:32 / /home/me/with\\040blank rw - fuse.sshfs me@host: rw
35 27 0:33 / /data rw - xfs /dev/sdb rw
36 35 0:34 / /data/old rw - cifs //host/share rw
37 36 0:35 / /data/old rw - tmpfs tmpfs rw
38 27 0:36 / /vm rw - 9p share rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/plet", "ext4"),
        ("/srv/plet", "overlay"),
        ("/srv/share/plet", "nfs4"),
        ("/srv/shared", "overlay"),
        ("/home/me/with blank/x", "fuse.sshfs"),
        ("/data", "xfs"),
        ("/data/old/x", "tmpfs"),
        ("/vm", "9p"),
    ],
)
def test_the_innermost_and_latest_mount_tells_the_file_system(path: str, kind: str) -> None:
    assert filesystem_of(Path(path), MOUNTS) == kind


@pytest.mark.parametrize("path", ["/srv/share/plet", "/home/me/with blank/x", "/vm/deep/er"])
def test_network_and_fuse_file_systems_are_refused_with_the_way_out(path: str) -> None:
    with pytest.raises(JournalError, match="set plet_home to a folder on a local disk"):
        refuse_foreign_filesystem(Path(path), MOUNTS)


@pytest.mark.parametrize("path", ["/var/plet", "/srv/x", "/data/x", "/data/old/x"])
def test_local_file_systems_are_fine(path: str) -> None:
    refuse_foreign_filesystem(Path(path), MOUNTS)


def test_a_journal_is_made_once_and_keeps_its_id(tmp_path: Path) -> None:
    made = open_journal(tmp_path / "deep" / "journal")
    again = open_journal(tmp_path / "deep" / "journal")

    assert made == again
    assert len(made.journal_id) == 32
    facts = json.loads((made.directory / "journal.json").read_text())
    assert facts["journal_id"] == made.journal_id
    assert facts["machine"] == machine_id()
    assert facts["store_id"] is None
    assert stat.S_IMODE((made.directory / "journal.json").stat().st_mode) == 0o600
    assert [path.name for path in made.directory.iterdir()] == ["journal.json"]


def test_many_processes_that_open_a_new_journal_agree(tmp_path: Path, run_script: Callable[..., Any]) -> None:
    ids = run_script(
        """
import json, os, sys
from pathlib import Path
from plet_celery.journal import open_journal
reading, writing = os.pipe()
go, start = os.pipe()
children = []
for _ in range(16):
    pid = os.fork()
    if pid == 0:
        os.close(start)
        os.read(go, 1)
        os.write(writing, open_journal(Path(sys.argv[1])).journal_id.encode())
        os._exit(0)
    children.append(pid)
os.close(start)
for pid in children:
    os.waitpid(pid, 0)
os.close(writing)
text = os.read(reading, 10_000).decode()
print(json.dumps([text[i:i + 32] for i in range(0, len(text), 32)]))
""",
        tmp_path / "journal",
    )

    assert len(ids) == 16
    assert len(set(ids)) == 1


def test_a_journal_belongs_to_one_store(journal: Path) -> None:
    remember_store(journal, "store-1")
    remember_store(journal, "store-1")

    assert read_journal(journal).store_id == "store-1"
    with pytest.raises(JournalError, match="belongs to store store-1, not to store-2"):
        remember_store(journal, "store-2")


def test_a_damaged_journal_file_is_named(journal: Path) -> None:
    (journal / "journal.json").write_bytes(b"")

    with pytest.raises(JournalError, match=r"journal\.json.*damaged.*move"):
        open_journal(journal)


def test_a_full_disk_leaves_no_drafts_behind(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(journal.iterdir())
    monkeypatch.setattr(os, "fsync", full)

    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            remember_store(journal, "store-1")

    assert sorted(journal.iterdir()) == before


def test_what_was_written_in_half_takes_no_place(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file.name: file.read_bytes() for file in journal.iterdir()}
    fill_within_a_write(monkeypatch)

    with pytest.raises(OSError, match="No space left"):
        remember_store(journal, "store-1")

    assert {file.name: file.read_bytes() for file in journal.iterdir()} == before


def _a_file(place: Path) -> None:
    place.write_text("")


def _world_writable(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)


@pytest.mark.parametrize(("make", "why"), [(_a_file, "is a file"), (_world_writable, "writable by others")])
def test_an_unfit_place_is_refused_at_the_start(
    tmp_path: Path, make: Callable[[Path], None], why: str
) -> None:
    make(tmp_path / "journal")

    with pytest.raises(HomeError, match=why):
        open_journal(tmp_path / "journal")


def test_a_read_only_disk_is_refused_at_the_start(small_disk: Callable[[str], Path]) -> None:
    disk = small_disk("1m")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)

    with pytest.raises(HomeError, match="cannot be used"):
        open_journal(disk / "journal")


@pytest.mark.parametrize("make", [_a_file, _world_writable, lambda place: None])
def test_in_a_task_an_unfit_place_only_counts(
    tmp_path: Path,
    new_writer: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    read_all: Callable[[Path], Batch],
    make: Callable[[Path], None],
) -> None:
    monkeypatch.setattr(journal_delivery, "_RETRY", 0.1)
    place = tmp_path / "unfit"
    make(place)
    writer = new_writer(place)

    with caplog.at_level(logging.ERROR, "plet_celery.journal"):
        refused = [writer.append("run.started", "r", "a", {"i": 0}) for _ in range(1000)]
    if place.is_dir():
        place.rmdir()
    place.unlink(missing_ok=True)
    open_journal(place)
    wait_until(lambda: writer.append("run.started", "r", "a", {"i": 1}), what="the folder is tried again")

    assert not any(refused)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "journal file cannot be opened"
    ]
    batch = read_all(place)
    assert [event.data["i"] for event in batch.events] == [1]
    assert batch.drops[str(writer.id)]["error"] >= 1000


def test_a_disk_that_turns_read_only_only_counts(
    small_disk: Callable[[str], Path], new_writer: Any, read_all: Callable[[Path], Batch]
) -> None:
    disk = small_disk("1m")
    directory = open_journal(disk / "journal").directory
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    writer = new_writer(directory)

    refused = [writer.append("run.started", "r", "a", {}) for _ in range(100)]
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    wait_until(lambda: writer.append("run.started", "r", "a", {}), what="the disk is tried again")

    assert not any(refused)
    assert read_all(directory).drops[str(writer.id)]["error"] >= 100


def test_an_unfit_place_is_tried_at_most_once_a_second(
    tmp_path: Path, new_writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []
    clock = 1000.0
    really = Segments.change

    def counting(segments: Segments) -> None:
        tries.append(clock)
        really(segments)

    monkeypatch.setattr(Segments, "change", counting)
    monkeypatch.setattr(journal_module, "_mono", lambda: clock)
    monkeypatch.setattr(journal_delivery, "_mono", lambda: clock)
    writer = new_writer(tmp_path / "missing")
    for _ in range(150):
        clock += 0.01
        writer.append("run.succeeded", "r", "a", {})

    assert len(tries) == 2
    assert tries[1] - tries[0] > 0.99


def test_a_host_tells_itself_apart() -> None:
    assert len(machine_id()) == 16
    assert machine_id() == machine_id()
    assert len(boot_id()) in (0, 36)
    assert 0 < process_started() <= process_started() + 1
    assert abs(process_started() - Path("/proc/self").stat().st_ctime) < 3600
