"""What stands where in a canvas: which run follows which, is in which group, or was started by which.

Pure. A message tells little (docs/events.md): the group's id and index, the id of the chord's body, how many
steps of its chain are left, who published it. The rest is concluded here:

* The step after a run is what it published last, once it had succeeded and had steps left.
* Of a chain in a group only the last step knows the group; the whole chain is the member.
* The body of a chord is the run with that id, or a group: the one with that id, or one that has the header's
  id and was published by a header member.
* A run that replaced itself by a chord is the body of its own child runs, and stays where it was.

Ids come from messages and may be anything: every run has one place, and no place is inside itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple, Protocol

from plet_celery.web.drawing.axis import moment


class CanvasRun(Protocol):
    """What a run says of its place in a canvas, and how it is going."""

    @property
    def id(self) -> str: ...
    @property
    def short_id(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def percent(self) -> float | None: ...
    @property
    def parent_id(self) -> str | None: ...
    @property
    def group_id(self) -> str | None: ...
    @property
    def group_index(self) -> int | None: ...
    @property
    def chord(self) -> str | None:
        """Id of the chord body that this header member feeds."""

    @property
    def chain_left(self) -> int | None:
        """Steps of its chain still to come."""

    @property
    def queued_at(self) -> float | None: ...
    @property
    def started_at(self) -> float | None: ...
    @property
    def ended_at(self) -> float | None: ...
    @property
    def runtime(self) -> float | None: ...
    @property
    def attempts(self) -> int: ...
    @property
    def error(self) -> object:
        """`type` and `message` of a mapping, or a text; None."""


class GroupKey(NamedTuple):
    """A group: header and body of a chord can be groups with one id."""

    group_id: str | None
    chord: str | None


Key = str | GroupKey
"""A run by its id, or a group."""


class Place(NamedTuple):
    """Where something stands."""

    how: Literal["after", "member", "body", "child"]
    """The step after it, a member of it, what it feeds, or started by it."""
    of: Key


class Links(NamedTuple):
    """The places of everything that has one; what has none stands at the top."""

    runs: dict[str, CanvasRun]
    groups: dict[GroupKey, list[str]]
    """The last steps of the members, that is the runs which know their group."""
    places: dict[Key, Place]


_FIRST: Final = float("-inf")


def link(found: Iterable[CanvasRun]) -> Links:
    """Return where each run and each group stands. An id that comes twice counts once, the first."""
    runs: dict[str, CanvasRun] = {}
    for run in found:
        runs.setdefault(run.id, run)
    groups: dict[GroupKey, list[str]] = {}
    for run in runs.values():
        if run.group_index is not None and (run.group_id or run.chord):
            groups.setdefault(GroupKey(run.group_id, run.chord), []).append(run.id)
    published: dict[str, list[CanvasRun]] = {}
    for run in runs.values():
        if run.parent_id in runs and run.parent_id != run.id:
            published.setdefault(run.parent_id, []).append(run)
    units, after = _steps(runs, published)
    places: dict[Key, Place] = {}
    fallback: dict[Key, Place] = {}
    for run in runs.values():
        if run.parent_id in runs and run.parent_id != run.id:
            fallback[run.id] = places[run.id] = Place("child", run.parent_id)
        if run.id not in after and units[run.id] is not None:
            places[run.id] = Place("member", units[run.id] or GroupKey(None, None))
    heads = _heads(groups, after)
    for key, members in heads.items():
        parents = [runs[one].parent_id for one in members]
        parent = next((one for one in parents if one in runs and one not in members), None)
        if parent is not None:
            fallback[key] = places[key] = Place("child", parent)
    places.update({key: Place("after", of) for key, of in after.items()})
    places.update({key: Place("body", of) for key, of in _bodies(runs, groups, heads).items()})
    _break_cycles([*runs, *groups], places, fallback)
    return Links(runs, groups, places)


def _steps(
    runs: dict[str, CanvasRun], published: dict[str, list[CanvasRun]]
) -> tuple[dict[str, GroupKey | None], dict[Key, str]]:
    """Return the group of each run's chain, and what follows which run."""
    units: dict[str, GroupKey | None] = {}
    for run in runs.values():
        knows = run.group_index is not None and (run.group_id or run.chord)
        units[run.id] = GroupKey(run.group_id, run.chord) if knows else None
    after: dict[Key, str] = {}
    # What was published last first: what follows a run knows whether it ends in a group.
    for run in _youngest_first(runs, published):
        if not run.chain_left or run.state != "succeeded" or run.id not in published:
            continue
        step = _step(run, run.chain_left, published[run.id], units)
        if step is None or step in after:
            continue
        after[step] = run.id
        if isinstance(step, str) and units[run.id] is None:
            units[run.id] = units[step]
    return units, after


