"""The tree of a canvas as the template walks it: one line after the other, with many alike folded.

Pure. A list of more than FOLD units is folded by task (in a canvas of MANY runs, of more than FEW); what
failed stays in sight, and so does the way to the run that is looked at. Of a long chain the middle is folded.
Lists deeper than DEPTH stand beside the one that they are in: browsers end at 512. After LINES lines the rest
is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from plet_celery.terminal.bars import in_order
from plet_celery.terminal.look import ENDS
from plet_celery.web.drawing.axis import moment
from plet_celery.web.drawing.canvas import Canvas, Step, Unit
from plet_celery.web.drawing.drafts import BAD, NOTABLE, attention, finite, note_of, words

FOLD: Final = 20
"""Longer lists are folded."""
FEW: Final = 5
MANY: Final = 400
DEPTH: Final = 8
LINES: Final = 600
STEPS: Final = 40
"""Steps of a chain that are shown in any case: half from either end."""
_ENTRIES: Final = 60
"""Most tasks of one list that have a line of their own."""
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Line:
    """What the template writes next."""

    kind: str
    """`run`, `group`, `body`, `chain`, `fold`, `rest`: an item begins; `end`: it ends.
    `open`, `close`: a list in it begins, ends."""
    name: str = ""
    state: str = ""
    run_id: str = ""
    short_id: str = ""
    is_here: bool = False
    fraction: float | None = None
    seconds: float | None = None
    since: float | None = None
    note: str = ""
    """Why it failed."""
    reason: str = ""
    """Why a chord's body has not run."""
    detail: str = ""
    size: int = 0
    runs: int = 0
    """How many runs a fold stands for, those shown in it too."""
    states: dict[str, int] = field(default_factory=dict)
    p50: float | None = None
    longest: float | None = None
    holds: str = ""
    """Of `open` and `close`: `steps` (in an order), `members`, `started` or `shown`."""
    is_open: bool = False


@dataclass(slots=True)
class _Fold:
    name: str
    units: list[Unit]
    shown: list[Unit]


_Entry = Line | tuple[Unit | _Fold, int]
"""A line, or what stands at a depth and becomes lines."""
_END: Final = Line("end")


def lines(tree: Canvas) -> list[Line]:
    """Return the tree's lines, outermost first."""
    return _View(tree).lines


class _View:
    """Walks the tree without recursion: what is still to be written lies on a stack."""

    def __init__(self, tree: Canvas) -> None:
        self._here = tree.here
        self._fold = FOLD if tree.size <= MANY else FEW
        self._waiting: list[_Entry] = []
        self.lines: list[Line] = []
        left: list[Unit] = []
        self._waiting.extend((entry, 1) for entry in reversed(self._entries(tree.units)))
        while self._waiting:
            at = self._waiting.pop()
            if isinstance(at, Line):
                self.lines.append(at)
            elif len(self.lines) < LINES:
                self._write(*at)
            elif isinstance(at[0], Unit):
                left.append(at[0])
        if left:
            self.lines += [_fold_line(_Fold("further runs", left, [])), _END]

    def _write(self, entry: Unit | _Fold, depth: int) -> None:
        inner: list[_Entry]
        if isinstance(entry, _Fold):
            line, inner = _fold_line(entry), self._list("shown", entry.shown, depth)
        elif entry.is_chain:
            line, inner = _chain_line(entry), self._chain(entry, depth)
        else:
            step = entry.steps[0]
            line, inner = _step_line(step, self._here), self._inner(step, depth)
        self.lines.append(line)
        self._waiting.extend(reversed(_ended(inner, depth)))

    def _list(self, holds: str, units: Sequence[Unit], depth: int) -> list[_Entry]:
        if not units:
            return []
        entries: list[_Entry] = [(one, min(depth + 1, DEPTH)) for one in self._entries(units)]
        if depth >= DEPTH:
            return entries
        size = sum(unit.runs for unit in units)
        is_open = any(unit.has_here for unit in units) or (depth <= 2 and len(entries) <= FOLD)
        return [Line("open", holds=holds, size=size, is_open=is_open), *entries, Line("close", holds=holds)]

    def _chain(self, unit: Unit, depth: int) -> list[_Entry]:
        """Return a chain's steps, each with what is in it."""
        found: list[_Entry] = []
        hidden: list[Step] = []
        for number, step in enumerate(unit.steps):
            is_middle = STEPS // 2 <= number < len(unit.steps) - STEPS // 2
            if is_middle and step.state == "succeeded" and not self._is_around(step):
                hidden.append(step)
                continue
            found += [*_hidden(hidden), _step_line(step, self._here)]
            hidden = []
            found += _ended(self._inner(step, depth + 1), depth + 1)
        if unit.to_come:
            state = "skipped" if unit.state in BAD else "planned"
            found += [Line("rest", size=unit.to_come, state=state), _END]
        if depth >= DEPTH:
            return found
        return [Line("open", holds="steps", is_open=True), *found, Line("close", holds="steps")]

    def _is_around(self, step: Step) -> bool:
        is_here = step.run is not None and step.run.id == self._here
        return is_here or any(unit.has_here for unit in step.units)

    def _inner(self, step: Step, depth: int) -> list[_Entry]:
        return self._list("members" if step.kind == "group" else "started", step.units, depth)

    def _entries(self, units: Sequence[Unit]) -> list[Unit | _Fold]:
        """Return the units, folded by task if they are many."""
        if len(units) <= self._fold:
            return list(units)
        alike: dict[str, list[Unit]] = {}
        for unit in units:
            alike.setdefault(_name(unit), []).append(unit)
        found: list[Unit | _Fold] = []
        others: list[Unit] = []
        for name, members in alike.items():
            if len(found) >= _ENTRIES:
                others += members
            elif len(members) == 1:
                found.append(members[0])
            else:
                found.append(_Fold(name, members, _shown(members)))
        return [*found, _Fold("other runs", others, _shown(others))] if others else found


