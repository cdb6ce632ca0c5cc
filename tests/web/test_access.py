"""Who is let in, and what they get: nothing by default."""

from __future__ import annotations

from typing import Any

import pytest

from plet_celery import ALL_TENANTS
from plet_celery.errors import SettingsError
from plet_celery.store.records import EventRow, Run
from plet_celery.web import access
from plet_celery.web.access import RIGHTS, Viewer, refusal, viewer_of

ERROR = {"type": "ValueError", "message": "bad", "traceback": "TRACE", "frames": [{"file": "FRAME"}]}


def refused(**changes: Any) -> str | None:
    given: dict[str, Any] = {
        "has_auth": False,
        "address": "127.0.0.1",
        "is_socket": False,
        "host": "localhost:5555",
        "is_open": False,
    }
    return refusal(**(given | changes))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_without_authentication_this_machine_is_served(address: str) -> None:
    assert refused(address=address) is None


@pytest.mark.parametrize(
    "address", ["", "0.0.0.0", "::", "10.0.0.7", "flower.example", "127.0.0.1.example.org"]
)
def test_without_authentication_nobody_else_is_served(address: str) -> None:
    reason = refused(address=address)

    assert reason is not None
    assert "--basic-auth" in reason
    assert "plet_insecure_open" in reason


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:5555", "127.0.0.1.evil.example", "[2001:db8::1]", ""]
)
def test_a_name_that_only_resolves_to_this_machine_is_not_it(host: str) -> None:
    assert refused(host=host) is not None


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:5555", "[::1]:5555", "[::1]"])
def test_every_name_of_this_machine_is_one(host: str) -> None:
    assert refused(host=host) is None


def test_authentication_an_open_setting_or_a_socket_let_any_name_in() -> None:
    assert refused(has_auth=True, address="", host="flower.example") is None
    assert refused(is_open=True, address="", host="flower.example") is None
    assert refused(is_socket=True, address="", host="flower.example") is None


def test_without_rules_a_user_may_see_everything() -> None:
    assert viewer_of("ada", None, None) == Viewer("ada", RIGHTS, None)


def test_rules_are_asked_with_the_user_and_decide() -> None:
    asked: list[str | None] = []

    def rights(user: str | None) -> set[str]:
        asked.append(user)
        return {"runs"}

    found = viewer_of("ada", rights, lambda user: ["b", "a/x"])

    assert asked == ["ada"]
    assert found == Viewer("ada", frozenset({"runs"}), ("a/x", "b"))
    assert not found.may("logs")


def test_every_tenant_is_named_by_a_value_that_no_tenant_can_have() -> None:
    assert viewer_of("ada", None, lambda user: ALL_TENANTS).tenants is None
    assert viewer_of("ada", None, lambda user: ["*"]).tenants == ("*",)


@pytest.mark.parametrize("found", [None, "runs", 7, ["runs", 7], {"runs", "everything"}, b"runs"])
def test_a_rule_for_rights_that_makes_no_sense_lets_nobody_in(found: Any) -> None:
    with pytest.raises(SettingsError, match="plet_rights_for"):
        viewer_of("ada", lambda user: found, None)


@pytest.mark.parametrize("found", [None, "acme", 7, [None]])
def test_a_rule_for_tenants_that_makes_no_sense_lets_nobody_in(found: Any) -> None:
    with pytest.raises(SettingsError, match="plet_tenants_for"):
        viewer_of("ada", None, lambda user: found)


def test_a_rule_is_a_function_or_its_path() -> None:
    assert access.resolved(None, "plet_rights_for") is None
    assert access.resolved(repr, "plet_rights_for") is repr
    assert access.resolved("builtins:len", "plet_rights_for") is len
    assert access.resolved("builtins.len", "plet_rights_for") is len


@pytest.mark.parametrize("path", ["", "nowhere", "no.such.module:rule", "builtins:nothing", "sys:path"])
def test_a_path_that_leads_nowhere_is_named(path: str) -> None:
    with pytest.raises(SettingsError, match="plet_rights_for"):
        access.resolved(path, "plet_rights_for")


def test_a_run_is_shown_without_what_its_viewer_may_not_see() -> None:
    run = Run(
        id="1", short_id="1", task="t", state="failed", args=["A"], kwargs={"k": 1}, result="R", error=ERROR
    )

    bare = access.permitted(run, Viewer("ada", frozenset({"runs"}), None))

    assert (bare.args, bare.kwargs, bare.result) == (None, None, None)
    assert bare.error == {"type": "ValueError", "message": "bad"}
    assert access.permitted(run, Viewer("ada", RIGHTS, None)) == run
    assert run.error == ERROR  # the record itself is not changed


def test_events_are_shown_without_what_their_viewer_may_not_see() -> None:
    found = [
        EventRow(run_id="1", attempt_id="a", kind="run.started", at=1.0, data={"args": ["A"], "task": "t"}),
        EventRow(run_id="1", attempt_id="a", kind="log.written", at=2.0, text="LINE", data={"text": "LINE"}),
        EventRow(run_id="1", attempt_id="a", kind="run.failed", at=3.0, data={"error": ERROR, "result": "R"}),
    ]

    bare = access.permitted_events(found, Viewer("ada", frozenset({"runs"}), None))

    assert [(one.kind, one.data) for one in bare] == [
        ("run.started", {"task": "t"}),
        ("run.failed", {"error": {"type": "ValueError", "message": "bad"}}),
    ]
    assert access.permitted_events(found, Viewer("ada", RIGHTS, None)) == found
