"""Acknowledging and silencing: who may, by which requests, and what is left of it: one row each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
from acting import Form
from flowers import RunningFlower, running_flower
from waiting import wait_until
from watched import Watched

from plet_celery.store import alerting
from plet_celery.web import forms

RULES = """
rights = {"reader": {"runs"}, "actor": {"act"}, "nobody": set()}
app.conf.plet_rights_for = lambda user: rights.get(user, {"runs", "act"})
from plet_celery import ALL_TENANTS
app.conf.plet_tenants_for = lambda user: {"acme": ["acme"]}.get(user, ALL_TENANTS)
"""
USERS = ("ada", "bob", "reader", "actor", "nobody", "acme")
ACTS: dict[str, dict[str, str]] = {
    "acknowledge": {"note": "on it"},
    "silence": {"length": "1h", "reason": "known"},
    "unsilence": {"silence": "{silence}"},
}


class Fired:
    """A shop with alerts that fire, and what is in its tables."""

    def __init__(self, shop: Any) -> None:
        self.store = shop.story.store
        self.watched = Watched(self.store)
        self.number = 0

    def alert(self, **facts: Any) -> str:
        """Have one more alert fire; returns its id."""
        self.number += 1
        subject = f"shop.task_{self.number}"
        self.watched.judge("failure_rate", subject, title="Too many fail", **facts)
        self.watched.go(time.time())
        return self.watched.alert("failure_rate", subject).id

    def silence(self, alert: str, **facts: Any) -> str:
        """Silence an alert; returns the silence's id."""
        now = time.time()
        given: dict[str, Any] = {"until": now + 600, "reason": "why", "by": "somebody", "now": now}
        return alerting.silence_alert(self.store, alert, **given | facts).id

    def rows(self) -> tuple[int, int, int]:
        """How many transitions, silences and ended silences there are."""
        tables = self.store.tables.watching
        ended = tables.silence.c.ended_at.is_not(None)
        with self.store.reading() as connection:
            return tuple(
                connection.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar_one()
                for table, where in (
                    (tables.transition, ()),
                    (tables.silence, ()),
                    (tables.silence, (ended,)),
                )
            )


@pytest.fixture(scope="module")
def fired(shop: Any) -> Fired:
    shop.write(RULES)
    return Fired(shop)


@pytest.fixture(scope="module")
def flower(shop: Any, fired: Fired) -> Iterator[RunningFlower]:
    users = ",".join(f"{name}:pw" for name in USERS)
    with running_flower(shop.folder, f"--basic-auth={users}") as found:
        yield found


def fields_of(act: str, silence: str) -> dict[str, str]:
    return {name: value.format(silence=silence) for name, value in ACTS[act].items()}


# What is done


def test_acknowledging_leaves_one_transition_with_who_and_why(flower: RunningFlower, fired: Fired) -> None:
    alert = fired.alert()
    before = fired.rows()

    answer = Form.on(flower, alert).send("acknowledge", {"note": "broker is being moved"})

    assert (answer.status, answer.headers["location"]) == (303, f"/plet/alerts/{alert}")
    assert fired.rows() == (before[0] + 1, *before[1:])
    last = alerting.transitions(fired.store, alert)[-1]
    assert (last.kind, last.by, last.note) == ("acknowledged", "ada", "broker is being moved")
    page = flower.get(f"plet/alerts/{alert}", user="bob:pw").text
    assert "Acknowledged by <strong>ada</strong>" in page
    assert "broker is being moved" in page


def test_acknowledging_twice_leaves_one_row(flower: RunningFlower, fired: Fired) -> None:
    form = Form.on(flower, fired.alert())
    form.send("acknowledge", {"note": "x"})
    before = fired.rows()

    assert form.send("acknowledge", {"note": "x"}).status == 303
    assert fired.rows() == before


