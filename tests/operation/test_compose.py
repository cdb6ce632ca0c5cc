"""docker-compose.yml: every command of every service is run, until a census has ended."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from composed import Image, Service, compose_file
from services import missing
from stacks import processes_of
from waiting import wait_until

from plet_celery.store import open_store, queries

OURS = ("migrate", "worker1", "worker2", "beat", "flower")
SERVERS = ("redis", "postgres")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image that all services of ours share."""
    file = compose_file()
    dockerfiles = {file["services"][name]["build"]["dockerfile_inline"] for name in OURS}
    assert len(dockerfiles) == 1
    return Image(tmp_path_factory.mktemp("image"), dockerfiles.pop())


@pytest.fixture
def services(image: Image, tmp_path: Path, valkey: Any, postgres_url: str) -> Iterator[dict[str, Service]]:
    """Our services, told where the test's Redis and PostgreSQL are; ended whatever happens."""
    valkey.flush()
    file = compose_file()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    elsewhere = {
        "redis://redis:6379/0": valkey.broker_url,
        "redis://redis:6379/1": valkey.result_url,
        "postgresql+psycopg://plet:only-for-trying@postgres:5432/plet": postgres_url,
        "5555": port,
    }
    with ExitStack() as stack:
        made = {}
        for name in OURS:
            spec = file["services"][name]
            env = {key: elsewhere.get(value, value) for key, value in spec["environment"].items()}
            assert not [value for value in env.values() if "@postgres" in value or "//redis" in value]
            made[name] = Service(name, spec, image, tmp_path, env)
            stack.callback(made[name].kill)
        yield made


def test_the_file_says_what_a_container_needs() -> None:
    file = compose_file()
    services = file["services"]

    assert set(services) == {*OURS, *SERVERS}
    assert all(
        "healthcheck" in services[name] for name in ("redis", "postgres", "worker1", "worker2", "flower")
    )
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"] == "only-for-trying"
    for name in ("worker1", "worker2"):
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > 10
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    journals = [services[name]["volumes"][0] for name in ("worker1", "worker2")]
    assert len(set(journals)) == 2
    named = {one.split(":")[0] for service in services.values() for one in service.get("volumes", [])}
    assert named == set(file["volumes"])


def test_the_servers_health_checks_reach_a_server(valkey: Any, postgres_url: str) -> None:
    services = compose_file()["services"]
    redis, postgres = (services[name]["healthcheck"]["test"] for name in SERVERS)
    url = sa.make_url(postgres_url)
    env = os.environ | {"PGHOST": str(url.host or url.query["host"]), "PGPORT": str(url.port or 5432)}
    nowhere = env | {"PGPORT": "1"}

    # A socket that is no default is the only thing that is added.
    assert _checked([redis[1], "-s", str(valkey.path), *redis[2:]], env).stdout == "PONG\n"
    assert _checked(postgres[1:], env).returncode == 0

    assert _checked(postgres[1:], nowhere).returncode == 2
    user, database = (postgres[postgres.index(option) + 1] for option in ("-U", "-d"))
    ours = sa.make_url(services["migrate"]["environment"]["PLET_DATABASE_URL"])
    assert (user, database) == (ours.username, ours.database)
    assert services["postgres"]["environment"]["POSTGRES_USER"] == user


def _checked(argv: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    if shutil.which(argv[0]) is None:
        missing(argv[0], "apt install redis-tools postgresql-client")
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_census_ends_and_is_read_from_postgresql(
    image: Image, services: dict[str, Service], tmp_path: Path, postgres_url: str
) -> None:
    # Given: the image is built as its file says, and the tables are made.
    assert image.done == ["FROM", "ENV", "WORKDIR", "COPY", "COPY", "RUN", "COPY", "RUN", "USER"]
    assert image.user == "plet"
    services["migrate"].start()
    assert services["migrate"].wait() == 0, services["migrate"].said
    running = [services[name] for name in OURS if name != "migrate"]
    for service in running:
        service.start()

    # When: everything is healthy, and a census is called.
    for name in ("worker1", "worker2", "flower"):
        service = services[name]
        wait_until(service.is_healthy, 120, every=0.5, what=lambda service=service: service.said)  # type: ignore[misc]
    celery = ("celery", "-A", "example_project")
    called = services["worker1"].run(
        *celery, "call", "example_project.census", "--kwargs", '{"limit": 60, "batch_size": 10}'
    )
    assert called.returncode == 0, called.stderr
    run_id = called.stdout.strip()

    # Then: any of them reads its end from the store.
    def shown() -> dict[str, Any]:
        done = services["worker2"].run(*celery, "plet", "show", run_id, "--json")
        found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return found

    wait_until(
        lambda: shown().get("state") == "succeeded",
        180,
        every=1.0,
        what=lambda: f"{shown()}\n{said(running)}",
    )
    wait_until(lambda: "beat: Starting" in services["beat"].said, 30)
    for service in running:
        assert service.stop() == 0, (service.name, service.said)

    store = open_store(postgres_url, read_only=True)
    runs = queries.list_runs(store, limit=100).items
    assert {run.task.removeprefix("example_project.") for run in runs} >= {"census", "parse", "poison"}
    # One of them may be quick enough to take all of it.
    workers = {run.worker for run in runs if run.worker}
    assert workers and workers <= {f"worker{n}@{socket.gethostname()}" for n in (1, 2)}
    assert not [run for run in runs if run.state in ("queued", "running", "lost")]
    assert len({host.journal for host in queries.list_hosts(store)}) == 2
    store.close()
    # Each stopped worker has waited for its last events, so nothing has to outlive its container.
    wait_until(lambda: not processes_of(tmp_path), 30, what=lambda: "\n".join(processes_of(tmp_path)))


def said(running: list[Service]) -> str:
    return "\n".join(f"== {service.name}\n{service.said[-1500:]}" for service in running)
