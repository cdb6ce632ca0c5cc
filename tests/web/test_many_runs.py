"""A hundred thousand runs: list, filters, paging and a run's page answer, no region with an error."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
from flowers import NO_ANSWER, RunningFlower, running_flower

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.fill import fill
from benchmarks.pages import filters
from plet_celery.store import open_store, queries

RUNS = 100_000
NOW = time.time()


@pytest.fixture(scope="module")
def filled(shop: Any) -> Any:
    """A shop with many runs."""
    folder = shop.home.parent / "many"
    folder.mkdir()
    url = f"sqlite:///{folder / 'plet.db'}"
    store = open_store(url)
    sa.event.listen(store.engine, "connect", _hurry)
    store.ensure_schema()
    fill(store, RUNS, now=NOW)
    shop.write(f"app.conf.plet_database_url = {url!r}")
    yield store
    store.close()


def _hurry(connection: Any, record: Any) -> None:
    # These rows need not survive a power cut.
    connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture(scope="module")
def flower(shop: Any, filled: Any) -> Iterator[RunningFlower]:
    with running_flower(shop.folder) as found:
        yield found


@pytest.mark.parametrize("name", filters(NOW))
def test_a_filtered_list_answers_and_leads_on(flower: RunningFlower, name: str) -> None:
    query = urlencode(filters(NOW)[name])

    first = flower.get(f"plet/?{query}")
    later = re.search(r'rel="next" href="([^"]+)"', first.text)

    assert first.status == 200 and NO_ANSWER not in first.text
    assert "data-row" in first.text or name == "task, lost"
    if later is not None:
        second = flower.get(f"plet/{later[1].replace('&amp;', '&')}")
        assert second.status == 200 and NO_ANSWER not in second.text and "data-row" in second.text
        assert not {*_runs_in(first.text)} & {*_runs_in(second.text)}


def test_the_tenth_page_leads_back(flower: RunningFlower) -> None:
    page, seen = flower.get(), list[list[str]]()
    for _ in range(10):
        seen.append(_runs_in(page.text))
        page = flower.get("plet/" + _link(page.text, "next"))
    back = flower.get("plet/" + _link(page.text, "prev"))

    assert len({one for some in seen for one in some}) == sum(map(len, seen))
    assert _runs_in(back.text) == seen[-1]


def test_the_page_of_one_of_many_runs_answers(flower: RunningFlower, filled: Any) -> None:
    for states in (("failed",), ("running",), ("succeeded",)):
        (run,) = queries.list_runs(filled, states=states, limit=1).items

        page = flower.get(f"plet/runs/{run.id}")

        assert page.status == 200 and NO_ANSWER not in page.text and run.id in page.text


def test_the_workers_of_many_runs_answer(flower: RunningFlower) -> None:
    page = flower.get("plet/workers")

    assert page.status == 200 and NO_ANSWER not in page.text and "celery@web00-a" in page.text


def _runs_in(text: str) -> list[str]:
    # The newest page shows running ones first, whatever their time: they are on no other.
    table = text.rpartition("<tbody>")[2]
    return re.findall(r'href="[^"]*/plet/runs/([^"/]+)"', table)


def _link(text: str, rel: str) -> str:
    found = re.search(rf'rel="{rel}" href="([^"]+)"', text)
    assert found is not None
    return found[1].replace("&amp;", "&")
