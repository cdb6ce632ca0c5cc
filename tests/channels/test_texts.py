"""What a message says: what, since when, value against limit, who is affected, what to do, link."""

from __future__ import annotations

from dataclasses import replace

import pytest
from alerting import NOW, a_message, an_alert
from hypothesis import given
from hypothesis import strategies as st

from plet_celery.monitor.texts import HEADLINE_MAX, WORDS_MAX, message_of, trial
from plet_celery.redaction import Redactor
from plet_celery.store.outbox import Told
from plet_celery.watchfacts import Alert, AlertDoc, AlertState, Severity

KEY = "5f" * 16


def said(alert: Alert, kind: str = "fired", *, at: float = NOW, pages_url: str | None = None) -> str:
    told = Told(kind=kind, at=at, alert=alert)
    return message_of(told, key=KEY, number=2, redact=Redactor().text, pages_url=pages_url).text


def test_a_message_says_all_that_its_reader_needs() -> None:
    text = said(an_alert(id="ab" * 16), pages_url="https://flower.example.org/plet")

    assert text.splitlines() == [
        "WARNING shop.import_catalogue: too many runs fail",
        "What: too many runs fail",
        "With: shop.import_catalogue",
        "Since: 2027-01-15 07:00:00 UTC (1 h 00 m 00 s)",
        "Value: 34 % of 41 runs in the last hour",
        "Limit: 20 %",
        "Affected: 14 runs of shop.import_catalogue",
        "Tenant: acme/north",
        "Runs: 1f9f7a2e, 7a41c06b and 12 more",
        "Do: look at the errors of the task",
        "Link: https://flower.example.org/plet/alerts/abababababababababababababababab",
        "alert abababab, message 5f5f5f5f",
    ]


def test_an_end_says_from_when_to_when_and_asks_for_nothing() -> None:
    alert = an_alert(state=AlertState.RESOLVED, resolved_at=NOW + 120)

    lines = said(alert, "resolved", at=NOW + 120).splitlines()

    assert lines[0] == "RESOLVED shop.import_catalogue: too many runs fail"
    assert "Since: 2027-01-15 07:00:00 UTC until 2027-01-15 08:02:00 UTC (1 h 02 m 00 s)" in lines
    assert not any(line.startswith("Do:") for line in lines)


@pytest.mark.parametrize(
    ("kind", "severity", "start", "note"),
    [
        ("fired", Severity.CRITICAL, "CRITICAL ", None),
        ("worse", Severity.CRITICAL, "CRITICAL ", "it was a warning before"),
        ("flapping", Severity.WARNING, "FLAPPING ", "it fires and resolves again and again"),
        ("unsilenced", Severity.WARNING, "WARNING ", "its silence is over, and it still fires"),
        ("something_new", Severity.WARNING, "WARNING ", None),
    ],
)
def test_each_kind_is_told_apart(kind: str, severity: Severity, start: str, note: str | None) -> None:
    text = said(an_alert(severity=severity), kind)

    assert text.startswith(start)
    assert (f"Note: {note}" in text) if note else ("Note:" not in text)


def test_without_a_title_the_rule_speaks_and_empty_answers_have_no_line() -> None:
    alert = an_alert(rule="queue_depth", subject="bulk", tenant="", doc=AlertDoc())

    assert said(alert).splitlines() == [
        "WARNING bulk: queue_depth",
        "What: queue_depth",
        "With: bulk",
        "Since: 2027-01-15 07:59:00 UTC (1 m 00 s)",
        f"alert {alert.id[:8]}, message 5f5f5f5f",
    ]


def test_runs_are_said_only_where_they_are_named() -> None:
    doc = AlertDoc(title="a success did not come in time", value="2 due times without a success", count=2)

    assert "Runs:" not in said(an_alert(doc=doc))
    assert "Runs: a1 and 1 more" in said(an_alert(doc=replace(doc, runs=("a1",))))


def test_a_repeat_says_the_same() -> None:
    assert a_message(id="a" * 32) == a_message(id="a" * 32)


NASTY = [
    "{0.__class__} {alert} %(x)s %s ${x} $x {{7*7}} {% raw %}",
    "a\r\nBcc: everybody@example.org",
    "one\ntwo\u2028three\x85four",
    "\x1b]0;title\x07 \x1b[2J\x9b",
    "\u202etxt.exe",
    "\ud800 lone",
    "x" * 100_000,
    "",
]


@pytest.mark.parametrize("nasty", NASTY)
def test_words_are_data_and_never_a_template_a_line_or_a_control_character(nasty: str) -> None:
    doc = AlertDoc(title=nasty, value=nasty, limit=nasty, affected=nasty, advice=nasty, runs=(nasty,) * 30)
    alert = an_alert(rule=nasty, subject=nasty, task=nasty, queue=nasty, tenant=nasty, doc=doc)
    plain = an_alert(doc=replace(doc, title="t", value="v", limit="l", affected="a", advice="d", runs=("r",)))

    message = message_of(Told(kind="fired", at=NOW, alert=alert), key=KEY, number=2, redact=str)

    assert len(message.text.split("\n")) <= len(said(plain).split("\n"))
    assert message.text.replace("\n", "").isprintable()
    assert message.headline.isprintable() and len(message.headline) <= HEADLINE_MAX
    assert all(len(line) <= WORDS_MAX * 6 for line in message.text.split("\n"))
    assert len(message.runs) == 20
    if "{0" in nasty:
        assert nasty in message.text


@given(st.text(max_size=50), st.text(max_size=50))
def test_any_words_keep_the_shape(title: str, value: str) -> None:
    lines = said(an_alert(doc=AlertDoc(title=title, value=value))).split("\n")

    assert lines[-1].startswith("alert ")
    assert "\n".join(lines).encode()


def test_secrets_in_words_are_masked() -> None:
    doc = AlertDoc(
        title="no answer of https://bob:hunter2-7Zq@db1/x",
        value="password=hunter2-7Zq",
        affected="Bearer hunter2-7Zq.abc",
        runs=("r",),
    )

    message = message_of(
        Told(kind="fired", at=NOW, alert=an_alert(doc=doc)), key=KEY, number=2, redact=Redactor().text
    )

    assert "hunter2" not in repr(message)


def test_a_trial_says_that_it_is_one() -> None:
    message = trial("ops", key=KEY, now=NOW)

    assert message.kind == "test"
    assert message.headline == "TEST ops: this is a test"
