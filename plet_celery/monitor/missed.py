"""Which periodic tasks did not run when they were due: a pure function of timetable and newest runs.

A task that has never run says nothing: it may have no record, or beat was never started, which its check
says. So does one that is not recorded, or of whose runs only a share is. And before an entry was first seen
in the timetable, as it is now, nothing was due by it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from plet_celery.monitor.rules import said
from plet_celery.monitor.schedule import Calendar, clock
from plet_celery.rulebook import Rulebook
from plet_celery.terminal.text import span
from plet_celery.watchfacts import Judgement, Verdict

GRACE_SECONDS: Final = 60.0
"""A run that begins so long after its time is none that was missed."""
EARLY_SECONDS: Final = 5.0
"""By so much the clock of beat's host may be ahead."""
COUNT_MAX: Final = 1000
FORGOTTEN_SECONDS: Final = 86_400.0
"""An entry that was in no timetable for so long, while passes went on, is new when it comes back."""
_NAMED: Final = 3
_ID_LENGTH: Final = 12

Known = Mapping[str, tuple[float, float]]
"""By entry, when it was first and last seen in a timetable."""


def entry_id(entry: Mapping[str, Any]) -> str:
    """Return what names an entry as it is: at other times it is another one."""
    text = json.dumps(sorted(entry.items()))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_ID_LENGTH]


def known_entries(before: Known | None, timetable: Iterable[Mapping[str, Any]], now: float) -> Known:
    """Return the entries that are known now.

    Args:
        before: what the last pass knew; None: no pass kept that yet, so how new an entry is cannot be told.
    """
    old = before if before is not None else {}
    newest = max((last for _, last in old.values()), default=now)
    first = now if before is not None else 0.0
    found = {one: seen for one, seen in old.items() if seen[1] >= newest - FORGOTTEN_SECONDS}
    for entry in timetable:
        one = entry_id(entry)
        found[one] = (min(found[one][0] if one in found else first, now), now)
    return found


def judge(
    timetable: Iterable[Mapping[str, Any]],
    newest: Mapping[str, float],
    book: Rulebook,
    *,
    now: float,
    known: Known | None = None,
) -> list[Judgement]:
    """Return one judgement for each task that has run and is due by the timetable.

    Args:
        timetable: as `timetables.timetable_of` gives it.
        newest: when the newest run of each task was created, seconds since the epoch.
        known: since when there is each entry, by `entry_id`; None: since ever.
    """
    rule = book.of("missed_schedule")
    if rule is None or not rule.is_on:
        return []
    by_task: dict[str, list[tuple[str, float, int]]] = {}
    for entry in timetable:
        task = str(entry["task"])
        if task in newest:
            since = (known or {}).get(entry_id(entry), (0.0, now))[0]
            due = _overdue(entry, max(newest[task], since), now)
            by_task.setdefault(task, []).extend([(str(entry["name"]), *due)] if due is not None else [])
    found = []
    for task, some in sorted(by_task.items()):
        ran = f"last run {span(max(0.0, now - newest[task]), whole=True)} ago"
        count = max((times for _, _, times in some), default=0)
        words: dict[str, Any] = {"value": ran}
        if some:
            names = ", ".join(name for name, _, _ in some[:_NAMED])
            words = {
                "value": f"{ran}, was due {count if count < COUNT_MAX else f'{count}+'} times since",
                "since": min(at for _, at, _ in some),
                "affected": f"what {task} is to do",
                "advice": "is celery beat running, and a worker on the queue that the task goes to?",
                "limit": f"in the schedule: {names}; {GRACE_SECONDS:.0f} s of grace",
            }
        verdict = Verdict.BROKEN if some else Verdict.KEPT
        found.append(said(rule, task, verdict, task=task, count=count, **words))
    return found


def _overdue(entry: Mapping[str, Any], ran: float, now: float) -> tuple[float, int] | None:
    """Return the first time that was missed since the task ran, or its entry came, and how many there are."""
    if "every" in entry:
        every = float(entry["every"])
        # Beat counts from when it last sent, and it looks at most so often.
        first, late = ran + every, now - GRACE_SECONDS - ran - every
        return (first, min(COUNT_MAX, 1 + int(late // every))) if late > every else None
    calendar = Calendar(str(entry["crontab"]), str(entry["zone"]))
    missed = calendar.between(ran + EARLY_SECONDS, now - GRACE_SECONDS, limit=COUNT_MAX)
    # Celery's beat passes over an hour that comes a second time.
    missed = [at for at in missed if not clock(at, calendar.zone).fold]
    return (missed[0], len(missed)) if missed else None
