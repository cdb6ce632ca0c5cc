"""The error card, of whatever shape an error was recorded in."""

from __future__ import annotations

from typing import Any

import pytest

from plet_celery.store.records import Run
from plet_celery.web import errorcard
from plet_celery.web.errorcard import ErrorCard

ERROR = {
    "type": "ValueError",
    "message": "no such row",
    "traceback": "TRACE",
    "frames": [
        {"file": "lib.py", "line": 1, "function": "call", "own": False},
        {"file": "shop.py", "line": 2, "function": "load", "own": True},
        {"file": "lib.py", "line": 3, "function": "raise", "own": False},
    ],
}


def card(*, has_traces: bool = True, **facts: Any) -> ErrorCard | None:
    run = Run(**({"id": "1", "short_id": "1", "task": "t", "state": "failed", "error": ERROR} | facts))
    return errorcard.card(run, has_traces=has_traces)


def test_the_own_code_comes_first_and_libraries_are_folded() -> None:
    found = card()

    assert found is not None
    assert found.own is not None
    assert (found.own.place, found.own.function) == ("shop.py:2", "load")
    assert [(group.is_own, len(group.frames)) for group in found.groups] == [
        (False, 1),
        (True, 1),
        (False, 1),
    ]


def test_without_the_right_there_is_no_trace_of_a_trace() -> None:
    found = card(has_traces=False)

    assert found is not None
    assert (found.own, found.groups, found.traceback) == (None, [], "")
    assert (found.type, found.message) == ("ValueError", "no such row")


@pytest.mark.parametrize("state", ["timed_out", "lost", "interrupted", "rejected", "cancelled", "expired"])
def test_an_end_without_an_exception_has_a_sentence(state: str) -> None:
    found = card(state=state, error=None, reason="told by the shipper")

    assert found is not None
    assert found.title
    assert found.reason == "Told by the shipper"


def test_a_run_that_went_well_has_none_and_one_that_retries_says_so() -> None:
    assert card(state="succeeded", error=None) is None
    retrying = card(state="retrying")
    assert retrying is not None
    assert retrying.is_retrying


@pytest.mark.parametrize(
    "error",
    [
        *({"frames": 7}, {"frames": "text"}, {"frames": {"a": 1}}, {"frames": [None, 1, [], {}]}),
        *(
            {"frames": [{"file": ["x"], "line": {}, "function": 3, "own": "yes"}]},
            {"type": {}, "message": []},
        ),
        {"traceback": ["a"], "type": 1, "message": 2.5},
    ],
)
def test_no_shape_of_an_error_makes_another_one(error: dict[str, Any]) -> None:
    found = card(error=error)

    assert found is not None
    assert all(isinstance(one, str) for one in (found.type, found.message, found.traceback))
    assert found.own is None
