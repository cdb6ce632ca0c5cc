"""Canaries in every field: what a right hides is nowhere, and nothing of another tenant's is anywhere."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from flowers import NO_ANSWER, RunningFlower, running_flower
from recorded_runs import Story, error
from watched import Watched

from plet_celery.store import Store, alerting

RULES = """
from plet_celery import ALL_TENANTS

app.conf.plet_rights_for = lambda user: {"runs", "arguments", "logs", "tracebacks"} & set(user.split("."))

def tenants(user):
    return {"acme": ["acme"], "beta": ["beta/x"]}.get(user.partition(".")[0], ALL_TENANTS)

app.conf.plet_tenants_for = tenants
"""
HIDDEN = ("arguments", "logs", "tracebacks")
SUBSETS = [some for count in range(4) for some in itertools.combinations(HIDDEN, count)]
USERS = [".".join(("runs", *some)) for some in SUBSETS]
ACME, BETA = "acme.runs.arguments.logs.tracebacks", "beta.runs.arguments.logs.tracebacks"
REGIONS = (
    *("head", "error", "stages", "canvas", "log", "metadata", "measures"),
    *("arguments", "attempts", "events", "raw", "footer", "log-after"),
)


@pytest.fixture(scope="module")
def ids(shop: Any) -> dict[str, str]:
    """Runs of two tenants that are twins, and one canvas that both have runs in."""
    shop.write(RULES)
    found: dict[str, str] = {}
    for tenant, mark in (("acme", "ACME"), ("beta/x", "BETA"), ("acmeX", "SIBLING")):
        found |= {f"{mark} {name}": run for name, run in twins(shop.story, tenant, mark, shop.now).items()}
    parent = shop.story.run("mixed.parent", started=shop.now - 50, tenant="beta/x", worker_name="BETA")
    child = shop.story.run(
        "mixed.child",
        started=shop.now - 49,
        tenant="acme",
        parent=parent.id,
        canvas=parent.id,
        group="g",
        group_index=0,
    )
    other = shop.story.run(
        "BETA-child",
        started=shop.now - 49,
        tenant="beta/x",
        parent=child.id,
        canvas=parent.id,
        group="g",
        group_index=1,
    )
    child.succeed()
    other.fail("BETA-error", "BETA-text")
    shop.story.ship()
    for tenant, mark in (("acme", "ACME"), ("beta/x", "BETA"), ("acmeX", "SIBLING"), ("", "WHOLE-BETA")):
        found[f"{mark} alert"] = alarm(shop.story.store, tenant, mark, found, shop.now)
    return found | {"BETA parent": parent.id, "ACME child": child.id, "BETA other": other.id}


def alarm(store: Store, tenant: str, mark: str, runs: dict[str, str], now: float) -> str:
    """Have an alert fire with a mark in every field, and be silenced; it names runs of all tenants."""
    watched = Watched(store, channels=(f"{mark.lower()}-channel",))
    named = [run for name, run in runs.items() if name.endswith(("failed", "running"))]
    watched.judge(
        f"failure_rate:{mark}", f"{mark}-subject", tenant=tenant, task=f"{mark}-task", queue=f"{mark}-queue",
        title=f"{mark}-title", value=f"{mark}-value", limit=f"{mark}-limit", affected=f"{mark}-affected",
        advice=f"{mark}-advice", runs=tuple(named), count=len(named),
    )  # fmt: skip
    watched.go(now)
    alert = watched.alert(f"failure_rate:{mark}", f"{mark}-subject").id
    tenants = [tenant] if tenant else None
    alerting.acknowledge(store, alert, by=f"{mark}-who", note=f"{mark}-note", now=now)
    alerting.silence_alert(
        store, alert, until=now + 9000, reason=f"{mark}-reason", by=f"{mark}-who", now=now, tenants=tenants
    )
    return alert


def twins(story: Story, tenant: str, mark: str, now: float) -> dict[str, str]:
    """Tell a run with a mark in every field, and one that is under way."""
    facts = {"tenant": tenant, "queue": f"{mark}-queue", "user": f"{mark}-user", "args": [f"{mark}-A-args"]}
    run = story.run(f"{mark}-task", started=now - 100, kwargs={f"{mark}-A-key": f"{mark}-A-kwargs"}, **facts)
    run.plan(f"{mark}-stage", "later")
    trace = f"Traceback\n  {mark}-T-trace"
    failed = error(f"{mark}-stage-error", f"{mark}-stage-text", trace) | {
        "frames": [{"file": f"{mark}-T-file", "line": 1, "function": f"{mark}-T-function", "own": True}]
    }
    run.stage(f"{mark}-stage", state="failed", error=failed, message=f"{mark}-message")
    run.log(f"{mark}-L-line", level=40)
    run.log(f"{mark}-L-print", level=30, stream="stdout")
    run.metadata(**{f"{mark}-meta": f"{mark}-value"})
    run._tell("measure.recorded", values={f"{mark}-measure": 1.0}, i=1)
    run.now += 1
    run._end("run.retried", error=failed, retries=0, max_retries=3)
    run._begin(run.now + 1, retries=1)
    run.log(f"{mark}-L-again", level=40)
    run._end("run.failed", error=failed, result=f"{mark}-A-result", reason=f"{mark}-reason")
    done = story.run(f"{mark}-done", started=now - 90, **facts)
    done.succeed(f"{mark}-A-result")
    lost = story.run(f"{mark}-lost", started=now - 80, **facts)
    lost.end("run.lost", reason=f"{mark}-reason", worker_lost=True)
    running = story.run(f"{mark}-running", started=now - 10, **facts)
    running.stage(f"{mark}-stage", total=10, done=4, state="running", message=f"{mark}-message")
    return {"failed": run.id, "done": done.id, "lost": lost.id, "running": running.id}


@pytest.fixture(scope="module")
def flower(shop: Any, ids: dict[str, str]) -> Iterator[RunningFlower]:
    """One whose users' names say what they may see."""
    users = ",".join(f"{name}:pw" for name in (*USERS, ACME, BETA))
    with running_flower(shop.folder, f"--basic-auth={users}") as found:
        yield found