@pytest.mark.parametrize(("length", "seconds"), [("1h", 3600), ("8h", 28_800)])
def test_a_silence_has_its_end_its_reason_and_who(
    flower: RunningFlower, fired: Fired, length: str, seconds: float
) -> None:
    alert = fired.alert()
    before = fired.rows()

    answer = Form.on(flower, alert).send("silence", {"length": length, "reason": "new worker at noon"})

    assert answer.status == 303
    assert fired.rows() == (before[0], before[1] + 1, before[2])
    (made,) = [one for one in alerting.silences(fired.store, now=time.time()) if one.reason.startswith("new")]
    assert made.by == "ada"
    assert made.until - made.made_at == pytest.approx(seconds)
    page = flower.get(f"plet/alerts/{alert}", user="bob:pw").text
    assert "Silenced by <strong>ada</strong>" in page
    alerting.end_silence(fired.store, made.id, by="test", now=time.time())


def test_a_silence_until_a_time_is_in_the_readers_zone(flower: RunningFlower, fired: Fired) -> None:
    alert = fired.alert()

    answer = Form.on(flower, alert).send(
        "silence", {"length": "until", "until": "2027-01-01T12:30", "reason": "new year"}
    )

    assert answer.status == 303
    (made,) = [one for one in alerting.silences(fired.store, now=time.time()) if one.reason == "new year"]
    assert made.until == 1_798_806_600.0  # 2027-01-01T12:30Z


def test_a_silence_is_ended_by_one_who_may_and_says_by_whom(flower: RunningFlower, fired: Fired) -> None:
    alert = fired.alert()
    silence = fired.silence(alert)
    before = fired.rows()

    assert Form.on(flower, alert).send("unsilence", {"silence": silence}).status == 303

    assert fired.rows() == (*before[:2], before[2] + 1)
    ended = {one.id: one for one in alerting.silences(fired.store, now=time.time(), ended=True)}
    assert ended[silence].ended_by == "ada"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"length": "1h", "reason": ""}, "without a reason"),
        ({"length": "1h", "reason": "   "}, "without a reason"),
        ({"length": "1h"}, "without a reason"),
        ({"reason": "why"}, "is no time"),
        ({"length": "9999999h", "reason": "why"}, "9999999h"),
        ({"length": "until", "reason": "why"}, "is no time"),
        ({"length": "until", "until": "soon", "reason": "why"}, "is no time"),
        ({"length": "until", "until": "2020-01-01T00:00", "reason": "why"}, "a silence until "),
        ({"length": "until", "until": "9999-01-01T00:00", "reason": "why"}, "a silence until "),
        ({"length": "1y", "reason": "why"}, "is no time"),
    ],
)
def test_what_makes_no_sense_is_said_on_the_page_and_the_form_keeps_what_was_typed(
    flower: RunningFlower, fired: Fired, fields: dict[str, str], said: str
) -> None:
    alert = fired.alert()
    before = fired.rows()

    answer = Form.on(flower, alert).send("silence", fields)

    assert answer.status == 400
    assert said in answer.text
    if fields.get("reason") == "why":
        assert 'name="reason" required maxlength="500" value="why"' in answer.text
    assert fired.rows() == before


def test_one_that_is_over_cannot_be_acknowledged(flower: RunningFlower, fired: Fired) -> None:
    from plet_celery.watchfacts import Verdict

    alert = fired.alert()
    form = Form.on(flower, alert)
    found = alerting.get_alert(fired.store, alert)
    fired.watched.judge(found.rule, found.subject, Verdict.KEPT)
    fired.watched.go(time.time())
    before = fired.rows()

    answer = form.send("acknowledge")

    assert answer.status == 400
    assert "is over" in answer.text
    assert fired.rows() == before


# Who may


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(
    ("user", "status"),
    [
        (None, 401),
        ("ada:wrong", 401),
        ("ghost:pw", 401),
        ("nobody:pw", 403),
        ("reader:pw", 403),
        ("actor:pw", 403),
    ],
)
def test_who_may_not_act_changes_nothing(
    flower: RunningFlower, fired: Fired, user: str | None, status: int, act: str
) -> None:
    alert = fired.alert()
    silence = fired.silence(alert)
    form = Form.on(flower, alert)  # with ada's own token and cookie
    before = fired.rows()

    answer = form.send(act, fields_of(act, silence), user=user)

    assert answer.status == status
    assert fired.rows() == before


