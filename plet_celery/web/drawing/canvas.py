"""All runs of one canvas as a tree: chains in their order, groups, chords, and what runs started.

Pure. A chain is a flat list of steps, however long; a chord is its header, a group, followed by its body.

How far the whole is: the mean of what stands at the top; of a group the mean of its members, unknown ones
counted as 0; of a chain what is done of its known steps and those to come. An ended run counts as done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from plet_celery.terminal.bars import in_order
from plet_celery.terminal.look import ENDS
from plet_celery.web.drawing.axis import moment
from plet_celery.web.drawing.canvas_links import CanvasRun, GroupKey, Key, Links, link
from plet_celery.web.drawing.drafts import BAD, attention, finite, words

ANCESTORS: Final = 100
_NEVER: Final = "will not run:"
_AGAIN: Final = frozenset({"lost", "interrupted"})
"""Ends that a redelivery re-opens."""


@dataclass(slots=True, eq=False)
class Step:
    """A run, a group, or the body of a chord that is not published yet."""

    kind: str
    """`run`, `group` or `body`."""
    run: CanvasRun | None = None
    units: list[Unit] = field(default_factory=list)
    """Members of a group; of a run what it started."""
    size: int = 0
    """Members of a group, the unknown ones too."""
    reason: str = ""
    """Why this body of a chord has not run."""
    feeds: str = ""
    """Id of the run that goes on when this group is done: it replaced itself by a chord."""
    fraction: float = 0.0
    state: str = ""

    is_header: bool = False
    """A chord's body waits for this group."""


@dataclass(slots=True, eq=False)
class Unit:
    """One thing in a list: a single run or group, or a chain of them."""

    steps: list[Step] = field(default_factory=list)
    to_come: int = 0
    """Steps of the chain that are not published yet."""
    fraction: float = 0.0
    state: str = ""
    """The state that deserves attention first, of its steps."""
    runs: int = 0
    """How many runs are in it, at any depth."""
    has_here: bool = False
    """The run that is looked at is in it."""

    @property
    def is_chain(self) -> bool:
        """Whether it is more than one step."""
        return len(self.steps) > 1 or self.to_come > 0


@dataclass(frozen=True)
class Canvas:
    """The tree, and where in it the run stands that is looked at."""

    units: list[Unit]
    here: str
    ancestors: tuple[CanvasRun, ...]
    """The runs around it, the outermost first: who started it, or the chain or group that it is in."""
    reason: str | None
    """If it is a chord's body that has not run: why."""
    fraction: float
    """How far the whole canvas is, 0..1."""
    states: dict[str, int]
    """How many runs are in which state."""
    reasons: dict[str, str]
    """Why the chord bodies have not run, by their ids; of those that are not published, too."""

    @property
    def size(self) -> int:
        """How many runs there are."""
        return sum(self.states.values())


def canvas(found: Iterable[CanvasRun], *, here: str = "") -> Canvas:
    """Return the tree of a canvas's runs.

    Args:
        found: all runs of the canvas that are known, in any order.
        here: id of the run that is looked at.
    """
    links = link(found)
    around = _around(links, here)
    tree = _Tree(links, around)
    for unit in reversed(tree.order):
        _finish(unit)
    units = tree.top
    runs = [links.runs[key] for key in reversed(around[1:]) if isinstance(key, str)]
    return Canvas(
        units=units,
        here=here,
        ancestors=tuple(runs[:ANCESTORS]),
        reason=tree.reasons.get(here),
        fraction=sum(unit.fraction for unit in units) / len(units) if units else 0.0,
        states=in_order(Counter(run.state for run in links.runs.values())),
        reasons=tree.reasons,
    )


def run_fraction(run: CanvasRun) -> float:
    """Return how much of a run is done, 0..1; an ended one counts as done."""
    if run.state in ENDS:
        return 1.0
    return min(1.0, max(0.0, (finite(run.percent) or 0.0) / 100))


def _around(links: Links, here: str) -> list[Key]:
    """Return the run, and from it outwards what it is in; steps before it are beside it."""
    if here not in links.runs:
        return []
    found: list[Key] = [here]
    place = links.places.get(here)
    while place is not None:
        if place.how in ("child", "member"):
            found.append(place.of)
        place = links.places.get(place.of)
    return found