ALERT_REGIONS = ("head", "acts", "timeline", "runs", "deliveries", "footer")


def everything_about_alert(alert: str) -> list[str]:
    """All addresses that tell of one alert."""
    page = f"plet/alerts/{alert}"
    forms = [f"{page}/{act}" for act in ("acknowledge", "silence", "unsilence")]
    return [page, f"{page}?silence=8h", *forms, *(f"{page}?region={region}" for region in ALERT_REGIONS)]


def everything_about(run: str) -> list[str]:
    """All addresses that tell of one run."""
    page = f"plet/runs/{run}"
    return [
        *(
            page,
            f"{page}/log",
            f"{page}/log?log_raw=1&log_tab=1",
            f"{page}?log_q=L-&log_attempt=1",
            f"{page}?tl=even",
        ),
        *(f"{page}?region={region}" for region in REGIONS),
        *(f"{page}?region=log&log_q=line", f"{page}?region=log-after&position=", f"{page}?log_error=first"),
    ]


# Rights


@pytest.mark.parametrize("some", SUBSETS, ids=".".join)
def test_what_a_right_hides_is_nowhere_and_the_rest_is_there(
    flower: RunningFlower, ids: dict[str, str], some: tuple[str, ...]
) -> None:
    user = ".".join(("runs", *some)) + ":pw"
    answers = {
        path: flower.get(path, user=user)
        for run in ("ACME failed", "ACME done", "ACME lost", "ACME running", "ACME child")
        for path in everything_about(ids[run])
    }
    answers |= {path: flower.get(path, user=user) for path in ("plet/", "plet/workers", "plet/?state=failed")}
    text = "\n".join(one.text for one in answers.values())

    for right, mark in (("arguments", "-A-"), ("logs", "-L-"), ("tracebacks", "-T-")):
        seen = {path for path, one in answers.items() if f"ACME{mark}" in one.text}
        if right == "tracebacks" and "logs" in some:
            # A log has the traceback that its run ended with, and those that were logged: docs/pages.md.
            seen = {path for path in seen if re.search(r"region=(?!log)", path)}
        assert bool(seen) == (right in some), (right, seen)
    for word in ("ACME-task", "ACME-stage", "ACME-value", "ACME-measure", "ACME-stage-text", "ACME-reason"):
        assert word in text, word
    for path, one in answers.items():
        is_log = "region=log" in path or "/log" in path
        assert one.status == 200 or (is_log and "logs" not in some and one.status in (403, 404)), path
        assert NO_ANSWER not in one.text, path
        if "logs" not in some:
            assert not re.search(r'"log_lines": [1-9]|\d+ lines|"log_folders": \[\s*"', one.text), path


