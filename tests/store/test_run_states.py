"""docs/run-states.md is what the store does: each row of its table is played through an ingest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from histories import JOURNALS, Teller, Writer
from storing import Shipper, emptied

from plet_celery import events
from plet_celery.events import END_STATES, Event
from plet_celery.store import Store, queries

PAGE = Path(__file__).parents[2] / "docs" / "run-states.md"
RUN = "00000000-0000-4000-8000-00000000000a"
ERROR = {"type": "ValueError", "module": "builtins", "message": "no"}

OWN: dict[str, tuple[str, dict[str, Any]]] = {
    "succeeds": (events.RUN_SUCCEEDED, {"result": 1}),
    "fails": (events.RUN_FAILED, {"error": ERROR}),
    "retries": (events.RUN_RETRIED, {"retries": 0}),
    "is ignored": (events.RUN_IGNORED, {"replaced": False}),
    "is replaced": (events.RUN_IGNORED, {"replaced": True}),
    "is rejected": (events.RUN_REJECTED, {"requeue": False}),
    "hits the soft limit": (events.RUN_TIMED_OUT, {"limit": "soft", "seconds": 2}),
}
MAINS: dict[str, tuple[str, dict[str, Any]]] = {
    "is lost": (events.RUN_LOST, {"reason": "signal 9 (SIGKILL)", "signal": "SIGKILL"}),
    "hit the hard limit": (events.RUN_TIMED_OUT, {"limit": "hard", "seconds": 3}),
    "was terminated": (events.RUN_CANCELLED, {"terminated": True, "signal": "SIGTERM"}),
    "was interrupted": (events.RUN_INTERRUPTED, {"how": "cold"}),
    "revoked": (events.RUN_CANCELLED, {"terminated": False}),
    "expired": (events.RUN_EXPIRED, {"expires": "2026-01-01T00:00:00"}),
}


class Case(NamedTuple):
    """A row of the table."""

    name: str
    steps: tuple[str, ...]
    state: str


def cases() -> list[Case]:
    """Return the rows of the page's table."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (\w+) \|$", PAGE.read_text(), re.MULTILINE)
    return [Case(name, tuple(steps.split(", ")), state) for name, steps, state in rows if name != "case"]


class Story:
    """Tells the steps of a case; each attempt has a process of its own on the same host."""

    def __init__(self) -> None:
        self.teller = Teller()
        self._shared = {name: self.teller.writer(name=name) for name in ("producer", "main", "shipper")}
        self._children: dict[str, Writer] = {}

    def tell(self, step: str) -> None:
        """Append the event of one step."""
        teller, main = self.teller, self._shared["main"]
        if step == "queued":
            facts: dict[str, Any] = {"task": "shop.import", "trigger": "api", "canvas": RUN, "retries": 0}
            teller.tell(self._shared["producer"], events.RUN_QUEUED, RUN, None, **facts)
        elif step == "step before fails":
            teller.end(main, events.RUN_FAILED, RUN, None, upstream="other", error=ERROR)
        elif step == "never heard of again":
            teller.tell(self._shared["shipper"], events.RUN_ABANDONED, RUN, None, by="shipper", reason="…")
        elif step.startswith("main: "):
            name, verb = _attempt_of(step.removeprefix("main: "))
            kind, data = MAINS[verb]
            teller.report(main, kind, RUN, pid=ord(name) if name else None, **data)
        elif step.startswith("shipper: "):
            name, verb = _attempt_of(step.removeprefix("shipper: "))
            assert verb == "is lost"
            gone = self._child(name)
            teller.lose(self._shared["shipper"], gone, RUN, name, gone.after)
        else:
            self._own(*_attempt_of(step))

    def _own(self, name: str, verb: str) -> None:
        child = self._child(name)
        if verb == "starts":
            self.teller.start(child, RUN, name, pid=ord(name), redelivered=name != "A")
        elif verb == "writes":
            facts: dict[str, Any] = {"level": 20, "stream": "log", "text": "alive", "i": 1, "o": 0}
            self.teller.tell(child, events.LOG_WRITTEN, RUN, name, **facts)
        else:
            kind, data = OWN[verb]
            self.teller.end(child, kind, RUN, name, **data)

    def _child(self, name: str) -> Writer:
        assert name, "the step names no attempt"
        return self._children.setdefault(name, self.teller.writer(JOURNALS[0]))


def _attempt_of(step: str) -> tuple[str, str]:
    found = re.fullmatch(r"([ABC]) (.+)", step)
    return (found[1], found[2]) if found else ("", step)


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_the_state_of_the_page_is_the_state_in_the_store(kept_store: Store, case: Case) -> None:
    story = Story()
    for step in case.steps:
        story.tell(step)

    told = story.teller.told
    batches: dict[str, list[list[tuple[str, Event]]]] = {
        "in one batch": [told],
        "one by one": [[one] for one in told],
        "backwards": [[one] for one in reversed(told)],
    }
    found = {}
    for how, parts in batches.items():
        shipper = Shipper(emptied(kept_store))
        assert [shipper.ship(part) for part in parts] == [0] * len(parts)
        found[how] = queries.get_run(kept_store, RUN).state

    assert found == dict.fromkeys(batches, case.state)


def test_the_page_has_every_state_that_events_can_give() -> None:
    told = {state.value for state in END_STATES.values()} | {"queued", "running", "abandoned"}

    assert {case.state for case in cases()} == told
    assert len({case.name for case in cases()}) == len(cases()) >= 18
