"""A real Flower serves our pages: to whom, under which address, with which headers, in which parts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flowers import NO_ANSWER, RunningFlower, running_flower
from pages import block

from plet_celery.web.headers import CSP

RULES = """
def rights(user):
    if user == "broken":
        raise RuntimeError("canary-in-a-rule")
    return {"ada": {"runs", "arguments", "logs", "tracebacks"}, "bob": {"runs"}, "none": set()}[user]

def tenants(user):
    from plet_celery import ALL_TENANTS
    return ALL_TENANTS if user in ("ada", "bob") else {"acme": ["acme"]}[user]

app.conf.plet_rights_for = "shop:rights"
app.conf.plet_tenants_for = tenants
"""
PAGES = ("plet/", "plet/workers", "plet/runs/{failed}")


@pytest.fixture(scope="module")
def told(shop: Any) -> Any:
    """A shop with a failed run, a running one, and one of a tenant."""
    shop.write(RULES)
    story, now = shop.story, shop.now
    failed = story.run("shop.index", started=now - 300, args=["canary-argument"], kwargs={"a": 1})
    failed.log("canary-line", level=40)
    failed.fail("SyntaxError", "invalid syntax")
    running = story.run("shop.load", started=now - 20)
    running.stage("read", total=10, done=4, state="running", percent=40.0)
    foreign = story.run("shop.secret", started=now - 60, tenant="other")
    foreign.succeed()
    story.ship()
    shop.ids = {"failed": failed.id, "running": running.id, "foreign": foreign.id}
    return shop


@pytest.fixture(scope="module")
def flower(told: Any) -> Iterator[RunningFlower]:
    """One without authentication, on this machine's own address."""
    told.write()
    with running_flower(told.folder) as found:
        yield found


@pytest.fixture(scope="module")
def guarded(told: Any, flower: RunningFlower) -> Iterator[RunningFlower]:
    """One with passwords and rules, below a prefix, read only."""
    told.write(RULES)
    users = ",".join(f"{name}:pw" for name in ("ada", "bob", "none", "broken", "stranger", "zoë"))
    with running_flower(
        told.folder, f"--basic-auth={users}", "--url_prefix=ops/flower", "--read_only=True"
    ) as found:
        yield found


def test_pages_are_served_and_flowers_own_ones_lead_to_them(flower: RunningFlower, told: Any) -> None:
    for page in PAGES:
        answer = flower.get(page.format(**told.ids))
        assert answer.status == 200, page
        assert NO_ANSWER not in answer.text
    assert 'href="/plet/"' in flower.get("workers").text
    assert (flower.get("plet").status, flower.get("plet").headers["location"]) == (302, "/plet/")


def test_a_prefix_is_in_every_address(guarded: RunningFlower, told: Any) -> None:
    for page in PAGES:
        text = guarded.get(page.format(**told.ids), user="ada:pw").text
        ours = re.findall(r'(?:href|src|action)="(/[^"]*)"', text)
        assert ours
        assert [one for one in ours if not one.startswith("/ops/flower/")] == []
    assert 'href="/ops/flower/plet/"' in guarded.get("workers", user="ada:pw").text
    assert guarded.get("plet/static/plet.css").status == 200


def test_every_answer_has_our_headers(flower: RunningFlower, told: Any) -> None:
    for path in (*PAGES, "plet/nothing", "plet/runs/nobody", "plet/?region=runs", "plet/?region=no"):
        headers = flower.get(path.format(**told.ids)).headers
        assert headers["content-security-policy"] == CSP, path
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
        assert headers["cache-control"] in ("no-store", "private, no-cache")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_but_reading_is_answered(flower: RunningFlower, told: Any, method: str) -> None:
    for page in (*PAGES, "plet", "plet/nothing"):
        assert flower.get(page.format(**told.ids), method=method).status in (403, 405), page


