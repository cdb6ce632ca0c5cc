"""A database that goes away in every way that we can make: nothing is lost, twice, or in anybody's way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from proxying import Cut, Proxy, proxy_before
from services import new_database
from shipping import Said, document, faults, serving, shipping, told, writing
from waiting import wait_until

from plet_celery import presence
from plet_celery.errors import StoreUnavailable
from plet_celery.journal import open_journal
from plet_celery.journal_reader import Reader
from plet_celery.shipper.config import ShipperConfig
from plet_celery.shipper.crew import Crew, make_crew
from plet_celery.store import open_store

pytestmark = pytest.mark.slow

SECRET = "hunter2-canary"


@pytest.fixture(params=["postgresql", "mariadb"])
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database with our tables on a server."""
    with new_database(request.param) as url:
        store = open_store(url)
        store.ensure_schema()
        store.close()
        yield url


@pytest.fixture
def proxy(server_url: str) -> Iterator[Proxy]:
    with proxy_before(server_url) as made:
        yield made


def config_of(tmp_path: Path, url: str, **settings: Any) -> dict[str, Any]:
    return document(tmp_path / "home", **settings) | {"database_url": url}


def direct(config: dict[str, Any], url: str) -> dict[str, Any]:
    """The same, past the proxy: for the oracle."""
    return config | {"database_url": url}


def sink(config: dict[str, Any], name: str) -> dict[str, Any]:
    beat = serving(config)
    return beat.sinks.get(name, {}) if beat is not None else {}


def stored(config: dict[str, Any], said: Said) -> bool:
    return bool(presence.await_drain(Path(config["journal"]), timeout=0.5)) and said.events > 0


def wait_for_store(config: dict[str, Any], said: Said) -> None:
    wait_until(lambda: stored(config, said), 120, what=lambda: told(config)[-3000:])


def lines_of(config: dict[str, Any], *words: str) -> list[str]:
    return [line for line in told(config).splitlines() if all(word in line for word in words)]


def wait_for_logs(config: dict[str, Any], said: Said) -> None:
    """All that was said is in the log files, though not in the store."""
    wait_until(lambda: sink(config, "logs").get("events", 0) >= said.events, 60, what=lambda: told(config))


def wait_for_more(config: dict[str, Any], name: str) -> None:
    """A sink takes something."""
    before = sink(config, name).get("events", 0)
    wait_until(lambda: sink(config, name).get("events", 0) > before, 60, what=lambda: told(config)[-2000:])


def wait_for_cuts(proxy: Proxy, count: int) -> None:
    wait_until(lambda: proxy.cuts >= count, 60)


def test_a_database_that_is_down_at_start_holds_up_nobody_else(
    tmp_path: Path, server_url: str, proxy: Proxy
) -> None:
    proxy.down()
    url = sa.make_url(proxy.url(server_url)).set(password=SECRET).render_as_string(hide_password=False)
    # MariaDB's root of the tests has no password; a refused connection never gets that far.
    config = config_of(tmp_path, url if "postgresql" in url else proxy.url(server_url))
    with shipping(config), writing(config, 1, runs=20) as writer:
        writer.wait()
        said = Said.in_files(writer.notes)
        wait_for_logs(config, said)
        wait_until(lambda: sink(config, "store").get("failures", 0) >= 2, 60)
        assert not sink(config, "store")["open"]

        proxy.up()
        wait_for_store(config, said)

        assert faults(direct(config, server_url), said) == []
        assert len(lines_of(config, "sink failed", "sink=store")) == 1
        wait_until(lambda: len(lines_of(config, "sink works again", "sink=store")) == 1)
        (line,) = lines_of(config, "sink failed")
        assert "does not answer" in line
        assert "it is tried again" in line
        assert "Traceback" not in told(config)
        assert SECRET not in told(config)


def test_a_database_that_goes_and_comes_under_load_loses_nothing(
    tmp_path: Path, server_url: str, proxy: Proxy
) -> None:
    config = config_of(tmp_path, proxy.url(server_url), gather=0.05, batch_max_records=50)
    stop = tmp_path / "stop"
    options = {"runs": 10_000, "pause": 0.003, "stop": str(stop)}
    with shipping(config), writing(config, 1, **options) as one, writing(config, 2, **options) as two:
        for _ in range(2):
            wait_for_more(config, "store")
            proxy.down()
            wait_until(lambda: sink(config, "store").get("failures", 0) >= 1, 60)
            wait_for_more(config, "logs")
            proxy.up()
        stop.touch()
        one.wait()
        two.wait()
        said = Said.in_files(one.notes, two.notes)
        wait_for_store(config, said)

        assert faults(direct(config, server_url), said) == []
        failed = lines_of(config, "sink failed", "sink=store")
        assert 1 <= len(failed) <= 2
        assert lines_of(config, "sink=logs") == []
        assert "Traceback" not in told(config)