def test_who_may_read_only_is_offered_nothing(flower: RunningFlower, fired: Fired) -> None:
    alert = fired.alert()

    page = flower.get(f"plet/alerts/{alert}", user="reader:pw")

    assert '<form method="post"' not in page.text
    assert "you may not act here" in page.text
    assert forms.COOKIE not in page.headers.get("set-cookie", "")
    assert ">1 h</a>" not in flower.get("plet/alerts", user="reader:pw").text
    assert ">1 h</a>" in flower.get("plet/alerts", user="ada:pw").text


def test_an_alert_of_another_tenant_is_one_that_is_not_there(flower: RunningFlower, fired: Fired) -> None:
    mine, theirs, everybodys = (fired.alert(tenant=tenant) for tenant in ("acme/x", "beta", ""))
    form = Form.on(flower, mine, user="acme:pw")
    before = fired.rows()

    for act in ACTS:
        for alert in (theirs, everybodys, "0" * 32):
            form.alert = alert
            answer = form.send(act, fields_of(act, "0" * 32))
            assert answer.status == 404, (act, alert)
    assert fired.rows() == before
    form.alert = mine
    assert form.send("silence", {"length": "1h", "reason": "ours"}).status == 303
    (made,) = [one for one in alerting.silences(fired.store, now=time.time()) if one.reason == "ours"]
    assert made.tenants == ("acme",)


def test_a_silence_of_others_is_not_ended_by_a_viewer_of_some_tenants(
    flower: RunningFlower, fired: Fired
) -> None:
    alert = fired.alert(tenant="acme")
    silence = fired.silence(alert)
    before = fired.rows()

    answer = Form.on(flower, alert, user="acme:pw").send("unsilence", {"silence": silence})

    assert answer.status == 404
    assert fired.rows() == before
    page = flower.get(f"plet/alerts/{alert}", user="acme:pw").text
    assert "not yours to see" in page
    assert "somebody" not in page


# By which requests


def refused_ways(form: Form, other: Form) -> dict[str, dict[str, Any]]:
    """What another site, another user or a script would send; each differs from ours in one thing."""
    silent: dict[str, str | None] = {"Origin": None, "Sec_Fetch_Site": None}
    body = urlencode({forms.FIELD: form.token, "note": "x", "length": "1h", "reason": "x"}).encode()
    return {
        "no header of origin": {"headers": silent},
        "null origin": {"headers": silent | {"Origin": "null"}},
        "another origin": {"headers": silent | {"Origin": "https://evil.example"}},
        "another port": {"headers": silent | {"Origin": form.origin + "1"}},
        "a sibling's subdomain": {"headers": silent | {"Origin": form.origin.replace("://", "://sub.")}},
        "another site": {"headers": {"Sec_Fetch_Site": "cross-site"}},
        "the same site": {"headers": {"Sec_Fetch_Site": "same-site"}},
        "an address that was typed": {"headers": {"Sec_Fetch_Site": "none"}},
        "text/plain": {"headers": {"Content_Type": "text/plain"}},
        "JSON": {"headers": {"Content_Type": "application/json"}, "body": b'{"note": "x"}'},
        "text/plain JSON": {"headers": {"Content_Type": "text/plain"}, "body": b'{"note": "x", "a": "=b"}'},
        "multipart": {"headers": {"Content_Type": "multipart/form-data; boundary=x"}, "body": b"--x--"},
        "no token": {"body": b"note=x&length=1h&reason=x"},
        "an empty token": {"body": body.replace(form.token.encode(), b"")},
        "a wrong token": {"body": body.replace(form.token.encode(), b"0" * 64)},
        "another browser's token": {"body": body.replace(form.token.encode(), other.token.encode())},
        "no cookie": {"headers": {"Cookie": None}},
        "a cookie that was made up": {"headers": {"Cookie": f"{forms.COOKIE}={'a' * 22}"}},
        "another browser's cookie": {"headers": {"Cookie": f"{forms.COOKIE}={other.cookie}"}},
        "the token in the address": {"body": b"note=x"},
        "another user with the same token": {"user": "bob:pw"},
        "too much": {"body": body + b"&x=" + b"x" * forms.BODY_MAX},
        "no form at all": {"body": b"\xff\xfe"},
    }


