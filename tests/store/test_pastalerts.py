"""Pages of alerts that are over: every one once, both ways, only for whom they are, by an index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from services import ENGINES
from storing import drop_stores, store_on

from plet_celery.errors import PletError
from plet_celery.store import Store
from plet_celery.store.alertrows import values_of
from plet_celery.store.pastalerts import past_alerts
from plet_celery.watchfacts import Alert, AlertState, Severity


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return store_on(request.param, tmp_path)


@pytest.fixture(scope="module", autouse=True)
def drop() -> Iterator[None]:
    yield
    drop_stores()


def put(store: Store, number: int, *, fired: bool = True, is_over: bool = True, **facts: Any) -> str:
    at = 1000.0 + number // 2  # two end at the same moment
    told: dict[str, Any] = {"rule": "stuck", "subject": f"task_{number}", "tenant": ""} | facts
    alert = Alert(
        **told,
        id=f"{number:032x}",
        state=AlertState.RESOLVED if is_over else AlertState.FIRING,
        severity=Severity.WARNING,
        pending_at=at - 60,
        fired_at=at - 30 if fired else None,
        resolved_at=at if is_over else None,
        updated_at=at,
    )
    with store.writing() as connection:
        connection.execute(store.tables.watching.alert.insert().values(values_of(alert)))
    return alert.id


def walk(store: Store, way: str, cursor: str | None = None, limit: int = 3) -> list[list[str]]:
    pages = []
    while True:
        page = past_alerts(store, limit=limit, **({way: cursor} if cursor else {}))
        pages.append([one.id for one in page.items])
        cursor = page.next if way == "after" else page.previous
        if cursor is None:
            return pages


def test_each_is_on_one_page_the_last_to_end_first_and_back_again(store: Store) -> None:
    ids = [put(store, number) for number in range(10)]
    put(store, 10, fired=False)
    put(store, 11, is_over=False)

    forth = walk(store, "after")
    assert [one for page in forth for one in page] == ids[::-1]
    last = past_alerts(store, limit=3)
    while last.next:
        last = past_alerts(store, limit=3, after=last.next)
    back = walk(store, "before", last.previous)
    assert [one for page in reversed(back) for one in page] == ids[:0:-1]


def test_a_prefix_is_of_the_rule_the_subject_or_the_task(store: Store) -> None:
    some: tuple[dict[str, Any], ...]
    some = ({"task": "shop.a"}, {"subject": "shop.b"}, {"rule": "shop_rule"}, {})
    for number, facts in enumerate(some):
        put(store, number, **facts)

    assert len(past_alerts(store, prefix="shop").items) == 3
    assert len(past_alerts(store, prefix="shop.a").items) == 1
    assert past_alerts(store, prefix="%").items == []


def test_a_viewer_of_some_tenants_gets_theirs(store: Store) -> None:
    for number, tenant in enumerate(("acme", "acme/x", "acmeX", "beta", "")):
        put(store, number, tenant=tenant)

    assert {one.tenant for one in past_alerts(store, tenants=["acme"]).items} == {"acme", "acme/x"}
    assert past_alerts(store, tenants=[]).items == []
    assert {one.tenant for one in past_alerts(store, tenants=[""]).items} == {""}


@pytest.mark.parametrize("cursor", ["", "e30", "W10", "nonsense", "WzEsMl0"])
def test_a_cursor_that_is_none_is_refused_or_leads_nowhere(store: Store, cursor: str) -> None:
    put(store, 1)
    try:
        past_alerts(store, after=cursor)
    except PletError as error:
        assert "cursor" in str(error)


def test_the_list_is_read_by_its_index_however_many_there_are(tmp_path: Path) -> None:
    store = store_on("sqlite", tmp_path)
    table = store.tables.watching.alert
    said: list[str] = []
    with store.writing() as connection:
        rows = [
            {
                **dict.fromkeys(("rule", "subject"), "x"), "id": f"{number:032x}", "state": "resolved",
                "severity": "warning", "tenant": "", "pending_at": 1.0, "fired_at": 1.0,
                "resolved_at": float(number), "updated_at": 1.0, "transitions": 1, "doc": "{}",
            }
            for number in range(20_000)
        ]  # fmt: skip
        connection.execute(table.insert(), rows)
        connection.exec_driver_sql("ANALYZE")

    @sa.event.listens_for(store.engine, "before_cursor_execute")
    def listen(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if "resolved_at IS NOT NULL" in statement:
            said.append(str(statement))

    first = past_alerts(store)
    past_alerts(store, after=first.next)
    assert len(said) == 2
    with store.reading() as connection:
        for statement in tuple(said):
            count = statement.count("?")
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", (1.0,) * count).all()
            text = " ".join(str(row[-1]) for row in plan)
            assert "ix_alert_resolved" in text, text
            assert "TEMP B-TREE FOR ORDER BY" not in text, text  # only those of one moment are sorted
