"""What a worker of ours answers over Celery's remote control: is it consuming, how full is it, what does a
run do.

One small answer instead of four large ones (Celery's own `active` and `reserved` bring every argument).
Registered in the worker's main process only, which answers on its event loop: nothing here waits.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from celery import signals

from plet_celery import current, localnodes, stackdumps
from plet_celery.celeryfacts import STACKS_COMMAND, WORKER_COMMAND

log = logging.getLogger(__name__)

_RUNS_MAX: Final = 100

_folder: list[Path] = []
"""Where the task processes of this worker write their stacks."""


def begin(journal: Path, node: str, pool: str, *, stacks: bool) -> None:
    """Have this process, a worker's main process, answer the monitor and be found by a probe of this host.

    Args:
        node: its node name.
        pool: `prefork`, `solo`, …
        stacks: its task processes may be asked for their stacks.
    """
    from celery.worker.control import Panel, inspect_command

    _folder.clear()
    try:
        localnodes.announce(journal, node, pool)
        if stacks and pool == "prefork":
            _folder.append(stackdumps.prepare(journal))
            # Behind what the project has connected: a handler of its own is there by then.
            signals.worker_process_init.connect(_on_child, weak=False)
            signals.worker_process_shutdown.connect(_on_child_end, weak=False)
    except OSError as error:
        log.warning("the monitor cannot ask this worker for everything: %s", error)
    for name, answer in ((WORKER_COMMAND, answer_worker), (STACKS_COMMAND, answer_stacks)):
        if name not in Panel.data:
            inspect_command(name=name)(answer)


def _on_child(**kwargs: Any) -> None:
    try:
        # Forked, a child has what its main process had.
        if _folder:
            stackdumps.offer(_folder[0])
    except OSError as error:
        log.warning("this process cannot be asked for its stack: %s", error)


def _on_child_end(**kwargs: Any) -> None:
    stackdumps.withdraw()


def answer_worker(state: Any, **kwargs: Any) -> dict[str, Any]:
    """Tell what this worker consumes, and how much it has to do."""
    from celery.worker import state as worker_state

    consumer = state.consumer
    running = set(worker_state.active_requests)
    # What waits for its ETA keeps no slot from what lies in the queues.
    reserved = {one for one in set(worker_state.reserved_requests) - running if not one.eta}
    if _folder:
        with suppress(OSError):
            stackdumps.sweep(_folder[0])
    return {
        "queues": _consumed(consumer),
        "slots": getattr(getattr(consumer, "pool", None), "limit", None) or 1,
        "running": len(running),
        "reserved": len(reserved),
        "total": sum(worker_state.total_count.values()),
        "pid": os.getpid(),
    }


def answer_stacks(
    state: Any, runs: Sequence[str] = (), ask: bool = False, **kwargs: Any
) -> dict[str, dict[str, str]]:
    """Tell what runs do; with `ask` their processes are only told to write it down."""
    from celery.worker import state as worker_state

    wanted = set(list(runs)[:_RUNS_MAX])
    threads = current.threads_of_runs()
    found = {}
    for request in list(worker_state.active_requests):
        if request.id in wanted:
            pid = getattr(request, "worker_pid", None)
            found[request.id] = _stack(request.id, pid, threads, ask=ask)
    return found


def _stack(run: str, pid: Any, threads: dict[str, int], *, ask: bool) -> dict[str, str]:
    if run in threads:
        return {"text": stackdumps.stack_of_thread(threads[run])}
    # In a pool of greenlets Celery's pid is none.
    if not _folder or not isinstance(pid, int) or pid in (0, os.getpid()):
        return {"why_not": "this pool cannot tell"}
    if ask:
        return {"why_not": stackdumps.ask(_folder[0], pid)}
    text = stackdumps.read(_folder[0], pid)
    return {"text": text} if text else {"why_not": "its process has not written it"}


def _consumed(consumer: Any) -> list[str]:
    found = getattr(consumer, "task_consumer", None)
    # A queue that is registered and whose consumer was cancelled is not consumed.
    return [one.name for one in found.queues if found.consuming_from(one)] if found is not None else []