def test_connections_that_break_in_mid_commit_store_everything_once(
    tmp_path: Path, server_url: str, proxy: Proxy
) -> None:
    config = config_of(tmp_path, proxy.url(server_url), gather=0.05, batch_max_records=50)
    stop = tmp_path / "stop"
    with shipping(config), writing(config, 1, runs=10_000, pause=0.002, stop=str(stop)) as writer:
        wait_until(lambda: sink(config, "store").get("events", 0) > 0, 60)
        for number, where in enumerate([Cut.AFTER, Cut.BEFORE] * 2, 1):
            proxy.cut_next_commit(where)
            wait_for_cuts(proxy, number)
        end_server_side(server_url)
        stop.touch()
        writer.wait()
        said = Said.in_files(writer.notes)
        wait_for_store(config, said)

        assert proxy.cuts == 4
        assert faults(direct(config, server_url), said) == []
        assert "Traceback" not in told(config)


def end_server_side(url: str) -> None:
    """Kill every connection to a database as its administrator does."""
    parsed = sa.make_url(url)
    engine = sa.create_engine(parsed, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            others = "datname = current_database() and pid <> pg_backend_pid()"
            connection.exec_driver_sql(
                f"select pg_terminate_backend(pid) from pg_stat_activity where {others}"
            )
            return
        mine = "db = database() and id <> connection_id()"
        found = connection.exec_driver_sql(f"select id from information_schema.processlist where {mine}")
        for (number,) in found.all():
            with contextlib.suppress(sa.exc.DBAPIError):  # it has gone by itself
                connection.exec_driver_sql(f"kill {number}")


@pytest.fixture
def crew_and_events(tmp_path: Path, server_url: str, proxy: Proxy) -> Iterator[tuple[Crew, Any]]:
    """The sinks of a journal with some events, in this process."""
    config = config_of(tmp_path, proxy.url(server_url))
    with writing(config, 1, runs=3) as writer:
        writer.wait()
    journal = open_journal(Path(config["journal"]))
    crew = make_crew(ShipperConfig.from_document(config), journal, lambda: True)
    crew.store_sink.positions()
    yield crew, Reader(journal.directory).read()
    crew.store_sink.close()


@pytest.mark.parametrize("where", list(Cut))
def test_a_cut_commit_may_have_been_one_or_not(
    crew_and_events: tuple[Crew, Any], server_url: str, proxy: Proxy, where: Cut
) -> None:
    """Both sides of the ambiguity are real: this is what the test above goes through."""
    crew, batch = crew_and_events
    proxy.cut_next_commit(where)

    with pytest.raises(StoreUnavailable, match="does not answer"):
        crew.store_sink.apply(batch, time.time())
    crew.store_sink.close()

    has = crew.store_sink.positions()
    assert has == (batch.positions if where is Cut.AFTER else {})


def test_a_connection_that_hangs_is_broken_and_the_beat_shows_it(
    crew_and_events: tuple[Crew, Any], proxy: Proxy
) -> None:
    """Every packet is acknowledged and nothing is answered: no time-out of TCP ever ends it."""
    crew, _ = crew_and_events
    loop = crew.store
    proxy.swallow()
    loop.start()
    wait_until(lambda: loop.facts()["busy"] > 0.5, 30)
    assert not loop.sever_if_hung(time.monotonic())

    assert loop.sever_if_hung(time.monotonic(), patience=0.1)
    assert not loop.sever_if_hung(time.monotonic(), patience=0.1)
    wait_until(lambda: loop.failures > 0, 30)
    assert "does not answer" in loop.error

    proxy.break_all()
    proxy.up()
    wait_until(lambda: not loop.failures and loop.caught_up > 0, 90)
    loop.stop()
    assert loop.join(30)


@pytest.mark.parametrize("server_url", ["mariadb"], indirect=True)
def test_silence_of_the_server_ends_by_itself(server_url: str, proxy: Proxy) -> None:
    """PyMySQL's read time-out; psycopg has none: there the shipper breaks what hangs (the test above)."""
    url = sa.make_url(proxy.url(server_url)).update_query_dict({"read_timeout": "3"})
    store = open_store(url.render_as_string(hide_password=False))
    store.store_id()
    proxy.swallow()

    with pytest.raises(StoreUnavailable, match="does not answer"):
        store.store_id()
    store.close()
