"""A database that cannot be used is named, with the way out, and never with a password."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from storing import new_store, url_of

from plet_celery.errors import StoreError, StoreUnavailable
from plet_celery.store import open_store, queries, sqlite


def test_a_corrupt_file_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "plet.db"
    path.write_bytes(b"this is no database at all, but long enough to have a header" * 200)

    for read_only in (True, False):
        store = open_store(url_of(path), read_only=read_only)
        with pytest.raises(StoreError, match="is no SQLite database; restore a backup") as found:
            store.check_schema()
        store.close()
        assert not isinstance(found.value, StoreUnavailable)


def test_a_damaged_page_is_named_as_such(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.close()
    path = tmp_path / "plet.db"
    found = path.read_bytes()
    path.write_bytes(found[:4096] + b"\xff" * (len(found) - 4096))

    store = open_store(url_of(path))
    with pytest.raises(StoreError, match="is damaged; restore a backup"):
        queries.list_runs(store)
    store.close()


def test_a_file_that_may_only_be_read_is_unavailable_to_a_writer(tmp_path: Path) -> None:
    new_store(tmp_path).close()
    store = open_store(url_of(tmp_path / "plet.db"), read_only=True)

    assert queries.list_runs(store).items == []
    with pytest.raises(StoreUnavailable, match="is read-only for this user; make the file"):
        store.take_lease("1" * 32, host="a", machine="m", boot="b", pid=1, now=0.0)
    store.close()


def test_a_missing_folder_is_unavailable(tmp_path: Path) -> None:
    store = open_store(url_of(tmp_path / "none" / "plet.db"))

    with pytest.raises(
        StoreUnavailable, match=r"cannot be made: there is no folder .*none'; .* set plet_home"
    ):
        store.ensure_schema()
    store.close()


def test_a_locked_database_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    store = open_store(url_of(tmp_path / "plet.db"))
    store.ensure_schema()
    other = sqlite3.connect(tmp_path / "plet.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match="is locked by another process"):
        store.take_lease("1" * 32, host="a", machine="m", boot="b", pid=1, now=0.0)
    assert queries.list_runs(store).items == []
    other.close()
    store.close()


def test_what_is_no_url_is_refused_without_repeating_it() -> None:
    for url, words in (
        ("secret nonsense", "is not a database URL"),
        ("oracle://me:secret@host/db", "engine 'oracle'"),
        ("sqlite://", "needs a SQLite file"),
    ):
        with pytest.raises(StoreError, match=words) as found:
            open_store(url).check_schema()
        assert "secret" not in str(found.value)


def test_a_password_is_shown_nowhere() -> None:
    store = open_store("postgresql+psycopg://me:hidden@127.0.0.1:1/x?password=hidden&connect_timeout=1")

    with pytest.raises(StoreUnavailable, match="does not answer") as found:
        queries.as_of(store)
    store.close()

    assert "hidden" not in str(found.value) + store.shown_url