def _youngest_first(runs: dict[str, CanvasRun], published: dict[str, list[CanvasRun]]) -> list[CanvasRun]:
    """Return the runs, each after all that it published; those that publish each other anywhere."""
    below = {one.id for many in published.values() for one in many}
    ordered: dict[str, CanvasRun] = {}
    waiting = [run for run in runs.values() if run.id not in below]
    while waiting:
        run = waiting.pop()
        ordered[run.id] = run
        waiting.extend(published.get(run.id, ()))
    return [*(run for run in runs.values() if run.id not in ordered), *reversed(ordered.values())]


def _step(
    run: CanvasRun, left: int, published: Sequence[CanvasRun], units: dict[str, GroupKey | None]
) -> Key | None:
    """Return what follows a run that has succeeded."""
    sizes: dict[GroupKey, int] = {}
    for one in published:
        unit = units[one.id]
        if unit is not None:
            sizes[unit] = sizes.get(unit, 0) + 1
    best: tuple[float, Key] | None = None
    for one in published:
        unit = units[one.id]
        key: Key
        if unit is not None and (sizes[unit] > 1 or (one.chain_left or 0) != left - 1):
            key = unit
        elif (one.chain_left or 0) == left - 1:
            key = one.id
        else:
            continue
        at = _published_at(one)
        if best is None or at > best[0]:
            best = (at, key)
    return best[1] if best is not None else None


def _heads(groups: dict[GroupKey, list[str]], after: dict[Key, str]) -> dict[GroupKey, list[str]]:
    """Return the first steps of each group's members."""
    head: dict[str, str] = {}
    for members in groups.values():
        for member in members:
            path = [member]
            # It ends: the steps that are left grow with each.
            while path[-1] in after and path[-1] not in head:
                path.append(after[path[-1]])
            first = head.get(path[-1], path[-1])
            head.update(dict.fromkeys(path, first))
    return {key: [head[member] for member in members] for key, members in groups.items()}


def _bodies(
    runs: dict[str, CanvasRun], groups: dict[GroupKey, list[str]], heads: dict[GroupKey, list[str]]
) -> dict[Key, GroupKey]:
    """Return what each chord's header feeds, as far as it was published."""
    by_id: dict[str | None, GroupKey] = {}
    member_of: dict[str, GroupKey] = {}
    for key, members in groups.items():
        by_id.setdefault(key.group_id, key)
        member_of.update(dict.fromkeys(members, key))
    found: dict[Key, GroupKey] = {}
    served: set[GroupKey] = set()

    def feed(body: Key, header: GroupKey) -> None:
        # One body for a header, and the other way round, whatever the messages say.
        if body not in found and header not in served:
            found[body] = header
            served.add(header)

    for key in groups:
        if key.chord in runs:
            feed(key.chord, key)
        elif key.chord is not None and key.chord in by_id:
            feed(by_id[key.chord], key)
    for key, members in heads.items():
        parent = runs[members[0]].parent_id
        header = member_of.get(parent) if parent is not None else None
        if header is not None and header != key and header.chord and header.group_id == key.group_id:
            feed(key, header)
    return found


def _break_cycles(keys: Sequence[Key], places: dict[Key, Place], fallback: dict[Key, Place]) -> None:
    """Move what is inside itself to where it was published, or to the top."""
    sound: set[Key] = set()
    for key in keys:
        path: dict[Key, None] = {}
        at: Key | None = key
        while at is not None and at not in sound:
            if at in path:
                _break(list(path)[list(path).index(at) :], places, fallback)
                path, at = {}, key
                continue
            path[at] = None
            place = places.get(at)
            at = place.of if place is not None else None
        sound.update(path)


def _break(cycle: Sequence[Key], places: dict[Key, Place], fallback: dict[Key, Place]) -> None:
    # A body inside its own chord is a run that replaced itself: what it published is the chord.
    victim = next((key for key in cycle if places[key].how == "body"), cycle[0])
    instead = fallback.pop(victim, None)
    if instead is None or instead == places[victim]:
        del places[victim]
    else:
        places[victim] = instead


def _published_at(run: CanvasRun) -> float:
    for at in (run.queued_at, run.started_at):
        known = moment(at)
        if known is not None:
            return known
    return _FIRST
