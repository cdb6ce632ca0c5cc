"""What the processes of runs are doing, asked for over remote control: once to write it, once to fetch it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from plet_celery.celeryfacts import STACKS_COMMAND
from plet_celery.monitor.checks.brokers import connected
from plet_celery.store.stillness import StillRun

if TYPE_CHECKING:
    from celery import Celery

WRITE_SECONDS: Final = 0.3
"""A process writes its stack within a millisecond of the signal, if it gets the processor."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """What one run does."""

    text: str = ""
    """Files, lines and functions, the innermost first; of all threads of its process."""
    why_not: str = ""
    """Why there is none."""


def ask(app: Celery, runs: Sequence[StillRun], *, seconds: float) -> dict[str, Stack]:
    """Return the stacks of runs by run id; of those whose worker says nothing, why not.

    Args:
        seconds: for both questions.

    Raises:
        Exception: what the transport raises where the broker cannot be reached.
    """
    workers = sorted({one.worker for one in runs if one.worker})
    ids = [one.run_id for one in runs]
    found = {run: Stack(why_not="its worker does not answer") for run in ids}
    if not workers:
        return found
    patience = max(0.1, (seconds - WRITE_SECONDS) / 2)
    with connected(app, seconds=seconds) as connection:
        asked = _call(app, connection, {"runs": ids, "ask": True}, workers, patience)
        refused = {run: told["why_not"] for run, told in asked.items() if told.get("why_not")}
        if asked:
            time.sleep(WRITE_SECONDS)
            asked |= _call(app, connection, {"runs": ids}, sorted(workers), patience)
    for run, told in asked.items():
        if run in found:
            text = str(told.get("text") or "")
            found[run] = Stack(text=text, why_not="" if text else refused.get(run) or told.get("why_not", ""))
    return found


def _call(
    app: Celery, connection: Any, arguments: dict[str, Any], workers: list[str], seconds: float
) -> dict[str, Mapping[str, Any]]:
    replies: Any = app.control.broadcast(
        STACKS_COMMAND,
        arguments=arguments,
        reply=True,
        timeout=seconds,
        destination=workers,
        limit=len(workers),
        connection=connection,
    )
    found: dict[str, Mapping[str, Any]] = {}
    for one in replies or []:
        for told in one.values() if isinstance(one, dict) else ():
            if isinstance(told, dict) and "error" not in told:
                found |= {str(run): said for run, said in told.items() if isinstance(said, dict)}
    return found
