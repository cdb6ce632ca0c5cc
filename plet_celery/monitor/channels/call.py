"""The channel `call`: a function of the user's project."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from celery.utils.imports import cwd_in_path

from plet_celery.alertsignals import AlertMessage
from plet_celery.monitor.channels.channel import Undelivered
from plet_celery.settings_channels import function_name


@dataclass(frozen=True, kw_only=True)
class CallChannel:
    """Calls a function with the message; what it returns is not looked at."""

    name: str
    function: Callable[[AlertMessage], Any] | str = field(repr=False)
    timeout: float = 10.0
    kind: str = "call"
    needs_app: bool = True

    @property
    def target(self) -> str:
        """The function's path."""
        return function_name(self.function)

    def send(self, message: AlertMessage, *, now: float) -> str:
        """Call the function; an `async def` one is run to its end.

        Raises:
            Undelivered: there is no such function, or it has a yield in it. What it raises itself
                comes out as it is.
        """
        function = _imported(self.function) if isinstance(self.function, str) else self.function
        try:
            found = function(message)
            if inspect.iscoroutine(found):
                found = asyncio.run(found)
            if _waits_to_run(found):
                raise Undelivered(
                    f"function {self.target} has a yield in it, so calling it runs nothing; take that out"
                )
        finally:
            _close_connections()
        return "called"


def _waits_to_run(found: Any) -> bool:
    """Tell whether a function returned itself as a generator; a generator expression is only its result."""
    code = getattr(found, "gi_code", None) or getattr(found, "ag_code", None)
    return code is not None and code.co_name != "<genexpr>"


def _imported(path: str) -> Callable[[AlertMessage], Any]:
    module, _, attribute = path.replace(":", ".").rpartition(".")
    try:
        # As Celery itself finds the app: its working directory is on the path only for that.
        with cwd_in_path():
            found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise Undelivered(f"function {path} cannot be imported: {error}") from error
    if not callable(found):
        raise Undelivered(f"{path} is no function")
    function: Callable[[AlertMessage], Any] = found
    return function


def _close_connections() -> None:
    """Close Django's database connections of this thread: it ends here, and Django would not know."""
    django = sys.modules.get("django.db")
    connections = getattr(django, "connections", None)
    if connections is not None:
        connections.close_all()
