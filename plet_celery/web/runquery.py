"""The state of the list of runs, which is its address: what is asked for, read from a URL and written to one.

`state` `task` `worker` `queue` `tenant` `late` `q` `from` `to` `after` `before` `tz`. In `q`, `key:value`
names a filter (`state:failed task:shop.* meta.customer:acme`), and one further word is the beginning of an
id or of a task's name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from plet_celery.events import RunState
from plet_celery.store import queries
from plet_celery.web.moments import parse_time

BAD: Final = ("failed", "timed_out", "lost", "interrupted", "rejected")
ACTIVE: Final = ("running", "retrying")
TABS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("All", ()),
    ("Running", ACTIVE),
    ("Queued", ("queued",)),
    ("Failed", BAD),
    ("Succeeded", ("succeeded",)),
    ("Stopped", ("cancelled", "expired", "ignored", "abandoned")),
)
"""Word and states of each tab."""
_STATES: Final = frozenset(state.value for state in RunState)
_QUALIFIERS: Final = ("state", "task", "worker", "queue", "tenant")
_META: Final = "meta."
_KEY: Final = re.compile(r"[A-Za-z_][\w.-]*")


class Tab(NamedTuple):
    """One tab above the list."""

    word: str
    url: str
    is_current: bool
    only: str = ""
    """The states that are shown, where they are some of the tab's."""


@dataclass(frozen=True)
class RunQuery:
    """What the list shows."""

    states: tuple[str, ...] = ()
    task: str = ""
    worker: str = ""
    queue: str = ""
    tenant: str | None = None
    late: bool = False
    """Only what is late by a promise now."""
    text: str = ""
    """`q` as it was typed."""
    since: str = ""
    """`from` as it was typed."""
    until: str = ""
    after: str = ""
    before: str = ""
    lost_place: str = field(default="", compare=False)
    """What stood where the address names a place in the list, and is none: the newest page is shown."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What was asked for and makes no sense, in sentences."""

    @property
    def is_first(self) -> bool:
        """It is the newest page."""
        return not self.after and not self.before

    @property
    def is_filtered(self) -> bool:
        """Something is left out."""
        return replace(self, after="", before="") != RunQuery()

    @property
    def has_fields(self) -> bool:
        """A field below the search leaves something out."""
        some = (self.task, self.worker, self.queue, self.tenant, self.since, self.until, self.late)
        return any(some)

    def tabs(self) -> list[Tab]:
        """Return the tabs; the current one has what is shown, or some of it, or is one of its own."""
        shown = self.filters()["states"]
        # A `state:` among the words would hold whatever the tab says.
        words = _tokens(self.text)
        others = [one for one in words if not one.startswith("state:")]
        text = self.text if others == words else shlex.join(others)
        found = []
        for word, states in TABS:
            is_current = set(shown) <= set(states) if shown else not states
            only = _listed(shown) if is_current and set(shown) != set(states) else ""
            found.append(Tab(word, self.url(states=states, text=text), is_current, only))
        if not any(one.is_current for one in found):
            found.append(Tab(_listed(shown), self.url(), True))
        return found

    def url(self, **changes: Any) -> str:
        """Return the query string of this state with `changes`; beginning with `?`, without a cursor."""
        changed = replace(self, **({"after": "", "before": ""} | changes))
        given = {
            "state": ",".join(changed.states),
            "task": changed.task,
            "worker": changed.worker,
            "queue": changed.queue,
            "tenant": changed.tenant or "",
            "late": "1" if changed.late else "",
            "q": changed.text,
            "from": changed.since,
            "to": changed.until,
            "after": changed.after,
            "before": changed.before,
        }
        kept = {name: value for name, value in given.items() if value}
        return "?" + urlencode(kept, safe=":,*/") if kept else "?"

    def filters(self, zone: tzinfo = UTC) -> dict[str, Any]:
        """Return the arguments of `queries.list_runs` that this asks for."""
        found: dict[str, Any] = {
            "states": self.states,
            "task": self.task or None,
            "worker": self.worker or None,
            "queue": self.queue or None,
            "tenant": self.tenant,
            "since": parse_time(self.since, zone) if self.since else None,
            "until": parse_time(self.until, zone) if self.until else None,
        }
        qualified, meta, word = _split(self.text)
        for name, value in qualified.items():
            found["states" if name == "state" else name] = _states(value)[0] if name == "state" else value
        return found | {"meta": meta or None, "search": word or None}


