"""Whether the store's clock can be trusted to say what is old, and who may prune now.

A clock that jumped a year ahead would make everything old at once. So the passes leave behind what
time it was; one that finds itself far ahead of the one before waits for a day before it removes
anything, and says so. Both facts lie in the table `info`, in rows of their own.
"""

from __future__ import annotations

from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from plet_celery.store import bulk
from plet_celery.store.removal import now_of
from plet_celery.store.settle import DAY
from plet_celery.store.store import Store

JUMP_SECONDS: Final = 2 * DAY
"""A weekend without a shipper is no jump."""
WAIT_SECONDS: Final = DAY
"""How long a new time must have held."""
SKEW_SECONDS: Final = 3600.0
"""The store and the host that prunes must not differ by more."""
CLAIM_SECONDS: Final = 600.0

_CLOCK: Final = "prune_clock"
_CLAIM: Final = "prune_claim"


class _Clock(msgspec.Struct, omit_defaults=True):
    seen: float
    """The store's time at the last pass."""
    jumped_from: float | None = None
    jumped_at: float | None = None


class _Claim(msgspec.Struct):
    holder: str
    until: float


def check(store: Store, *, wall: float, trust: bool = False, note: bool = True) -> str | None:
    """Return why nothing should be removed now, or None.

    Args:
        wall: this host's time.
        trust: a person says that the clocks are right.
        note: leave behind what time it is; a dry run does not.
    """
    with store.writing() if note else store.reading() as connection:
        now = now_of(connection)
        text = _get(connection, store, _CLOCK, lock=note)
        before = msgspec.json.decode(text, type=_Clock) if text is not None else _Clock(now)
        after = _Clock(now) if trust else _watched(before, now)
        if note:
            _set(connection, store, _CLOCK, msgspec.json.encode(after).decode(), is_new=text is None)
        newest = connection.execute(sa.select(sa.func.max(store.tables.journal.c.as_of))).scalar()
    if trust:
        return None
    return _reason(after, now, wall, newest)


def seconds_since_last(store: Store) -> float | None:
    """Return how long ago the last pass was, by the store's clock; None when there was none."""
    with store.reading() as connection:
        text = _get(connection, store, _CLOCK, lock=False)
        if text is None:
            return None
        return now_of(connection) - msgspec.json.decode(text, type=_Clock).seen


def last_look(store: Store) -> tuple[float | None, float | None]:
    """Return when the last pass was, by the store's clock, and since when a jump of it holds removal up."""
    with store.reading() as connection:
        text = _get(connection, store, _CLOCK, lock=False)
    if text is None:
        return None, None
    found = msgspec.json.decode(text, type=_Clock)
    return found.seen, found.jumped_at


def claim(store: Store, holder: str) -> bool:
    """Take the right to prune for some minutes; False while somebody else has it."""
    try:
        with store.writing() as connection:
            now = now_of(connection)
            text = _get(connection, store, _CLAIM, lock=True)
            held = msgspec.json.decode(text, type=_Claim) if text is not None else None
            # A claim further ahead than any is made was left by a clock that has been put back since.
            if held is not None and held.holder != holder and now < held.until <= now + CLAIM_SECONDS:
                return False
            mine = msgspec.json.encode(_Claim(holder, now + CLAIM_SECONDS)).decode()
            _set(connection, store, _CLAIM, mine, is_new=text is None)
    except IntegrityError:
        return False  # another one was first
    return True


def release(store: Store, holder: str) -> None:
    """Give the right back."""
    with store.writing() as connection:
        text = _get(connection, store, _CLAIM, lock=True)
        if text is not None and msgspec.json.decode(text, type=_Claim).holder == holder:
            bulk.delete(connection, store.tables.info, [(_CLAIM,)])


def _watched(before: _Clock, now: float) -> _Clock:
    if before.jumped_from is not None and before.jumped_at is not None:
        is_back = now - before.jumped_from < JUMP_SECONDS
        if is_back or now - before.jumped_at >= WAIT_SECONDS:
            # Put right, or it has held: but a second jump meanwhile begins anew.
            return (
                _Clock(now) if is_back or now - before.seen < JUMP_SECONDS else _Clock(now, before.seen, now)
            )
        return _Clock(now, before.jumped_from, before.jumped_at)
    if now - before.seen >= JUMP_SECONDS:
        return _Clock(now, before.seen, now)
    return _Clock(now)


def _reason(clock: _Clock, now: float, wall: float, newest: float | None) -> str | None:
    if clock.jumped_from is not None and clock.jumped_at is not None:
        return (
            f"the store's clock is {_days(now - clock.jumped_from)} ahead of the last look at it; nothing is "
            f"removed until it has held for {_hours(WAIT_SECONDS)} ({_hours(now - clock.jumped_at)} so far); "
            "if it is right: prune --trust-clock"
        )
    if abs(now - wall) > SKEW_SECONDS:
        return (
            f"the store's clock and this host's differ by {_days(abs(now - wall))}; set one of them right, "
            "or: prune --trust-clock"
        )
    if newest is not None and newest - now > DAY:
        return (
            f"the newest event is {_days(newest - now)} ahead of the store's clock; set the clock right, "
            "or: prune --trust-clock"
        )
    return None


def _get(connection: Connection, store: Store, name: str, *, lock: bool) -> str | None:
    for _, value in bulk.fetch(connection, store.tables.info, [(name,)], lock=lock):
        return str(value)
    return None


def _set(connection: Connection, store: Store, name: str, value: str, *, is_new: bool) -> None:
    (bulk.insert if is_new else bulk.update)(connection, store.tables.info, [(name, value)])


def _days(seconds: float) -> str:
    return f"{seconds / DAY:.1f} days" if seconds >= DAY else _hours(seconds)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h"