def _ended(inner: list[_Entry], depth: int) -> list[_Entry]:
    """Return what is in an item and its end: before what is in it, where that is too deep."""
    return [*inner, _END] if depth < DEPTH else [_END, *inner]


def _hidden(steps: list[Step]) -> list[_Entry]:
    if not steps:
        return []
    return [_fold_line(_Fold("further steps", [_alone(step) for step in steps], [])), _END]


def _alone(step: Step) -> Unit:
    """Return a step as a unit of its own."""
    runs = sum(unit.runs for unit in step.units) + (step.run is not None)
    return Unit([step], state=step.state, runs=runs)


def _shown(units: Sequence[Unit]) -> list[Unit]:
    """Return those of a fold that stay in sight."""
    here = [unit for unit in units if unit.has_here]
    bad = [unit for unit in units if unit.state in BAD and not unit.has_here]
    return here + bad[:NOTABLE]


def _name(unit: Unit) -> str:
    names = [_step_name(step) for step in unit.steps[:_NAMED]]
    return " → ".join(names) + (" → …" if len(unit.steps) > _NAMED or unit.to_come else "")


def _step_name(step: Step) -> str:
    if step.run is not None:
        return words(step.run.task or "(unknown task)", 120)
    return "group" if step.kind == "group" else "body"


def _step_line(step: Step, here: str) -> Line:
    if step.kind == "group":
        known = len(step.units)
        return Line(
            "group",
            name="chord" if step.is_header else "group",
            state=step.state,
            size=max(step.size, known),
            states=_states(step.units),
            fraction=step.fraction if step.fraction < 1 else None,
            detail=f"{step.size - known} not seen yet" if step.size > known and step.fraction < 1 else "",
        )
    run = step.run
    if run is None:
        return Line("body", name="body of the chord", state=step.state, reason=step.reason)
    started = moment(run.started_at)
    is_open = run.state not in ENDS
    percent = finite(run.percent)
    return Line(
        "run",
        name=_step_name(step),
        state=run.state,
        run_id=run.id,
        short_id=words(run.short_id, 40),
        is_here=run.id == here,
        fraction=min(1.0, max(0.0, percent / 100)) if is_open and percent is not None else None,
        seconds=None if is_open else _seconds(step),
        since=(started or moment(run.queued_at)) if is_open else None,
        note=_error(run.error) if run.state in BAD else "",
        reason=step.reason,
        detail=f"{run.attempts} attempts" if run.attempts > 1 else "",
    )


def _chain_line(unit: Unit) -> Line:
    is_open = unit.state in ("queued", "running", "retrying")
    return Line(
        "chain",
        name="chain" if any(step.kind == "run" for step in unit.steps[:1]) else "chord",
        state=unit.state,
        size=len(unit.steps) + unit.to_come,
        fraction=unit.fraction if is_open else None,
    )


def _fold_line(fold: _Fold) -> Line:
    lengths = [length for unit in fold.units if (length := _length(unit)) is not None]
    states = _states(fold.units)
    runs = sum(unit.runs for unit in fold.units)
    return Line(
        "fold",
        name=fold.name,
        state=attention(states),
        size=len(fold.units),
        states=states,
        p50=median(lengths) if lengths else None,
        longest=max(lengths, default=None),
        runs=runs,
        detail=f"{runs} runs" if runs > len(fold.units) else "",
    )


def _states(units: Sequence[Unit]) -> dict[str, int]:
    """Return how many units are in which state."""
    return in_order(Counter(unit.state for unit in units))


def _length(unit: Unit) -> float | None:
    """Return how long a unit took, of those that have ended."""
    if unit.state not in ENDS:
        return None
    if len(unit.steps) == 1:
        return _seconds(unit.steps[0])
    starts = [at for step in unit.steps if step.run and (at := moment(step.run.started_at)) is not None]
    ends = [at for step in unit.steps if step.run and (at := moment(step.run.ended_at)) is not None]
    return max(0.0, max(ends) - min(starts)) if starts and ends else None


def _seconds(step: Step) -> float | None:
    if step.run is None:
        return None
    took = moment(step.run.runtime)
    if took is not None and took >= 0:
        return took
    start, end = moment(step.run.started_at), moment(step.run.ended_at)
    return max(0.0, end - start) if start is not None and end is not None else None


def _error(error: object) -> str:
    return words(error) if isinstance(error, str) else note_of(error)