def parse(given: Mapping[str, Sequence[str]], *, now: float | None = None, zone: tzinfo = UTC) -> RunQuery:
    """Return what the arguments of a URL ask for; what makes no sense is left out, and said.

    Args:
        now: to tell a time that is still to come.
        zone: of times that name none.
    """

    def one(name: str) -> str:
        return (given.get(name) or [""])[-1].strip()

    states, unknown = _states(",".join(given.get("state") or []))
    text, place = one("q"), one("after") or one("before")
    times = {name: one(name) for name in ("from", "to")}
    notes = [f"there is no state {name!r}" for name in unknown]
    notes += _said_of_times(times, now, zone) + _said_of_words(text)
    is_place = bool(place) and queries.is_cursor(place)
    return RunQuery(
        states=states,
        task=one("task"),
        worker=one("worker"),
        queue=one("queue"),
        tenant=one("tenant") or None,
        late=one("late") in ("1", "on"),
        text=text,
        since=times["from"] if parse_time(times["from"], zone) is not None else "",
        until=times["to"] if parse_time(times["to"], zone) is not None else "",
        after=place if is_place and one("after") else "",
        before=place if is_place and not one("after") else "",
        lost_place="" if is_place else place,
        notes=tuple(notes),
    )


def _said_of_times(times: Mapping[str, str], now: float | None, zone: tzinfo) -> list[str]:
    """Return what is odd about the times that were asked for."""
    found = {name: parse_time(text, zone) for name, text in times.items()}
    notes = [
        f"{text!r} is no time; write 2026-11-21T14:00Z"
        for name, text in times.items()
        if text and found[name] is None
    ]
    since, until = found["from"], found["to"]
    if since is not None and now is not None and since > now:
        notes.append(f"{times['from']!r} is still to come: nothing has happened after it")
    elif since is not None and until is not None and since >= until:
        notes.append(f"nothing lies from {times['from']!r} to {times['to']!r}: the first is the later one")
    return notes


def _states(text: str) -> tuple[tuple[str, ...], list[str]]:
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    known = tuple(dict.fromkeys(word for word in words if word in _STATES))
    return known, [word for word in words if word not in _STATES]


def _split(text: str) -> tuple[dict[str, str], dict[str, str], str]:
    """Return the qualifiers, the metadata and the word of `q`."""
    qualified: dict[str, str] = {}
    meta: dict[str, str] = {}
    words = []
    for token in _tokens(text):
        name, colon, value = token.partition(":")
        if colon and value and name in _QUALIFIERS:
            qualified[name] = value
        elif colon and name.startswith(_META) and len(name) > len(_META):
            meta[name[len(_META) :]] = value
        else:
            words.append(token)
    return qualified, meta, words[0] if words else ""


def _said_of_words(text: str) -> list[str]:
    """Return what is odd about the words of the search."""
    words, notes = [], []
    for token in _tokens(text):
        name, colon, value = token.partition(":")
        if name == "state" and value:
            notes += [f"there is no state {one!r}" for one in _states(value)[1]]
        elif colon and not value and (name in _QUALIFIERS or name.startswith(_META)):
            notes.append(f"{token!r} names nothing; write {name}:… without a space behind the colon")
        elif colon and _KEY.fullmatch(name) and name not in _QUALIFIERS and not name.startswith(_META):
            known = ", ".join(f"{one}:" for one in _QUALIFIERS)
            notes.append(
                f"there is no filter {name + ':'!r}, so the beginning of an id or a task's name is searched "
                f"for; there are {known} and meta.<key>:"
            )
        if name not in (*_QUALIFIERS, "") and not name.startswith(_META):
            words.append(token)
    if len(words) > 1:
        notes.append(f"only {words[0]!r} is searched for: an id or a task's name has one beginning")
    return notes


def _listed(states: Sequence[str]) -> str:
    return ", ".join(one.replace("_", " ") for one in states)


def _tokens(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a quote without its other half
        return text.split()
