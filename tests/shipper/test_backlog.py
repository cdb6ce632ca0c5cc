"""A large backlog: memory stays bounded, and it is caught up at a rate that is printed."""

from __future__ import annotations

import re
import time
from pathlib import Path

import psutil
import pytest
from shipping import Said, document, faults, shipping, writing

from plet_celery import presence


def peak_mib(pid: int) -> float:
    """The largest resident size so far."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_backlog_of_200_000_events_is_caught_up_in_bounded_memory(tmp_path: Path) -> None:
    config = document(tmp_path / "home")
    with writing(config, 1, runs=4200, lines=40) as writer:
        writer.wait()
        said = Said.in_files(writer.notes)
    size = sum(file.stat().st_size for file in Path(config["journal"]).glob("*.plj"))

    started = time.monotonic()
    with shipping(config) as shipper:
        at_rest = peak_mib(shipper.pid)
        assert presence.await_drain(Path(config["journal"]), timeout=400)
        took, peak = time.monotonic() - started, peak_mib(shipper.pid)
        cpu = sum(psutil.Process(shipper.pid).cpu_times()[:2])

    print(
        f"\nevents={said.events} journal={size / 2**20:.0f} MiB took={took:.1f} s"
        f" rate={said.events / took:.0f}/s cpu={cpu / said.events * 1e6:.0f} us/event"
        f" memory={at_rest:.0f} → {peak:.0f} MiB"
    )
    assert said.events >= 200_000
    assert peak - at_rest < 150
    some = Said(kinds=dict(list(said.kinds.items())[::40]), lines=said.lines)
    assert faults(config, some) == []
