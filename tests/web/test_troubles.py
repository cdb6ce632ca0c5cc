"""Stores that are not there, settings that cannot be used: told in their place, and Flower goes on."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flowers import NO_ANSWER, RunningFlower, running_flower
from proxying import proxy_before
from recorded_runs import Story
from services import new_database
from waiting import wait_until

from plet_celery.errors import StoreUnavailable
from plet_celery.store import open_store, queries
from plet_celery.web.pool import Busy, Pool

SECRETS = ("canary", "Traceback", "plet_redact")
PAGES = ("plet/", "plet/workers", "plet/alerts")


@pytest.fixture
def alone(shop: Any, tmp_path: Path) -> Iterator[Any]:
    """A shop that a test may break; with a failed run."""
    made = type(shop)(tmp_path, "memory://")
    made.run = made.story.run("shop.index", started=made.now - 60)
    made.run.log("a line", level=40)
    made.run.fail()
    made.story.ship()
    yield made
    made.close()


def told(flower: RunningFlower, words: str, *, pages: tuple[str, ...] = PAGES) -> None:
    """Every page stands, says what is wrong, and tells nothing else."""
    for path in pages:
        answer = flower.get(path)
        assert answer.status == 200, (path, answer.text[-500:])
        assert words in answer.text, (path, re.findall(r"No answer[^<]*</strong>[^<]*", answer.text))
        assert 'id="plet-search"' in answer.text or "workers" in path
        assert not [one for one in SECRETS if one in answer.text]
    for path in ("healthcheck", "workers", "tasks"):
        assert flower.get(path).status == 200, path


def test_a_store_of_sqlite_with_all_its_troubles(alone: Any) -> None:
    alone.story.close()
    database, aside = alone.home / "plet.db", alone.home / "aside.db"
    with sqlite3.connect(database) as connection:
        # In WAL a reader is let by; this is what a backup tool or an old SQLite does.
        connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    shutil.move(database, aside)
    with running_flower(alone.folder, patient=False) as flower:
        page = f"plet/runs/{alone.run.id}"
        told(flower, "the first worker makes it")
        missing = flower.get(page)
        assert (missing.status, missing.headers["retry-after"]) == (503, "5")
        assert "the first worker makes it" in missing.text
        assert not database.exists()

        sqlite3.connect(database).close()
        told(flower, "run celery plet migrate")

        shutil.copy(aside, database)
        version = change(database, "9999")
        told(flower, "upgrade plet_celery")

        change(database, version)
        assert NO_ANSWER not in flower.get().text + flower.get(page).text

        other = sqlite3.connect(database, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        listed, stale = flower.get(), flower.get(page)
        assert (listed.status, stale.status) == (200, 200)
        # SQLite looks at the clock between its own waits: the page's patience may end first.
        assert re.search("a query took longer than 5 s|no answer within 6 s", listed.text)
        assert "As it was" in listed.text
        for words in ("No answer", "As it was", "ValueError", "a line"):
            assert words in stale.text, words
        other.close()
        for path in (*PAGES, page):
            assert NO_ANSWER not in flower.get(path).text


@pytest.mark.parametrize("path", PAGES)
def test_before_the_first_worker_a_page_says_once_what_comes_next(alone: Any, path: str) -> None:
    alone.story.close()
    database, aside = alone.home / "plet.db", alone.home / "aside.db"
    shutil.move(database, aside)
    with running_flower(alone.folder, patient=False) as flower:
        first = flower.get(path)

        assert first.text.count("Nothing is recorded yet.") == 1
        assert "celery -A proj worker" in first.text
        assert NO_ANSWER not in first.text
        assert not database.exists()

        shutil.copy(aside, database)
        assert "Nothing is recorded yet." not in flower.get(path).text
        assert NO_ANSWER not in flower.get(path).text


def test_names_that_are_offered_need_no_box_for_their_trouble(alone: Any) -> None:
    alone.write('app.conf.plet_database_url = "postgresql+psycopg://nobody@127.0.0.1:1/none"')
    with running_flower(alone.folder, patient=False) as flower:
        listed = flower.get().text

    assert listed.count(NO_ANSWER) == 4
    assert re.search(r'<div id="region-tasks" hidden>\s*<div class="plet-trouble"', listed)


def change(database: Path, version: str) -> str:
    """Set the version of the tables; return the one that it was."""
    with sqlite3.connect(database) as connection:
        (before,) = connection.execute("SELECT version_num FROM plet_alembic_version").fetchone()
        connection.execute("UPDATE plet_alembic_version SET version_num = ?", (version,))
    connection.close()
    return str(before)


def test_a_server_that_goes_and_comes_back(shop: Any, tmp_path: Path) -> None:
    with new_database("postgresql") as url, proxy_before(url) as proxy:
        made = type(shop)(tmp_path, "memory://", url=url)
        proxied = proxy.url(url).replace("postgres@", "postgres:canary-password@")
        made.write(f'app.conf.plet_database_url = "{proxied}"')
        run = made.story.run("shop.index", started=made.now - 60)
        run.fail()
        made.story.ship()
        try:
            with running_flower(tmp_path, patient=False) as flower:
                outage(flower, proxy, f"plet/runs/{run.id}")
                assert "canary" not in flower.log.read_text()
        finally:
            made.close()


def outage(flower: RunningFlower, proxy: Any, page: str) -> None:
    for path in ("plet/", page):
        assert NO_ANSWER not in flower.get(path).text

    proxy.down()
    told(flower, "does not answer", pages=("plet/",))
    for path in ("plet/", page, f"{page}?region=head", "plet/?region=runs"):
        answer = flower.get(path)
        assert answer.status == 200, path
        for words in ("No answer", "As it was", "shop.index"):
            assert words in answer.text, (path, words)
        assert "canary" not in answer.text
    assert flower.get("plet/runs/another").status == 503

    proxy.up()
    wait_until(lambda: NO_ANSWER not in flower.get(page).text, 30)

    proxy.swallow()
    answers: list[str] = []
    asking = [threading.Thread(target=lambda: answers.append(flower.get("plet/").text)) for _ in range(4)]
    for one in asking:
        one.start()
    meanwhile = 0
    while any(one.is_alive() for one in asking):
        assert flower.get("healthcheck").status == 200
        assert flower.get("plet/nothing").status == 404
        meanwhile += all(one.is_alive() for one in asking)
    assert meanwhile
    assert len(answers) == 4
    assert all("As it was" in one and "shop.index" in one for one in answers)

    # The threads that hang are of no use to anybody until they are made to fail.
    proxy.up()
    proxy.break_all()
    wait_until(lambda: NO_ANSWER not in flower.get(page).text, 30)


def test_queries_that_hang_for_ever_are_broken_off() -> None:
    """What lies between acknowledges every packet, so no time-out of a driver ends the wait."""

    async def scenario(proxy: Any, store: Any) -> None:
        pool = Pool(threads=1, rescue=store.sever, rescue_seconds=0.2)
        ask = lambda: queries.list_runs(store)  # noqa: E731
        await pool.run(ask, seconds=60)
        proxy.swallow()
        with pytest.raises(Busy):
            await pool.run(ask, seconds=0.1)
        proxy.up()
        for _ in range(10):
            with contextlib.suppress(StoreUnavailable):  # its connection was among those broken off
                await pool.run(ask, seconds=60)
                return
        pytest.fail("the store is never served again")

    with new_database("postgresql") as url, proxy_before(url) as proxy:
        Story(url).close()
        store = open_store(proxy.url(url), read_only=True, query_seconds=30.0, connections=2)
        try:
            asyncio.run(scenario(proxy, store))
        finally:
            store.close()


SETTINGS = {
    "no database": ("app.conf.plet_database_url = 'oracle://u:canary-password@h/d'", "plet_database_url"),
    "no rule": ("app.conf.plet_rights_for = 'shop_rules:nothing'", "plet_rights_for"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_cannot_be_used_are_told_and_flower_goes_on(alone: Any, case: str) -> None:
    text, words = SETTINGS[case]
    alone.write(text)
    with running_flower(alone.folder, patient=False) as flower:
        for path in ("plet/", f"plet/runs/{alone.run.id}", "plet/workers"):
            answer = flower.get(path)
            assert answer.status in (200, 403, 500, 503), path
            assert words in answer.text.replace("&#39;", "&#x27;"), (path, answer.text[-1500:])
            assert "shop.index" not in answer.text
            assert not [one for one in SECRETS if one in answer.text], path
        for path in ("healthcheck", "workers", "tasks", "plet/static/plet.css"):
            assert flower.get(path).status == 200, path


def test_settings_are_not_told_to_whom_flower_does_not_let_in(alone: Any) -> None:
    alone.write("app.conf.plet_gathre = 3")
    with running_flower(alone.folder, "--basic-auth=ada:pw", patient=False) as flower:
        stranger = flower.get()
        assert stranger.status == 401
        assert "gather" not in stranger.text
        assert "plet_gather" in flower.get(user="ada:pw").text


def test_log_files_that_are_not_to_be_trusted_cost_the_log_alone(alone: Any) -> None:
    import os

    (folder,) = [one.parent for one in (alone.home / "runs").rglob("run.log")]
    real = folder / "run.log"
    secret = alone.folder / "secret.txt"
    secret.write_text("canary-secret\n" * 100)
    page = f"plet/runs/{alone.run.id}"
    with running_flower(alone.folder, patient=False) as flower:
        assert "a line" in flower.get(page).text
        kept = real.rename(folder / "kept")
        for plant in (
            lambda: real.symlink_to(secret),
            lambda: os.mkfifo(real),
            lambda: real.mkdir(),
            lambda: real.hardlink_to(secret),
        ):
            plant()
            for path in (
                page,
                f"{page}/log",
                f"{page}/log?log_raw=1",
                f"{page}?region=log",
                f"{page}?log_q=canary-s",
            ):
                answer = flower.get(path)
                assert "canary-secret" not in answer.text, path
                assert answer.status in (200, 503), path
                if path == page:
                    assert "no such row" in answer.text
            real.rmdir() if real.is_dir() and not real.is_symlink() else real.unlink()
        kept.rename(real)
        alone.home.joinpath("runs").chmod(0o777)
        assert flower.get(page).status == 200
        alone.home.joinpath("runs").chmod(0o700)
        assert "a line" in flower.get(page).text
        assert "Traceback" not in flower.log.read_text()
