"""A value is the same on every engine: what is written is what is read, and what is another is another."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from histories import JOURNALS, Teller
from hypothesis import given
from hypothesis import strategies as st
from services import ENGINES
from storing import Shipper, emptied, examples, rows_of, store_on

from plet_celery import events
from plet_celery.events import plain
from plet_celery.store import Store, queries
from plet_celery.store.columns import fit

RUN = "00000000-0000-4000-8000-00000000000a"
E_ACUTE = "é"

# Each is another name than all others.
NAMES = (
    "name", "Name", "NAME", " name", "name ", "name  ", "name\t", "name\n", "name\xa0",
    E_ACUTE, unicodedata.normalize("NFD", E_ACUTE), "e", "E", "É",
    "ß", "ss", "SS", "ı", "i", "I", "İ", "ﬀ", "ff", "Ａ", "A", "А", "Α",
    "😀", "😀" * 80, "👩‍👩‍👧", "\u200bname", "na\u0308me", "\ufeff", "\ufffd", "\U0010ffff", "\x01", "\x7f",
    "%", "%s", "%(x)s", "?", ":name", "'", '"', "`", "\\", "\\'", "';--", "$1", "{}", "\x1a", "\r\n",
    "a" * 255, "a" * 256, "a" * 257, "中" * 255, "中" * 256, "😀" * 191, "😀" * 192, "😀" * 255, "😀" * 256,
    "a" * 254 + " ", "a" * 255 + " ", "long." * 2000, "NULL", "null", "0", "00", "1e1", "10", "true",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, (1 << 31) - 1, -(1 << 31), (1 << 31), (1 << 53) + 1, (1 << 63) - 1, -(1 << 63),
    0.0, -0.0, 0.1, 1 / 3, 1e-300, 5e-324, 1.7976931348623157e308, -1e308, 1e15 + 0.3, 2.0**53, 1e22,
)  # fmt: skip


@pytest.fixture(params=ENGINES)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return store_on(request.param, tmp_path, "kept")


def told_run(teller: Teller, run: str, **facts: Any) -> None:
    writer = teller.writer()
    teller.start(writer, run, "a1", **facts)
    teller.end(writer, events.RUN_SUCCEEDED, run, "a1", result=facts.get("args"))


def test_names_that_differ_stay_different(store: Store) -> None:
    teller = Teller()
    runs = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(len(NAMES))]
    for run, name in zip(runs, NAMES, strict=True):
        told_run(teller, run, task=name, tenant=name, user=name, queue=name, trigger=name, args=[name])
        teller.tell(teller.writer(), events.METADATA_SET, run, "a1", key=name, value=name, i=1)
    assert Shipper(store).ship(teller.told) == 0

    for run, name in zip(runs, NAMES, strict=True):
        found = queries.get_run(store, run)
        assert (found.task, found.tenant, found.user) == (fit(name, 255),) * 3
        assert (found.queue, found.trigger) == (fit(name, 128), fit(name, 64))
        assert (found.args, found.result, found.metadata) == ([name], [name], {fit(name, 255): name})
        if name in NAMES[:24]:
            asked: list[dict[str, Any]] = [{"task": name}, {"tenant": name}, {"meta": {name: name}}]
            for wanted in asked:
                assert [one.id for one in queries.list_runs(store, **wanted).items] == [run], wanted
    assert len({row[3] for row in rows_of(store)["rollup"]}) == len(set(NAMES))


def test_ids_that_differ_are_runs_of_their_own(store: Store) -> None:
    teller = Teller()
    ids = [*NAMES, "x" * 10_000, "x" * 10_001, "x" * 9_999 + "y", "nul\0", "nul\ufffd", "\0", "nul\0 "]
    for run in ids:
        told_run(teller, run, args=[run], parent=run, canvas=run)
    assert Shipper(store).ship(teller.told) == 0

    for run in ids:
        found = queries.get_run(store, run)
        assert (found.id, found.args, found.state) == (run, [run], "succeeded")
        assert queries.resolve_run(store, run) == run
        assert len(queries.attempts(store, run)) == 1
    assert len(rows_of(store)["run"]) == len(ids)


def test_text_without_a_place_in_some_engine_is_the_same_in_all(store: Store) -> None:
    """NUL is no character of PostgreSQL's texts; a name with one is told apart by its hash."""
    teller = Teller()
    told_run(teller, RUN, task="a\0b", tenant="\0", args=["c\0d"], queue="q\0" * 200)
    line: dict[str, Any] = {"level": 40, "stream": "log", "text": "e\0f", "i": 1, "o": 0, "logger": "\0"}
    teller.tell(teller.writer(), events.LOG_WRITTEN, RUN, "a1", **line)
    teller.tell(teller.writer(), "k\0nd", RUN, "a1", x="\0")
    assert Shipper(store).ship(teller.told) == 0

    found = queries.get_run(store, RUN)
    assert (found.task, found.args) == (fit("a\0b", 255), ["c\0d"])
    assert "\0" not in found.task + found.tenant + str(found.queue)
    assert found.task.startswith("a\ufffdb~")
    assert [one.id for one in queries.list_runs(store, task="a\0b", tenant="\0").items] == [RUN]
    assert [one.text for one in queries.stored_log(store, RUN)] == ["e\0f"]
    assert queries.list_runs(store, task="a\0*").items == []
    assert queries.list_runs(store, task="\ud800", tenant="\ud800", meta={"\ud800": "\ud800"}).items == []


