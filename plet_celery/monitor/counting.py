"""How many ends kept promises, as a pass counts it: the newest hours, and some older ones in their turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy.engine import Connection

from plet_celery.objectives import P95, SuccessRate
from plet_celery.store import tallies
from plet_celery.store.promiserows import Promise
from plet_celery.store.promises import window_of
from plet_celery.store.schema import Tables
from plet_celery.store.tallies import HOUR, Counting, Tally

INTERVAL: Final = 30.0
"""Seconds between two passes, by which older hours take their turn; it need not be exact."""
TURNS: Final = 4
"""The newest hour is counted in every pass; in one of so many the one before it, in another an older one."""
LEFT_OUT: Final = 3 * HOUR
"""Seconds without a pass after which all is counted anew, and nothing that ended meanwhile is told of."""
FILLED_AT_ONCE: Final = 6
"""Hours that a pass counts for promises which are new."""


def count_ends(
    connection: Connection, tables: Tables, promises: Sequence[Promise], now: float
) -> dict[str, Any]:
    """Return the counts of a snapshot: `late`, `sums`, `tallies`, `filled`."""
    return _Counter(connection, tables, promises, now).counts()


def last_pass(promises: Sequence[Promise]) -> float:
    """Return about when the last pass was: some row is written in nearly each."""
    return max((one.memory.kept_at or 0.0 for one in promises), default=0.0)


class _Counter:
    """Counts for one pass."""

    def __init__(
        self, connection: Connection, tables: Tables, promises: Sequence[Promise], now: float
    ) -> None:
        self._connection = connection
        self._tables = tables
        self._promises = promises
        self._now = now
        self._last = last_pass(promises)
        self.found: dict[str, Any] = {}

    def counts(self) -> dict[str, Any]:
        countings = {
            one.id: counting
            for one in self._promises
            if (counting := tallies.counting_of(one.task, one.objective)) is not None
        }
        if not countings:
            return {}
        turn, step = divmod(int(self._now // INTERVAL), TURNS)
        newest = tallies.hour_of(self._now)
        live_from = min(newest - HOUR if step == 0 else newest, tallies.hour_of(self._last))
        live_from = max(live_from, newest - LEFT_OUT)
        counted = self._counted(countings, live_from, self._now)
        older = self._older(countings, live_from, turn if step == TURNS // 2 else None)
        hours = range(live_from, newest + HOUR, HOUR)
        before = tallies.stored(self._connection, self._tables, {*hours, *(hour for hour, _ in older)})
        live = {key: tally for key, tally in before.items() if key[0] in hours}
        self.found["late"] = self._late(countings, counted, live)
        self.found["sums"] = self._sums(countings, counted, live_from, older, before)
        found = {
            (hour, one): counted.get((hour, one), tallies.NOTHING) for hour in hours for one in countings
        }
        found |= older
        self.found["tallies"] = {
            key: tally for key, tally in found.items() if tally != before.get(key, tallies.NOTHING)
        }
        return self.found

    def _counted(
        self, countings: Mapping[str, Counting], since: float, until: float, span: int = HOUR
    ) -> dict[tuple[int, str], Tally]:
        return tallies.count(self._connection, self._tables, countings, since=since, until=until, span=span)

    def _late(
        self,
        countings: Mapping[str, Counting],
        counted: Mapping[tuple[int, str], Tally],
        before: Mapping[tuple[int, str], Tally],
    ) -> dict[str, int]:
        """Return how many more are late than at the last pass; nothing of promises it did not count."""
        now, then = _bad(counted), _bad(before)
        return {
            one.id: max(0, now.get(one.id, 0) - then.get(one.id, 0))
            for one in self._promises
            if one.id in countings and self._filled(one) is not None
        }

    def _sums(
        self,
        countings: Mapping[str, Counting],
        counted: Mapping[tuple[int, str], Tally],
        live_from: int,
        older: Mapping[tuple[int, str], Tally],
        before: Mapping[tuple[int, str], Tally],
    ) -> dict[str, Tally]:
        """Return what ended within the windows of shares; of more than the newest hours, in whole hours."""
        by_window: dict[float, dict[str, Counting]] = {}
        for one in (each for each in self._promises if isinstance(each.objective, (SuccessRate, P95))):
            window = window_of(one.objective)
            by_window.setdefault(window, {})[one.id] = countings[one.id]
        live: dict[str, Tally] = {}
        for (_, key), tally in counted.items():
            live[key] = live.get(key, tallies.NOTHING).plus(tally)
        sums: dict[str, Tally] = {}
        for window, some in by_window.items():
            since = self._now - window
            if window <= HOUR:
                found = self._counted(some, since, self._now, 0)
                sums |= {one: found.get((0, one), tallies.NOTHING) for one in some}
            else:
                old = tallies.summed(self._connection, self._tables, some, since=since, until=live_from)
                for (hour, key), tally in older.items():
                    if key in some and hour >= tallies.hour_of(since):
                        # In the place of what was kept of that hour.
                        kept = before.get((hour, key), tallies.NOTHING)
                        both = old.get(key, tallies.NOTHING).plus(tally)
                        old[key] = Tally(both.good - kept.good, both.bad - kept.bad)
                sums |= {
                    one: live.get(one, tallies.NOTHING).plus(old.get(one, tallies.NOTHING)) for one in some
                }
        return sums

    def _older(
        self, countings: Mapping[str, Counting], live_from: int, turn: int | None
    ) -> dict[tuple[int, str], Tally]:
        """Count an older hour that has its turn, and hours that new promises have not."""
        reach = {
            one.id: live_from - tallies.hour_of(self._now - window_of(one.objective))
            for one in self._promises
            if one.id in countings
        }
        oldest = live_from - max(0, *reach.values())
        found: dict[tuple[int, str], Tally] = {}
        turns = (live_from - oldest) // HOUR
        if turns and turn is not None:
            hour = live_from - HOUR * (1 + turn % turns)
            found |= self._hours(countings, hour, hour + HOUR)
        filled = {one.id: min(self._filled(one) or live_from, live_from) for one in self._promises}
        new = {one: at for one, at in filled.items() if one in countings and at > live_from - reach[one]}
        if new:
            end = max(new.values())
            begin = max(oldest, end - FILLED_AT_ONCE * HOUR)
            mine = {one: countings[one] for one in new}
            found |= self._hours(mine, begin, end)
            filled |= {one: min(at, begin) for one, at in new.items()}
        self.found["filled"] = {one: filled[one] for one in countings}
        return found

    def _filled(self, one: Promise) -> int | None:
        """Return from which hour on all are counted; None where passes have left out hours."""
        return one.memory.filled if self._now - self._last < LEFT_OUT else None

    def _hours(self, countings: Mapping[str, Counting], begin: int, end: int) -> dict[tuple[int, str], Tally]:
        counted = self._counted(countings, begin, end - 1)
        hours = range(begin, end, HOUR)
        return {(hour, one): counted.get((hour, one), tallies.NOTHING) for hour in hours for one in countings}


def _bad(tallied: Mapping[tuple[int, str], Tally]) -> dict[str, int]:
    found: dict[str, int] = {}
    for (_, one), tally in tallied.items():
        found[one] = found.get(one, 0) + tally.bad
    return found