# Tenants


def test_no_answer_tells_anything_of_another_tenant(flower: RunningFlower, ids: dict[str, str]) -> None:
    theirs = {name: run for name, run in ids.items() if not name.startswith("ACME")}
    runs = {name: run for name, run in ids.items() if not name.endswith("alert")}
    alerts = {name: alert for name, alert in ids.items() if name.endswith("alert")}
    cursors = cursors_of(flower, BETA)
    found = [
        *("plet/", "plet/workers", "plet/?region=glance", "plet/?region=tasks", "plet/?region=footer"),
        *(
            "plet/?task=*",
            "plet/?task=BETA*",
            "plet/?task=mixed*",
            "plet/?q=BETA",
            "plet/?q=task:BETA-task",
            "plet/?q=S",
        ),
        *(
            "plet/?tenant=beta/x",
            "plet/?tenant=beta",
            "plet/?tenant=acmeX",
            "plet/?tenant=",
            "plet/?q=tenant:beta/x",
        ),
        *(
            "plet/?queue=BETA-queue",
            "plet/?worker=celery@atlas",
            "plet/?q=meta.BETA-meta:BETA-value",
            "plet/?state=failed",
        ),
        *(
            "plet/?state=running",
            "plet/?state=lost,failed&from=2000-01-01",
            "plet/?q=meta.ACME-meta:ACME-value",
        ),
        *(f"plet/?q={run[:length]}" for run in theirs.values() for length in (4, 8, len(run))),
        *(f"plet/?{way}={cursor}" for cursor in cursors for way in ("after", "before")),
        *(path for run in runs.values() for path in everything_about(run)),
        *("plet/alerts", "plet/?late=1", "plet/?late=1&task=BETA*", "plet/alerts?q=BETA"),
        *(f"plet/alerts?show={show}" for show in ("firing", "silenced", "no_data", "resolved")),
        *(f"plet/alerts?region={region}" for region in ("tiles", "alerts", "rules", "footer")),
        *(f"plet/alerts?q=failure_rate:{mark}" for mark in ("B", "BETA", "WHOLE-BETA")),
        *(path for alert in alerts.values() for path in everything_about_alert(alert)),
    ]
    assert len(cursors) >= 1
    for path in found:
        text = flower.get(path, user=f"{ACME}:pw").text
        for asked in re.findall(r"(?:task|q|tenant|queue)=[^&]*", path):  # what was typed stands in its field
            text = text.replace(asked.partition("=")[2], "")
            text = text.replace(asked.partition("=")[2].replace("/", "%2F"), "")
        for word in ("BETA", "beta-channel", "SIBLING", "mixed.parent", *theirs.values()):
            if not (word in path and word in theirs.values()):
                assert word not in text, (path, word)
        assert NO_ANSWER not in text or "cursor" in text, path