def test_a_region_is_fetched_alone_and_unchanged_is_a_304(flower: RunningFlower, told: Any) -> None:
    path = f"plet/runs/{told.ids['failed']}?region=error"
    first = flower.get(path)

    again = flower.get(path, If_None_Match=first.headers["etag"])
    other_zone = flower.get(path, If_None_Match=first.headers["etag"], Cookie="plet_tz=server")

    assert "<html" not in first.text
    assert "SyntaxError" in first.text
    assert (again.status, again.text) == (304, "")
    assert other_zone.status == 200


def test_an_unknown_region_is_not_found(flower: RunningFlower) -> None:
    assert flower.get("plet/?region=<script>").status == 404


def test_a_page_tells_what_it_is_asked_for_and_nothing_else(flower: RunningFlower, told: Any) -> None:
    listed = flower.get("plet/?state=failed").text

    assert told.ids["failed"] in listed
    assert told.ids["running"] not in listed
    assert "No run fits" in flower.get("plet/?state=lost").text
    assert "no state &#x27;broken&#x27;" in flower.get("plet/?state=broken").text.replace("&#39;", "&#x27;")


def test_a_place_in_the_list_that_is_none_shows_the_newest_runs(flower: RunningFlower, told: Any) -> None:
    answer = flower.get("plet/?task=shop.*&after=nonsense")

    assert answer.status == 200
    assert "place in the list that there is not: nonsense" in answer.text
    assert 'href="?task=shop.*"' in answer.text
    assert told.ids["running"] in answer.text
    assert "nonsense" not in flower.log.read_text()


def test_the_beginning_of_an_id_leads_to_its_run(flower: RunningFlower, told: Any) -> None:
    run = told.ids["failed"]

    found = flower.get(f"plet/runs/{run[:8]}?tz=utc")
    log = flower.get(f"plet/runs/{run[:8]}/log")

    assert (found.status, found.headers["location"]) == (302, f"/plet/runs/{run}?tz=utc")
    assert (log.status, log.headers["location"]) == (302, f"/plet/runs/{run}/log")


@pytest.mark.parametrize("path", ["plet", "plet/runs", "plet/runs/"])
def test_addresses_above_a_run_lead_to_the_list(flower: RunningFlower, path: str) -> None:
    found = flower.get(f"{path}?state=failed")

    assert (found.status, found.headers["location"]) == (302, "/plet/?state=failed")


@pytest.mark.parametrize(
    "run", ["nobody", "..%2F..%2Fetc%2Fpasswd", "%00", "a%0Ab", "%F0%9F%92%A5", "x" * 3000]
)
def test_ids_that_nobody_has_look_the_same(flower: RunningFlower, run: str) -> None:
    answer = flower.get(f"plet/runs/{run}")

    assert answer.status in (400, 404)
    assert "Traceback" not in answer.text
    if answer.status == 404:
        assert "unknown here; runs are kept 30 days" in answer.text


# With authentication


def test_without_a_password_nothing_is_served(guarded: RunningFlower, told: Any) -> None:
    for page in (*PAGES, "plet/nothing", "plet/?region=runs"):
        for user in (None, "ada:wrong", "nobody:pw", ":", "zoë:wrong"):
            answer = guarded.get(page.format(**told.ids), user=user)
            assert answer.status == 401, (page, user)
            assert "shop." not in answer.text
            assert answer.headers["www-authenticate"].startswith("Basic")


def test_a_header_that_is_no_base64_is_refused(guarded: RunningFlower) -> None:
    for value in ("Basic", "Basic %%%", "Basic /w==", "Bearer YWRhOnB3", "Basic YWRhOnB3 x"):
        assert guarded.get("plet/", Authorization=value).status == 401, value


def test_rights_decide_what_is_on_the_page(guarded: RunningFlower, told: Any) -> None:
    path = f"plet/runs/{told.ids['failed']}"
    all_of_it, runs_only = guarded.get(path, user="ada:pw").text, guarded.get(path, user="bob:pw").text

    for canary in ("canary-argument", "canary-line", "Traceback"):
        assert canary in all_of_it, canary
        assert canary not in runs_only, canary
    assert "SyntaxError" in runs_only


