"""A real shipper beside a share that hangs for ever: it stores, writes log files and ends as without one."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from shipping import Said, document, ended, faults, shipping, writing
from waiting import wait_until

from plet_celery import presence

# Every write below the share sleeps, as in a call to a server that is gone.
_HANGS = """
import os, time
share = {share!r}
true = os.pwrite
def pwrite(descriptor, data, offset):
    if os.readlink(f"/proc/self/fd/{{descriptor}}").startswith(share):
        open({told!r}, "w").close()
        time.sleep(3600)
    return true(descriptor, data, offset)
os.pwrite = pwrite
"""


def logs(root: Path) -> dict[Path, bytes]:
    """What the log files below a folder hold."""
    return {file.relative_to(root): file.read_bytes() for file in root.rglob("run.log")}


@pytest.mark.parametrize("hangs", [True, False])
def test_a_share_that_hangs_holds_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    share, told = tmp_path / "share", tmp_path / "told"
    share.mkdir()
    if hangs:
        (tmp_path / "sitecustomize.py").write_text(_HANGS.format(share=str(share), told=str(told)))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    config = document(tmp_path / "home", mirror=str(share))
    runs = Path(config["home"]) / "runs"

    def is_copied() -> bool:
        found = logs(runs)
        return len(found) == 6 and [logs(place) for place in share.iterdir()] == [found]

    with shipping(config) as shipper, writing(config, 1, runs=6, lines=20) as writer:
        writer.wait()
        said = Said.in_files(writer.notes)
        assert presence.await_drain(Path(config["journal"]), timeout=60)
        if hangs:
            wait_until(told.exists, 60)
        else:
            # Before the end, which has no more than two seconds for the last copies.
            wait_until(is_copied, 60)
        assert faults(config, said) == []
        shipper.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert ended(shipper, 60) == 0
        print(f"\nended in {time.monotonic() - began:.1f} s, hangs={hangs}")
    if not hangs:
        assert is_copied()