@pytest.mark.parametrize("act", ACTS)
def test_only_a_form_of_our_own_page_changes_anything(flower: RunningFlower, fired: Fired, act: str) -> None:
    alert = fired.alert()
    silence = fired.silence(alert)
    form, other = Form.on(flower, alert), Form.on(flower, alert)
    before = fired.rows()

    for name, way in refused_ways(form, other).items():
        answer = form.send(act, None if "body" in way else fields_of(act, silence), **way)
        assert answer.status in (400, 403, 413), (name, answer.status)
        assert fired.rows() == before, name
    # As a browser sends it over plain HTTP to another name than localhost, and as it does else.
    assert form.send(act, fields_of(act, silence), headers={"Sec_Fetch_Site": None}).status == 303
    assert fired.rows() != before


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_no_other_verb_changes_anything(flower: RunningFlower, fired: Fired, act: str, method: str) -> None:
    alert = fired.alert()
    form = Form.on(flower, alert)
    before = fired.rows()

    answer = form.send(act, fields_of(act, "0" * 32), method=method)

    assert answer.status == (302 if method in ("GET", "HEAD") else 405)
    assert fired.rows() == before


def test_a_redirect_leads_to_our_own_page_only(flower: RunningFlower, fired: Fired) -> None:
    for alert in ("%2f%2fevil.example", "..%2f..%2fx", "a%0d%0aSet-Cookie:x=1"):
        answer = flower.get(f"plet/alerts/{alert}/silence", user="ada:pw")
        assert answer.headers["location"].startswith("/plet/alerts/")
        assert "\n" not in answer.headers["location"]
        assert "x" not in answer.headers.get("set-cookie", "")


def test_every_try_is_a_line_in_the_log(flower: RunningFlower, fired: Fired) -> None:
    alert = fired.alert()
    form = Form.on(flower, alert)

    form.send("acknowledge")
    form.send("acknowledge", user="reader:pw")
    form.send("acknowledge", headers={"Sec_Fetch_Site": "cross-site"})

    def lines() -> list[str]:
        told = flower.log.read_text().splitlines()
        return [line for line in told if alert in line and "somebody acts" in line]

    # An answer may be here before its line is written.
    wait_until(lambda: len(lines()) >= 3)
    said = [(line.split("user=")[1].split()[0], line.split("status=")[1].split()[0]) for line in lines()]
    assert said == [("'ada'", "303"), ("'reader'", "403"), ("'ada'", "403")]


def test_the_cookie_of_forms_is_for_our_pages_and_this_site(flower: RunningFlower, fired: Fired) -> None:
    cookie = flower.get(f"plet/alerts/{fired.alert()}", user="ada:pw").headers["set-cookie"]

    parts = {part.strip().lower() for part in cookie.split(";")}
    assert {"httponly", "samesite=lax", "path=/plet/"} <= parts


def test_a_second_page_does_not_spoil_the_first_ones_form(flower: RunningFlower, fired: Fired) -> None:
    alert = fired.alert()
    form = Form.on(flower, alert)

    again = flower.get(f"plet/alerts/{alert}", user="ada:pw", Cookie=f"{forms.COOKIE}={form.cookie}")

    assert forms.COOKIE not in again.headers.get("set-cookie", "")
    assert form.token in again.text
    assert form.send("acknowledge").status == 303


# Where nobody may


def test_without_authentication_nobody_acts(shop: Any, fired: Fired) -> None:
    shop.write()
    alert = fired.alert()
    silence = fired.silence(alert)
    with running_flower(shop.folder) as open_flower:
        form = Form.on(open_flower, alert)
        before = fired.rows()
        assert form.token == ""
        page = open_flower.get(f"plet/alerts/{alert}").text
        for act in ACTS:
            for body in (None, b"note=x"):
                answer = form.send(act, fields_of(act, silence), user=None, body=body)
                assert answer.status == 403
                assert "no authentication" in answer.text
    assert "no authentication" in page
    assert fired.rows() == before
    shop.write(RULES)


def test_with_read_only_nobody_acts(shop: Any, fired: Fired, tmp_path: Path) -> None:
    alert = fired.alert()
    with running_flower(shop.folder, "--basic-auth=ada:pw", "--read_only") as still:
        form = Form.on(still, alert)
        before = fired.rows()
        answer = form.send("acknowledge")
        page = still.get(f"plet/alerts/{alert}", user="ada:pw").text
    assert (answer.status, form.token) == (403, "")
    assert "--read_only" in page
    assert fired.rows() == before
