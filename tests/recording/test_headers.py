"""Context in message headers: what is inherited, what is stamped anew."""

from __future__ import annotations

from typing import Any

import pytest

from plet_celery import headers
from plet_celery.headers import Context


def stamped(
    message: dict[str, Any], parent: Context | None = None, parent_id: str | None = None
) -> dict[str, Any]:
    headers.stamp(message, parent, parent_id, now=1000.0)
    return message


PARENT = Context(tenant="acme/north", trigger="api", user="bob", canvas="head", queued_at=1.0)


def test_a_first_publish_is_manual_and_its_own_canvas() -> None:
    message = stamped({"id": "a", "root_id": "a"})

    assert message == {
        "id": "a",
        "root_id": "a",
        "plet_trigger": "manual",
        "plet_canvas": "a",
        "plet_queued_at": 1000.0,
    }


def test_members_of_a_top_level_group_share_the_groups_id() -> None:
    assert stamped({"id": "a", "root_id": "a", "group": "g"})["plet_canvas"] == "g"


def test_the_first_step_of_a_chain_in_a_group_belongs_to_the_groups_canvas() -> None:
    body: Any = (
        (),
        {},
        {"chain": [{"task": "last", "options": {"group_id": "g"}}, {"task": "second", "options": {}}]},
    )
    message: dict[str, Any] = {"id": "a", "root_id": "a"}

    headers.stamp(message, None, None, 5.0, group_behind=headers.group_behind(body))

    assert message[headers.CANVAS] == "g"


@pytest.mark.parametrize(
    "body",
    [None, (), ((), {}, {}), ((), {}, None), ((), {}, {"chain": 7}), ((), {}, {"chain": [7]}), b"x" * 3],
)
def test_a_body_that_tells_of_no_group_is_a_canvas_of_its_own(body: Any) -> None:
    assert headers.group_behind(body) is None


def test_a_task_hands_down_tenant_user_and_canvas() -> None:
    message = stamped({"id": "b", "root_id": "a"}, PARENT, "a")

    assert (message["plet_tenant"], message["plet_user"], message["plet_canvas"]) == (
        "acme/north",
        "bob",
        "head",
    )
    assert message["plet_trigger"] == "task"


def test_a_retry_keeps_its_trigger_and_gets_a_new_time() -> None:
    message = stamped({"id": "a", "plet_trigger": "task", "plet_queued_at": 5.0}, PARENT, "a")

    assert message["plet_trigger"] == "api"
    assert message["plet_queued_at"] == 1000.0


def test_beat_and_the_callers_word() -> None:
    assert stamped({"id": "a", "celery_beat_task": True})["plet_trigger"] == "beat"
    assert stamped({"id": "a", "plet_trigger": "import-button"})["plet_trigger"] == "import-button"


def test_the_callers_own_tenant_stands() -> None:
    assert stamped({"id": "b", "plet_tenant": "other"}, PARENT, "a")["plet_tenant"] == "other"


@pytest.mark.parametrize(
    "hostile",
    [
        {
            "plet_tenant": 7,
            "plet_user": ["x"],
            "plet_trigger": None,
            "plet_queued_at": "soon",
            "plet_canvas": {},
        },
        {"plet_queued_at": -1.0},
        {"plet_queued_at": 1e300},
    ],
)
def test_hostile_headers_are_nothing(hostile: dict[str, Any]) -> None:
    assert headers.read(hostile, canvas="c") == Context("", "manual", None, "c", None)


def test_a_worker_records_only_the_tenants_it_is_allowed() -> None:
    def tenant(path: str) -> str:
        return headers.read({"plet_tenant": path}, canvas=None, tenants_allowed=("acme",)).tenant

    assert tenant("acme") == "acme"
    assert tenant("acme/north") == "acme/north"
    assert tenant("acme2") == ""
    assert tenant("evil") == ""


def test_text_is_bounded() -> None:
    assert len(headers.read({"plet_tenant": "x" * 10_000}, canvas=None).tenant) == 200
