"""Drawing that moves: a picture on a terminal, a line a change in a pipe; lists of runs kept up to date."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

from rich.live import Live
from rich.table import Table
from rich.text import Text

from plet_celery.cli.command import INTERRUPTED, View
from plet_celery.cli.table import detail, shown_id, took
from plet_celery.errors import RunNotFound, StoreUnavailable
from plet_celery.store import Store, queries
from plet_celery.terminal.look import ENDS
from plet_celery.terminal.picture import bar, state_text
from plet_celery.terminal.text import printable, short_span, shorten_left

if TYPE_CHECKING:
    from rich.console import RenderableType

    from plet_celery.cli.runs import Filters
    from plet_celery.store.records import Run

_LIST_EVERY: Final = 1.0
_GIVE_UP: Final = 30.0
_SHOWN_AFTER_END: Final = 10.0
_TERMINATED: Final = 128 + signal.SIGTERM


@contextmanager
def picture(view: View) -> Iterator[Callable[[RenderableType], None]]:
    """Give a function that draws over what it drew before; the last picture stays on the screen."""

    def terminated(signum: int, frame: FrameType | None) -> NoReturn:
        # Unwind, so that the cursor comes back.
        raise SystemExit(_TERMINATED)

    before = signal.getsignal(signal.SIGTERM)
    if before is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, terminated)
    try:
        with Live(console=view.output.fitted(), auto_refresh=False, vertical_overflow="crop") as live:

            def draw(shown: RenderableType) -> None:
                view.output.fitted()
                live.update(shown, refresh=True)

            yield draw
    finally:
        signal.signal(signal.SIGTERM, before)


def follow_list(view: View, filters: Filters, *, limit: int, active_only: bool = False) -> NoReturn:
    """Show the newest runs that match, for ever; Ctrl-C leaves with 130.

    Args:
        active_only: runs that have ended stay ten seconds, then go.

    Raises:
        StoreUnavailable: the store was away for half a minute.
    """
    from plet_celery.cli.runs import print_json

    looks = _looks(view.project.store(), filters, limit=limit, active_only=active_only)
    if not view.output.is_plain:
        _draw_list(view, looks)
    said: dict[str, tuple[object, ...]] = {}
    for found, _ in looks:
        for run in reversed(found):
            key = (run.state, run.stage, run.attempt) if not view.output.as_json else (run.version,)
            if said.get(run.id) != key:
                said[run.id] = key
                print_json(view, [run]) if view.output.as_json else view.output.line(_line(view, run))
        view.output.flush()
        said = {run.id: said[run.id] for run in found}
    raise SystemExit(INTERRUPTED)  # the looks never end


def _draw_list(view: View, looks: Iterator[tuple[list[Run], str]]) -> None:
    with picture(view) as draw:
        for found, trouble in looks:
            draw(_list_picture(view, found, trouble))


def _list_picture(view: View, found: list[Run], trouble: str) -> RenderableType:
    width, now = view.output.width, time.time()
    shown = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    room = max(3, view.output.height - 4)
    for run in found[:room]:
        shown.add_row(*_cells(view, run, width, now))
    note = f"{len(found)} shown · Ctrl-C leaves" if found else "nothing is running · Ctrl-C leaves"
    if len(found) > room:
        note = f"{room} of {note}"
    below = Table.grid()
    if found:
        below.add_row(shown)
    below.add_row(Text(printable(trouble) or note, style="yellow" if trouble else "dim"))
    return below


def _cells(view: View, run: Run, width: int, now: float) -> list[RenderableType]:
    cells: list[RenderableType] = [
        Text(run.short_id, style="dim"),
        Text(shorten_left(printable(run.task or "(unknown)"), max(10, width // 4))),
        state_text(run.state, view.output),
    ]
    if width >= 90:
        share = 1.0 if run.state == "succeeded" else None if run.percent is None else run.percent / 100
        cells.append(bar(share, run.state, 20))
    if width >= 60:
        cells.append(Text(detail(run), no_wrap=True, overflow="ellipsis"))
    cells.append(Text(short_span(took(run, now)), style="dim"))
    return cells


def _line(view: View, run: Run) -> str:
    now = time.time()
    state = f"{view.output.sign(run.state)} {printable(run.state)}"
    parts = [view.clock.at(now).time(now), shown_id(view, run), printable(run.task or ""), state]
    parts += [part for part in (detail(run), short_span(took(run, now))) if part and part != "–"]
    return "  ".join(parts)


def _looks(
    store: Store, filters: Filters, *, limit: int, active_only: bool
) -> Iterator[tuple[list[Run], str]]:
    """Yield the runs and what is wrong, every second."""
    found: list[Run] = []
    ended_at: dict[str, float] = {}
    lost_at: float | None = None
    while True:
        trouble = ""
        try:
            fresh = list(filters.page(store, limit=min(limit, 500)).items)
            if active_only:
                now, ended = time.monotonic(), _just_ended(store, found, fresh)
                ended_at = {run.id: ended_at.get(run.id, now) for run in ended}
                fresh = [run for run in ended if now - ended_at[run.id] < _SHOWN_AFTER_END] + fresh
            found, lost_at = fresh, None
        except StoreUnavailable as error:
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > _GIVE_UP:
                raise
            trouble = str(error).split("\n")[0]
        yield found, trouble
        time.sleep(_LIST_EVERY)


def _just_ended(store: Store, before: list[Run], now_active: list[Run]) -> list[Run]:
    """Return of the runs shown before those that have ended, however long ago: word of it may come late."""
    active = {run.id for run in now_active}
    ended = []
    for run in before:
        if run.id in active:
            continue
        try:
            again = queries.get_run(store, run.id) if run.state not in ENDS else run
        except RunNotFound:
            continue
        if again.ended_at is not None:
            ended.append(again)
    return ended