def test_a_user_without_rights_and_a_rule_that_fails_get_nothing(guarded: RunningFlower, told: Any) -> None:
    for user in ("none", "broken", "stranger", "zoë"):
        answer = guarded.get("plet/", user=f"{user}:pw")
        assert answer.status == 403, user
        assert "shop." not in answer.text.replace("shop.access", "")
        assert "canary" not in answer.text


def test_a_foreign_run_looks_like_one_that_is_not_there(told: Any, guarded: RunningFlower) -> None:
    told.write(
        RULES + '\napp.conf.plet_rights_for = None\napp.conf.plet_tenants_for = lambda user: ["acme"]\n'
    )
    with running_flower(told.folder, "--basic-auth=eve:pw") as flower:
        foreign = flower.get(f"plet/runs/{told.ids['foreign']}", user="eve:pw")
        absent = flower.get("plet/runs/00000000-0000-4000-8000-000000000000", user="eve:pw")
        beginning = flower.get(f"plet/runs/{told.ids['foreign'][:8]}", user="eve:pw")
        listed = flower.get("plet/", user="eve:pw")
        workers = flower.get("plet/workers", user="eve:pw")

    assert foreign.status == absent.status == beginning.status == 404
    assert stable(foreign.text, told.ids["foreign"]) == stable(
        absent.text, "00000000-0000-4000-8000-000000000000"
    )
    for answer in (listed, workers):
        assert answer.status == 200
        assert NO_ANSWER not in answer.text
        assert not any(run in answer.text for run in told.ids.values())
        assert "shop.secret" not in answer.text
    told.write(RULES)


def stable(text: str, run: str) -> str:
    """A page without what names the request."""
    return re.sub(r'name="_xsrf"[^>]*|datetime="[^"]*"', "", text.replace(run, "RUN"))


# Without authentication, for others


def test_an_open_flower_without_authentication_serves_no_run(told: Any, flower: RunningFlower) -> None:
    told.write()
    with running_flower(told.folder, "--address=0.0.0.0") as open_flower:
        for page in (*PAGES, "plet/?region=runs"):
            answer = open_flower.get(page.format(**told.ids))
            assert answer.status == 403
            assert "shop.index" not in answer.text
        assert "--basic-auth" in open_flower.get().text
        assert open_flower.get("workers").status == 200  # Flower's own pages are Flower's business


def test_it_serves_them_where_that_was_asked_for(told: Any, flower: RunningFlower) -> None:
    told.write("app.conf.plet_insecure_open = True")
    with running_flower(told.folder, "--address=0.0.0.0") as open_flower:
        assert told.ids["failed"] in open_flower.get().text
        assert "plet_insecure_open" in open_flower.log.read_text()
    told.write()


def test_another_sites_name_for_this_machine_is_refused(flower: RunningFlower) -> None:
    assert flower.get(Host="rebound.example").status == 403
    assert flower.get(Host="localhost:5555").status == 200


# Troubles


def test_other_celery_commands_do_not_load_the_pages(told: Any, tmp_path: Path) -> None:
    import subprocess
    import sys

    from stacks import environment

    probe = "import shop, sys; print('plet_celery.web' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=told.folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    listed = subprocess.run(
        [sys.executable, "-P", "-m", "celery", "-A", "shop", "report"],
        cwd=told.folder,
        env=environment(PYTHONPATH=str(told.folder), PYTHONVERBOSE=""),
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "False"
    assert "plet's pages" not in listed.stderr


def test_the_rules_of_the_documentation_work(told: Any, flower: RunningFlower) -> None:
    (told.folder / "shop_access.py").write_text(block("pages.md", "shop_access.py"))
    told.write(block("pages.md", "shop_conf.py"))
    with running_flower(told.folder, "--basic-auth=ada:pw,bob:pw") as one:
        mine = one.get(f"plet/runs/{told.ids['failed']}", user="ada:pw")
        others = one.get("plet/", user="bob:pw")

    assert "canary-argument" in mine.text
    assert others.status == 200
    assert "shop.index" not in others.text
    told.write()