class _Tree:
    """Puts the units together, without recursion: a run may start a run a thousand times in a row."""

    def __init__(self, links: Links, around: Sequence[Key]) -> None:
        self._links = links
        self._inner: dict[Key, list[Key]] = {}
        self._next: dict[Key, Key] = {}
        tops: list[Key] = []
        keys: list[Key] = [*links.runs, *links.groups]
        for key in keys:
            place = links.places.get(key)
            if place is None:
                tops.append(key)
            elif place.how in ("child", "member"):
                self._inner.setdefault(place.of, []).append(key)
            else:
                self._next[place.of] = key
        self._marked = set(around)
        self.reasons: dict[str, str] = {}
        self.order: list[Unit] = []
        self.top = [Unit() for _ in tops]
        waiting = list(zip(self.top, self._sorted(tops), strict=True))
        while waiting:
            unit, head = waiting.pop()
            self.order.append(unit)
            for step, key in self._steps(unit, head):
                if key in self._inner:
                    inner = self._sorted(self._inner[key])
                    step.units = [Unit() for _ in inner]
                    waiting.extend(zip(step.units, inner, strict=True))

    def _sorted(self, keys: list[Key]) -> list[Key]:
        return sorted(keys, key=self._place) if len(keys) > 1 else keys

    def _place(self, key: Key) -> tuple[float, float, str]:
        """Order of what stands beside each other: by index in a group, else by when it was published."""
        if isinstance(key, str):
            run = self._links.runs[key]
            index = finite(run.group_index)
            at = moment(run.queued_at) or moment(run.started_at) or 0.0
            return (index if index is not None else -1.0, at, run.id)
        first = self._links.runs[self._links.groups[key][0]]
        return (-1.0, moment(first.queued_at) or 0.0, first.id)

    def _steps(self, unit: Unit, head: Key) -> Iterator[tuple[Step, Key]]:
        """Fill a unit's steps; yield each with its key."""
        at: Key | None = head
        left = 0
        while at is not None:
            unit.has_here = unit.has_here or at in self._marked
            step = self._step(at)
            unit.steps.append(step)
            yield step, at
            if isinstance(at, str):
                left = max(0, int(finite(self._links.runs[at].chain_left) or 0))
            else:
                left = max(0, left - 1)
            following = self._next.get(at)
            if following is None and isinstance(at, GroupKey) and self._is_open(at):
                reason = self._reason(at)
                self.reasons[at.chord or ""] = reason
                state = "skipped" if reason.startswith(_NEVER) else "planned"
                unit.steps.append(Step("body", reason=reason, state=state))
            at = following
        unit.to_come = left

    def _step(self, key: Key) -> Step:
        if isinstance(key, str):
            run = self._links.runs[key]
            step = Step("run", run, state=run.state)
            place = self._links.places.get(key)
            if place is not None and place.how == "body" and moment(run.started_at) is None:
                assert isinstance(place.of, GroupKey)
                step.reason = self.reasons[key] = self._reason(place.of)
            return step
        members = self._links.groups[key]
        highest = max(finite(self._links.runs[one].group_index) or 0.0 for one in members)
        step = Step("group", size=max(len(members), min(int(highest) + 1, 1_000_000)))
        step.is_header = key.chord is not None
        body = self._links.runs.get(key.chord or "")
        if body is not None and self._next.get(key) is None:
            step.feeds = body.id
            if body.state not in ENDS:
                self.reasons[body.id] = self._reason(key)
        return step

    def _is_open(self, key: GroupKey) -> bool:
        """Whether a chord's body is still to be published."""
        return key.chord is not None and key.chord not in self._links.runs

    def _reason(self, key: GroupKey) -> str:
        """Return what the body of a chord waits for."""
        runs = [self._links.runs[one] for one in self._links.groups[key]]
        for run in runs:
            if run.state in BAD or run.state == "ignored":
                name = f"{words(run.task, 80)} {words(run.short_id, 40)}"
                if run.state in _AGAIN:
                    return f"will not run unless header member {name}, {run.state}, runs again"
                verb = "failed" if run.state == "failed" else f"is {run.state.replace('_', ' ')}"
                return f"{_NEVER} header member {name} {verb}"
        waiting = in_order(Counter(run.state for run in runs if run.state != "succeeded"))
        many = sum(waiting.values())
        if not many:
            return f"is to be published: all {len(runs)} header runs have succeeded"
        how = ", ".join(f"{count} {words(state, 20)}" for state, count in waiting.items())
        return f"waits for {many} of {len(runs)} header runs ({how})"


def _finish(unit: Unit) -> None:
    """Sum up a unit whose inner units are summed up."""
    step = unit.steps[0]
    if len(unit.steps) == 1 and step.run is not None and not step.units and not unit.to_come:
        unit.fraction, unit.state, unit.runs = run_fraction(step.run), step.state, 1
        return
    states: dict[str, int] = {}
    for number, step in enumerate(unit.steps):
        if step.run is not None and step.run.state == "succeeded":
            for one in step.units:
                _close(one)
        inner = sum(one.fraction for one in step.units)
        if step.kind == "group":
            behind = unit.steps[number + 1] if number + 1 < len(unit.steps) else None
            has_run = behind is not None and behind.run is not None and not behind.reason
            step.fraction = 1.0 if has_run and step.is_header else inner / max(1, step.size, len(step.units))
            step.state = attention(Counter(one.state for one in step.units))
        elif step.run is not None:
            step.fraction = (run_fraction(step.run) + inner) / (1 + len(step.units))
            unit.runs += 1
        states[step.state] = states.get(step.state, 0) + 1
        unit.runs += sum(one.runs for one in step.units)
    unit.fraction = sum(step.fraction for step in unit.steps) / (len(unit.steps) + unit.to_come)
    state = attention(states)
    # Between two steps nothing runs, and still the chain is on its way.
    unit.state = "running" if state == "planned" or (state == "succeeded" and unit.to_come) else state


def _close(unit: Unit) -> None:
    """End a chain whose last step was the run that replaced itself by it."""
    if unit.to_come and unit.state == "running" and all(step.state == "succeeded" for step in unit.steps):
        unit.to_come, unit.state = 0, "succeeded"
        unit.fraction = sum(step.fraction for step in unit.steps) / len(unit.steps)
