"""The `run` of a TrackedTask that is declared `async def`: what Celery calls is a function that ends.

It stands in the class before Celery wraps `run` for `autoretry_for`, so that a retry catches what the
body raises. How a coroutine runs is in `coroutines.py`, which is loaded with the first one.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from functools import update_wrapper
from typing import Any


def driven(run: Any) -> Callable[..., Any] | None:
    """Return a `run` that runs an `async def run` to its end, or None where `run` is none.

    Args:
        run: as it stands in the class: a function with `self`, or a staticmethod.

    The body of `task(…)` and `task.run(…)`, called as a function, is the function: a coroutine to await.
    So is what the body itself calls (`await super().run(…)`).
    """
    is_static = isinstance(run, staticmethod)
    function = run.__func__ if isinstance(run, staticmethod) else run
    if not inspect.isfunction(function) or hasattr(function, "_plet_drives"):
        return None
    if not inspect.iscoroutinefunction(inspect.unwrap(function)):
        return None
    to_end = _synchronous(function)

    def driving(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not is_static:
            args = (self, *args)
        request = _traced_request(self)
        if request is None or hasattr(request, "_plet_drives"):
            return function(*args, **kwargs)
        try:
            request._plet_drives = True
            return to_end(*args, **kwargs)
        finally:
            # A task's own `__call__` may try again within the same request.
            request.__dict__.pop("_plet_drives", None)

    update_wrapper(driving, function)
    driving._plet_drives = True  # type: ignore[attr-defined]
    if is_static:
        own = inspect.signature(function)
        first = inspect.Parameter("task_", inspect.Parameter.POSITIONAL_ONLY)
        driving.__signature__ = own.replace(parameters=[first, *own.parameters.values()])  # type: ignore[attr-defined]
    return driving


def _traced_request(task: Any) -> Any:
    """Return the request that Celery executes, below what a task's own `__call__` may have pushed."""
    for request in reversed(task.request_stack.stack or ()):
        if not request.called_directly:
            return request
    return None


def _synchronous(function: Callable[..., Any]) -> Callable[..., Any]:
    wrapper = _with_pydantic(function)
    if wrapper is not None:
        return wrapper

    def to_end(*args: Any, **kwargs: Any) -> Any:
        from plet_celery.coroutines import run_to_end

        body = function(*args, **kwargs)
        # A decorator between may have run it already.
        return run_to_end(body) if inspect.iscoroutine(body) else body

    return to_end


def _with_pydantic(wrapper: Any) -> Callable[..., Any] | None:
    """Return Celery's wrapper of `pydantic=True` around the body run to its end.

    It validates, calls the body, and dumps what that returns: of a coroutine it would dump nothing.
    The body is a variable of its closure; everything else stays as Celery made it.
    """
    code = wrapper.__code__
    if code.co_qualname != "pydantic_wrapper.<locals>.wrapper" or "task_fun" not in code.co_freevars:
        return None
    cells = list(wrapper.__closure__)
    place = code.co_freevars.index("task_fun")
    cells[place] = types.CellType(_synchronous(cells[place].cell_contents))
    made = types.FunctionType(code, wrapper.__globals__, wrapper.__name__, wrapper.__defaults__, tuple(cells))
    made.__kwdefaults__ = wrapper.__kwdefaults__
    return update_wrapper(made, wrapper)