def cursors_of(flower: RunningFlower, user: str) -> set[str]:
    """The cursors that another viewer's pages hold."""
    last = flower.get("plet/?state=failed&q=BETA", user=f"{user}:pw").text
    listed = flower.get("plet/", user=f"{user}:pw").text
    import base64
    import json

    made = {base64.urlsafe_b64encode(json.dumps([1e9, "x"]).encode()).decode().rstrip("=")}
    return made | set(re.findall(r"(?:after|before)=([\w-]+)", last + listed))


def test_each_tenant_sees_its_own(flower: RunningFlower, ids: dict[str, str]) -> None:
    for user, mark, tenant in ((ACME, "ACME", "acme"), (BETA, "BETA", "beta/x")):
        listed = flower.get("plet/", user=f"{user}:pw").text
        assert all(f"{mark}-{name}" in listed for name in ("task", "done", "lost", "running")), user
        assert f"{mark}-task" in flower.get(f"plet/?tenant={tenant}", user=f"{user}:pw").text
        page = flower.get(f"plet/runs/{ids[f'{mark} failed']}", user=f"{user}:pw").text
        for word in ("A-args", "L-again", "T-trace", "meta", "user", "queue"):
            assert f"{mark}-{word}" in page, word
        assert f"{mark}-running" in flower.get("plet/workers", user=f"{user}:pw").text


def test_a_canvas_of_two_tenants_shows_each_its_own_runs(flower: RunningFlower, ids: dict[str, str]) -> None:
    mine = flower.get(f"plet/runs/{ids['ACME child']}", user=f"{ACME}:pw").text
    whole = flower.get(f"plet/runs/{ids['ACME child']}", user="runs:pw").text

    assert "mixed.child" in mine
    assert "parent run" not in mine
    assert f"/plet/runs/{ids['BETA parent']}" in whole
    assert "parent run" in whole
    assert "BETA-child" in whole


def test_who_may_see_no_tenant_sees_no_worker(flower: RunningFlower, ids: dict[str, str]) -> None:
    from plet_celery.web.workers import Heard, _known

    heard = {"celery@beta": Heard(1.0, None, None), "celery@acme": Heard(1.0, None, None)}

    assert _known(heard, [], {}) == {}
    assert list(_known(heard, [], {"celery@acme": []})) == ["celery@acme"]


def test_each_tenant_sees_its_own_alerts_and_counts_them(flower: RunningFlower, ids: dict[str, str]) -> None:
    for user, mark in ((ACME, "ACME"), (BETA, "BETA")):
        listed = flower.get("plet/alerts", user=f"{user}:pw").text
        page = flower.get(f"plet/alerts/{ids[f'{mark} alert']}", user=f"{user}:pw").text
        for word in ("title", "value", "limit", "reason", "subject"):
            assert f"{mark}-{word}" in listed, word
            assert f"{mark}-{word}" in page, word
        for word in ("advice", "affected", "note", "who", "task", "queue"):
            assert f"{mark}-{word}" in page, word
        assert f"{mark.lower()}-channel" in listed
        assert re.search(r"<strong>1</strong>\s*<span[^>]*>‖</span> silenced", listed)
        assert ids[f"{mark} failed"] in page
        assert "</span> ok" not in listed  # promises count the runs of all tenants
        assert "Objectives</h2>" not in listed
    whole = flower.get("plet/alerts", user="runs:pw").text
    assert re.search(r"<strong>4</strong>\s*<span[^>]*>‖</span> silenced", whole)
    assert "</span> ok" in whole


def test_runs_of_others_in_an_alert_are_neither_named_nor_counted(
    flower: RunningFlower, ids: dict[str, str]
) -> None:
    mine = flower.get(f"plet/alerts/{ids['ACME alert']}?region=runs", user=f"{ACME}:pw").text
    whole = flower.get(f"plet/alerts/{ids['ACME alert']}?region=runs", user="runs:pw").text

    assert mine.count("/plet/runs/") == 2
    assert "more were removed" not in mine
    assert whole.count("/plet/runs/") > 2
