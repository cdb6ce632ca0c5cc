"""Health and the probes: who is told what, and what a browser sees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flowers import NO_ANSWER, RunningFlower, running_flower
from healths import STACK, in_trouble, well
from waiting import wait_until
from worlds import pass_over, result

from plet_celery.watchfacts import Level

if TYPE_CHECKING:
    from browsing import Visits

RULES = """
from plet_celery import ALL_TENANTS
app.conf.plet_rights_for = lambda user: {
    "reader": {"runs"}, "nobody": set(), "acme": {"runs", "tracebacks"},
}.get(user, {"runs", "tracebacks"})
app.conf.plet_tenants_for = lambda user: ["acme"] if user == "acme" else ALL_TENANTS
"""
AUTH = "--basic-auth=" + ",".join(f"{name}:pw" for name in ("chief", "reader", "nobody", "acme"))
RUN = "1f9f7a2e-0000-4000-8000-000000000001"
PROBES = ("plet/healthz", "plet/livez", "plet/readyz")
NEAR = (
    "plet/healthz/", "plet/healthzz", "plet/healthz/x", "plet/runs/healthz", "plet/runs/livez",
    "plet/xhealthz", "plet/health", "plet/healthz%2f", "plet/./healthz/../", "plet/HEALTHZ",
)  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from web.conftest import Shop

    made = Shop(tmp_path_factory.mktemp("shop"), "memory://", more=RULES)
    made.story.run("shop.secret", id="healthz", started=made.now - 60).succeed()
    made.story.run("shop.update_prices", id=RUN, started=made.now - 50)
    made.story.ship()
    yield made
    made.close()


@pytest.fixture(scope="module")
def guarded(shop: Any) -> Iterator[RunningFlower]:
    with running_flower(shop.folder, AUTH) as flower:
        yield flower


@contextmanager
def opened(folder: Path, *options: str) -> Iterator[RunningFlower]:
    with running_flower(folder, *options) as flower:
        yield flower


def word(flower: RunningFlower, word: str) -> bool:
    """Whether healthz says so by now: its answer is kept for a second."""
    return flower.get("plet/healthz").text == f"{word}\n"


def test_a_probe_says_one_word_to_anybody(shop: Any, guarded: RunningFlower) -> None:
    pass_over(shop.story.store, in_trouble(), ago=1)
    wait_until(lambda: word(guarded, "critical"), 20)

    for user in (None, "chief:wrong", "nobody:pw", "acme:pw", "chief:pw"):
        health, live, ready = (guarded.get(path, user=user) for path in PROBES)
        assert (health.status, health.text) == (503, "critical\n")
        assert (live.status, live.text) == (200, "ok\n")
        assert (ready.status, ready.text) == (200, "ok\n")
        assert health.headers["content-type"] == "text/plain; charset=utf-8"
        assert health.headers["cache-control"] == "no-store"
        assert "www-authenticate" not in health.headers
    assert guarded.get("plet/healthz", method="HEAD").status == 503
    assert guarded.get("plet/healthz", method="POST").status in (403, 405)
    assert guarded.get("plet/healthz", method="OPTIONS").status == 405


@pytest.mark.parametrize("path", NEAR)
def test_no_other_address_opens_anything(shop: Any, guarded: RunningFlower, path: str) -> None:
    found = guarded.get(path)

    assert found.status in (401, 403, 404)
    assert "secret" not in found.text


@pytest.mark.parametrize(
    ("user", "status"), [(None, 401), ("chief:wrong", 401), ("nobody:pw", 403), ("reader:pw", 503)]
)
def test_the_checks_in_json_take_a_right(
    shop: Any, guarded: RunningFlower, user: str | None, status: int
) -> None:
    pass_over(shop.story.store, in_trouble(), ago=1)
    wait_until(lambda: word(guarded, "critical"), 20)

    by_name = guarded.get("plet/healthz?format=json", user=user)
    by_kind = guarded.get("plet/healthz", user=user, Accept="application/json")

    assert by_name.status == by_kind.status == status
    if status == 503:
        assert json.loads(by_name.text)["verdict"] == "critical"
    else:
        assert "queue" not in by_name.text + by_kind.text


def test_what_is_told_of_health_follows_the_viewers_rights(shop: Any, guarded: RunningFlower) -> None:
    pass_over(shop.story.store, in_trouble(), ago=1)
    wait_until(lambda: word(guarded, "critical"), 20)

    def told(user: str) -> str:
        return "".join(
            guarded.get(path, user=user).text for path in ("plet/healthz?format=json", "plet/health")
        )

    assert "wait_for_supplier" in told("chief:pw")
    reader = told("reader:pw")
    assert "shop.update_prices" in reader
    assert "wait_for_supplier" not in reader
    acme = told("acme:pw")
    for foreign in (
        "update_prices",
        "celery@",
        "reports",
        "imports",
        "delphi",
        "atlas",
        "wait_for",
        "broker.",
    ):
        assert foreign not in acme
    assert json.loads(guarded.get("plet/healthz?format=json", user="acme:pw").text)["checks"][0]["level"] == (
        "critical"
    )


def test_probes_answer_where_pages_are_refused(shop: Any) -> None:
    with opened(shop.folder, "--address=0.0.0.0") as flower:
        pass_over(shop.story.store, well(), ago=1)
        assert flower.get("plet/health").status == 403
        assert flower.get("plet/healthz?format=json").status == 403
        assert [flower.get(path).status for path in PROBES] == [200, 200, 200]


def test_with_a_prefix_the_probes_are_below_it(shop: Any) -> None:
    with opened(shop.folder, "--url_prefix=ops", AUTH) as flower:
        pass_over(shop.story.store, well(), ago=1)
        assert flower.get("plet/healthz").text == "ok\n"


@pytest.mark.parametrize(
    ("levels", "ago", "status", "said"),
    [
        ([Level.OK], 1, 200, "ok"),
        ([Level.WARNING], 1, 200, "warning"),
        ([Level.NO_DATA], 1, 200, "no_data"),
        ([Level.CRITICAL], 1, 503, "critical"),
        ([Level.OK], 300, 503, "late"),
    ],
)
def test_healthz_is_red_when_something_fails_or_the_pass_is_late(
    shop: Any, guarded: RunningFlower, levels: list[Level], ago: float, status: int, said: str
) -> None:
    pass_over(shop.story.store, [result(one) for one in levels], ago=ago)

    wait_until(lambda: word(guarded, said), 20, what=lambda: guarded.get("plet/healthz").text)

    assert guarded.get("plet/healthz").status == status


def test_before_the_first_pass_and_without_a_store(tmp_path: Path) -> None:
    from web.conftest import Shop

    made = Shop(tmp_path, "memory://")
    made.story.ship()
    with opened(tmp_path) as flower:
        assert (flower.get("plet/healthz").status, flower.get("plet/healthz").text) == (503, "unknown\n")
        page = flower.get("plet/health")
        assert page.status == 200
        assert "There has been no pass of the monitor yet." in page.text
        assert flower.get("plet/readyz").text == "ok\n"
    made.close()
    (made.home / "plet.db").rename(made.home / "away.db")
    with opened(tmp_path) as flower:
        answers = [flower.get(path) for path in PROBES]
        assert [one.text for one in answers] == ["unavailable\n", "ok\n", "unavailable\n"]
        assert [one.status for one in answers] == [503, 200, 503]
        document = json.loads(flower.get("plet/healthz?format=json").text)
        assert document["verdict"] == "unknown"
        assert NO_ANSWER in flower.get("plet/health").text


def test_text_of_any_kind_is_shown_as_text(shop: Any, guarded: RunningFlower) -> None:
    nasty = "<script>alert(1)</script>\"'\x1b[31m\u202e"
    runs = [
        {"run_id": nasty, "stage": nasty, "worker": nasty, "pid": nasty, "stack": nasty},
        7,
        {"run_id": 3},
    ]
    pass_over(
        shop.story.store,
        [
            result(
                Level.CRITICAL, nasty, nasty, observation=nasty, expectation=nasty, affected=nasty,
                advice=nasty, values={"runs": runs},
            )
        ],
    )  # fmt: skip

    page = guarded.get("plet/health", user="chief:pw")

    assert page.status == 200
    assert "<script>alert" not in page.text
    assert "\x1b[" not in page.text
    assert NO_ANSWER not in page.text


# In a browser


@pytest.fixture(scope="module")
def plain(shop: Any) -> Iterator[RunningFlower]:
    shop.write("")
    with running_flower(shop.folder) as flower:
        yield flower
    shop.write(RULES)


@pytest.mark.parametrize("javascript", [True, False])
def test_the_worst_comes_first_with_what_to_do(
    shop: Any, plain: RunningFlower, visits: Visits, javascript: bool
) -> None:
    pass_over(shop.story.store, in_trouble(RUN), ago=1)

    page = visits.open(plain.base + "plet/", java_script_enabled=javascript)
    page.get_by_role("link", name="Health", exact=True).click()

    rows = page.locator("tr[data-row]")
    assert (
        "5 of 13 checks: Queue, Workers, Stuck runs, Disk, Beat" in page.locator(".plet-verdict").inner_text()
    )
    assert "critical" in rows.first.inner_text()
    assert "start a worker with -Q reports" in rows.first.inner_text()
    page.get_by_text("What its process does").click()
    assert STACK.splitlines()[1].strip() in page.locator(".plet-stack pre").inner_text()
    page.get_by_role("link", name=f"run {RUN[:8]}").click()
    page.wait_for_url(f"**/plet/runs/{RUN}")
    assert visits.troubles == []


def test_the_page_follows_the_passes(shop: Any, plain: RunningFlower, visits: Visits) -> None:
    from browsing import go

    pass_over(shop.story.store, well(), ago=1)
    page = visits.open(plain.base + "plet/health")
    page.get_by_text("All is well").wait_for()

    pass_over(shop.story.store, in_trouble(), ago=1)

    page.get_by_text("Something fails").wait_for()
    go(page, "r", "")
    go(page, "h", "health")
    assert visits.troubles == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("state", ["well", "trouble", "late"])
def test_axe_finds_nothing(shop: Any, plain: RunningFlower, visits: Visits, theme: str, state: str) -> None:
    from axe_playwright_python.sync_playwright import Axe
    from browsing import paused

    pass_over(
        shop.story.store, well() if state == "well" else in_trouble(), ago=400 if state == "late" else 1
    )
    page = visits.open(plain.base + "plet/health", color_scheme=theme)
    page.evaluate("theme => document.documentElement.setAttribute('data-bs-theme', theme)", theme)
    for summary in paused(page).locator("summary").all():
        summary.click()

    found = Axe().run(page, context="#plet").response["violations"]

    assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == []


def test_a_narrow_screen_needs_no_scrolling_sideways(shop: Any, plain: RunningFlower, visits: Visits) -> None:
    pass_over(shop.story.store, in_trouble(), ago=1)
    page = visits.open(plain.base + "plet/health", width=360)

    assert page.evaluate("document.documentElement.scrollWidth") <= 360
