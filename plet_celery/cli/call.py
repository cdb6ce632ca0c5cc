"""Calling a task from the command line: its name and JSON arguments, checked before anything is started."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from plet_celery.cli.command import Wrong
from plet_celery.journal import Writer
from plet_celery.plet import plet_of

if TYPE_CHECKING:
    from celery import Celery, Task


@dataclass(frozen=True)
class Call:
    """A task with its arguments."""

    task: Task[Any, Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def publish(self) -> str:
        """Send it to the broker and return the run's id; hold on to nothing."""
        with self.task.app.connection_for_write() as connection:
            result = self.task.apply_async(self.args, self.kwargs, connection=connection)  # type: ignore[call-arg]
        plet = plet_of(self.task.app)
        recording = plet.recording() if plet else None
        if recording is not None and isinstance(recording.writer, Writer):
            # A writer that lives keeps a stopping shipper waiting.
            recording.writer.close()
        return str(result.id)


def parse_call(app: Celery, name: str | None, arguments: str | None) -> Call | None:
    """Return what `--call TASK [JSON]` means, or None where no task is named.

    Raises:
        Wrong: there is no such task, the JSON is neither an array nor an object, or the
            arguments do not fit the task's signature.
    """
    if name is None:
        if arguments is not None:
            raise Wrong(f"{arguments!r} are arguments of no task; name it with --call TASK")
        return None
    app.loader.import_default_modules()
    app.finalize()
    task = app.tasks.get(name)
    if task is None:
        raise Wrong(_unknown(name, list(app.tasks)))
    args, kwargs = _read(arguments)
    check = getattr(task, "__header__", None) if task.typing else None
    try:
        if check is not None:
            check(*args, **kwargs)
    except TypeError as error:
        raise Wrong(f"{name}: {error}") from None
    return Call(task, args, kwargs)


def _read(arguments: str | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        value = msgspec.json.decode(arguments or "[]")
    except msgspec.DecodeError as error:
        example = """'[1, "two"]' or '{"name": 1}'"""
        raise Wrong(f"{arguments!r} is no JSON ({error}); write {example}") from None
    if isinstance(value, list):
        return tuple(value), {}
    if isinstance(value, dict):
        return (), value
    raise Wrong(f"{arguments!r} is neither an array nor an object; write '[{arguments}]'")


def _unknown(name: str, known: list[str]) -> str:
    own = sorted(task for task in known if not task.startswith("celery."))
    nearest = difflib.get_close_matches(name, own, n=1, cutoff=0.0)
    if not nearest:
        return f"there is no task {name!r}; the app has none of its own"
    return f"there is no task {name!r}; the nearest is {nearest[0]!r}"
