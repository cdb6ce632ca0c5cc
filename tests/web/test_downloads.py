"""Downloads of logs: piece by piece, as slow as their reader, broken off where they fail."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from flowers import RunningFlower, running_flower
from waiting import wait_until

LINES, WIDTH = 12_000, 2_000
FEW = 50


@pytest.fixture(scope="module")
def run(shop: Any) -> Any:
    """A run of two attempts, the second with 24 MiB of text."""
    shop.write()
    made = shop.story.run("shop.index", started=shop.now - 600, id='x" ;\r\n../%2e"')
    made.log("of the first attempt")
    made.retry()
    for number in range(LINES):
        made.log(f"{number:06} " + "x" * WIDTH)
    made.succeed()
    shop.story.ship()
    return made


@pytest.fixture(scope="module")
def flower(shop: Any, run: Any) -> Iterator[RunningFlower]:
    with running_flower(shop.folder) as found:
        yield found


def path_of(run: Any, query: str = "") -> str:
    from urllib.parse import quote

    return f"plet/runs/{quote(run.id, safe='')}/log{query}"


def test_each_attempt_is_a_file_of_its_own(flower: RunningFlower, run: Any) -> None:
    first, second = (flower.get(path_of(run, f"?log_attempt={number}&log_raw=1")) for number in (1, 2))

    assert "of the first attempt" in first.text
    assert "of the first attempt" not in second.text
    assert len(second.text) > LINES * WIDTH
    assert f"{LINES - 1:06} x" in second.text
    for number, one in enumerate((first, second), 1):
        name = one.headers["content-disposition"]
        assert name.startswith('attachment; filename="run-')
        assert name.endswith(f'-attempt-{number}.log"')
        assert not set(name.removeprefix('attachment; filename="').rstrip('"')) & set('"\\/;\r\n%')
        assert one.headers["content-type"] == "text/plain; charset=utf-8"
        assert one.headers["x-content-type-options"] == "nosniff"


def test_a_log_can_be_looked_at_as_text(flower: RunningFlower, run: Any) -> None:
    answer = flower.get(path_of(run, "?log_attempt=1&log_raw=1&log_tab=1"))

    assert answer.headers["content-disposition"].startswith("inline; ")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "of the first attempt" in answer.text


def test_slow_readers_hold_no_memory_and_no_thread(flower: RunningFlower, run: Any) -> None:
    process = psutil.Process(flower.process.pid)
    before = process.memory_info().rss
    readers = [asking(flower, path_of(run, "?log_attempt=2&log_raw=1")) for _ in range(12)]
    try:
        for one in readers:
            assert one.recv(20).startswith(b"HTTP/1.1 200")
        assert flower.get(path_of(run, "?log_attempt=1")).status == 200  # four threads read files
        assert process.memory_info().rss - before < 64 << 20
    finally:
        for one in readers:
            one.close()
    wait_until(lambda: not [one for one in process.net_connections() if one.status == "ESTABLISHED"], 30)
    assert "Traceback" not in flower.log.read_text()


def asking(flower: RunningFlower, path: str) -> socket.socket:
    """A connection that has asked, and reads little at a time."""
    place = urlsplit(flower.base)
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.settimeout(120)
    line.connect((place.hostname, place.port))
    line.sendall(f"GET /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    return line


def test_half_a_log_does_not_look_like_all_of_it(flower: RunningFlower, run: Any, shop: Any) -> None:
    line = asking(flower, path_of(run, "?log_attempt=2&log_raw=1"))
    found = line.recv(20)
    assert found.startswith(b"HTTP/1.1 200")

    (log,) = shop.home.rglob("run.log")
    log.parent.rename(shop.folder / "pruned")
    with contextlib.suppress(ConnectionResetError):
        while piece := line.recv(1 << 20):
            found += piece
    line.close()

    assert len(found) < LINES * WIDTH
    assert not found.endswith(b"0\r\n\r\n")
    assert "a download was broken off" in flower.log.read_text()