def test_numbers_come_back_as_they_were(store: Store) -> None:
    teller = Teller()
    writer = teller.writer()
    teller.start(writer, RUN, "a1", args=list(NUMBERS), pid=(1 << 63) - 1)
    for i, value in enumerate(NUMBERS, 1):
        teller.tell(writer, events.MEASURE_RECORDED, RUN, "a1", values={"x": value}, i=i)
        teller.tell(writer, events.LOG_WRITTEN, RUN, "a1", level=value, text="t", i=i, o=i)
    assert Shipper(store).ship(teller.told) == 0

    (attempt,) = queries.attempts(store, RUN)
    assert attempt.pid == (1 << 63) - 1
    assert queries.get_run(store, RUN).args == list(NUMBERS)
    assert [point.value for point in queries.measures(store, RUN)[0].points] == [float(n) for n in NUMBERS]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (1 << 63, str(1 << 63)),
        ("half \ud83d", "half \ufffd"),
        ("\0", "\ufffd"),
    ],
    ids=str,
)
def test_what_no_json_has_is_made_text_by_the_writer_and_stored_so(
    store: Store, value: Any, shown: str
) -> None:
    teller = Teller()
    told_run(teller, RUN, args=plain([value], repr))
    assert Shipper(store).ship(teller.told) == 0

    assert queries.get_run(store, RUN).args == queries.get_run(store, RUN).result == [shown]


@pytest.mark.parametrize("seconds", [1e308, 1e13, -5.0, 5e-324])
def test_a_runtime_of_any_size_is_counted(store: Store, seconds: float) -> None:
    teller = Teller()
    for number in range(3):
        run, writer = f"{number:08x}-0000-4000-8000-000000000000", teller.writer()
        teller.start(writer, run, "a1", queued_at=1.0)
        teller.end(writer, events.RUN_FAILED, run, "a1", runtime=seconds)
    assert Shipper(store).ship(teller.told) == 0

    assert [row[6] for row in rows_of(store)["rollup"]] == [3]


def test_any_text_and_number_is_read_as_it_was_written(kept: Store) -> None:
    texts = st.text(max_size=300).filter(bool)
    moments = st.floats(1.0, 4e9)

    @examples(kept, 100)
    @given(name=texts, run=texts, at=moments, runtime=st.floats(0, 1e9))
    def holds(name: str, run: str, at: float, runtime: float) -> None:
        name, run = events.safe_text(name), events.safe_text(run)
        teller, shipper = Teller(), Shipper(emptied(kept))
        writer = teller.writer()
        teller.tell(writer, events.RUN_STARTED, run, "a1", at=at, task=name, tenant=name, queued_at=at)
        teller.end(writer, events.RUN_SUCCEEDED, run, "a1", at=at + 1, runtime=runtime, result=name)
        assert shipper.ship(teller.told) == 0

        (found,) = queries.list_runs(kept, task=name, tenant=name).items if "*" not in name[-1:] else [None]
        found = found or queries.get_run(kept, run)
        assert (found.id, found.task, found.result) == (run, fit(name, 255), name)
        assert (found.started_at, found.queued_at, found.runtime) == (at, at, runtime)
        (row,) = rows_of(kept)["attempt"]
        assert (row[6], row[7]) == (at, at + 1)

    holds()
    if kept.url.get_backend_name() == "sqlite":
        kept.close()


def test_one_store_per_journal_is_shared_by_the_hosts(store: Store) -> None:
    """Both hosts tell of one run: the second finds what the first has written."""
    teller = Teller()
    here, there = teller.writer(JOURNALS[0]), teller.writer(JOURNALS[1])
    teller.start(here, RUN, "a1")
    teller.end(here, events.RUN_RETRIED, RUN, "a1", retries=0)
    teller.start(there, RUN, "a2", retries=1)
    teller.end(there, events.RUN_SUCCEEDED, RUN, "a2")
    assert Shipper(store).ship(teller.told) == 0

    assert [one.state for one in queries.attempts(store, RUN)] == ["retrying", "succeeded"]
