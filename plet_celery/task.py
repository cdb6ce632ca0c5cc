"""TrackedTask: the base class of tasks whose runs have stages, progress and metadata."""

from __future__ import annotations

import inspect
import math
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from typing import Any, ClassVar, TypeVar, overload

from celery import Task

from plet_celery import bodies
from plet_celery.current import current_run
from plet_celery.errors import SettingsError
from plet_celery.objectives import Objective, declared
from plet_celery.stages import Stage

T = TypeVar("T")

# Celery's Django fixup gives its own task class these; a task with base=TrackedTask keeps them.
_DJANGO_METHODS = ("delay_on_commit", "apply_async_on_commit")


class TrackedTask(Task):  # type: ignore[type-arg]
    """A task that says what it is doing: `@app.task(base=TrackedTask, bind=True, stages=("load",))`.

    Its body may be `async def`: it runs to its end in the task's own thread (docs/recording.md).

    Attributes:
        stages: declared stages, as names of equal weight or as `{name: weight}`. They are shown as
            planned before they start, and give the run a total percent.
        objectives: promises about its runs, such as `[MaxWait(60), MaxRuntime(900)]` (docs/objectives.md).
    """

    abstract = True
    stages: ClassVar[Iterable[str] | Mapping[str, float]] = ()
    objectives: ClassVar[Sequence[Objective]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        run = bodies.driven(inspect.getattr_static(cls, "run", None))
        if run is not None:
            cls.run = run  # type: ignore[method-assign]
        name = str(cls.name or cls.__name__)
        cls.stages = declared_stages(cls.stages, name)
        cls.objectives = declared(cls.objectives, f"task {name!r}")

    def __getattr__(self, name: str) -> Any:
        if name in _DJANGO_METHODS:
            method = getattr(self._get_app().Task, name, None)
            if method is not None:
                return method.__get__(self)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def stage(self, name: str, total: Any = None, unit: str = "") -> Stage:
        """Return a stage of the current run, to enter with `with`; `total` in `unit`s."""
        return current_run().stage(name, total, unit)

    @overload
    def track(self, iterable: Iterable[T], name: str, total: Any = None, unit: str = "") -> Iterator[T]: ...

    @overload
    def track(
        self, iterable: AsyncIterable[T], name: str, total: Any = None, unit: str = ""
    ) -> AsyncIterator[T]: ...

    def track(self, iterable: Any, name: str, total: Any = None, unit: str = "") -> Any:
        """Iterate inside a stage that advances by one after each item, as tqdm does."""
        return current_run().track(iterable, name, total, unit)

    def log(self, level: int | str, message: str, **context: Any) -> None:
        """Write a line into the run's log; `level` as in `logging`."""
        current_run().log(level, message, **context)

    def measure(self, **values: float) -> None:
        """Record a point of one or several time series, drawn on the run page."""
        current_run().measure(**values)

    @property
    def metadata(self) -> MutableMapping[str, Any]:
        """What the run says about itself, by top-level key."""
        return current_run().metadata


def declared_stages(stages: Any, task: str) -> dict[str, float]:
    """Return declared stages as `{name: weight}`.

    Raises:
        SettingsError: a name is empty, no string or stands twice, or a weight is no positive number.
    """
    if isinstance(stages, Mapping):
        pairs = list(stages.items())
    elif isinstance(stages, str):
        raise SettingsError(f"task {task!r}: stages = {stages!r} is one string; write ({stages!r},)")
    else:
        pairs = [(name, 1.0) for name in stages]
    declared: dict[str, float] = {}
    for name, weight in pairs:
        if not isinstance(name, str) or not name.strip():
            raise SettingsError(f"task {task!r}: stage name {name!r} is no text; give each stage a name")
        if name in declared:
            raise SettingsError(
                f"task {task!r}: stage {name!r} is declared twice; give each stage its own name"
            )
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < math.inf:
            raise SettingsError(f"task {task!r}: weight {weight!r} of stage {name!r} is no positive number")
        declared[name] = float(weight)
    return declared
