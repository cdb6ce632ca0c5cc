"""Gather facts in a bounded time: each group of steps in a thread, whatever hangs is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

Step = tuple[str, Callable[[], Any]]


@dataclass(frozen=True)
class Trouble:
    """Why a fact could not be had."""

    text: str
    kind: str = ""
    """Name of the exception's class; `timeout` when the time was up."""


@dataclass
class Facts:
    """What was found, by name; a `Trouble` where that failed."""

    found: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str, kind: type[T]) -> T | None:
        """Return the fact, or None where there is trouble, or where it was not asked for."""
        value = self.found.get(name)
        return value if isinstance(value, kind) else None

    def trouble(self, name: str) -> Trouble | None:
        """Return why a fact could not be had; None where it was."""
        value = self.found.get(name)
        return value if isinstance(value, Trouble) else None

    def troubles(self) -> dict[str, Trouble]:
        """Return all that failed."""
        return {name: value for name, value in self.found.items() if isinstance(value, Trouble)}


def gather(groups: Mapping[str, Sequence[Step]], *, timeout: float) -> Facts:
    """Run the groups beside each other, the steps of each one after the other.

    Args:
        groups: by name; a step that fails does not keep the later ones of its group from being tried.
        timeout: seconds for all of it. A step that has not ended then is a `Trouble`, as are those behind it.
    """
    deadline = time.monotonic() + timeout
    found: dict[str, Any] = {}
    running: dict[str, threading.Thread] = {}
    for name, steps in groups.items():
        # Daemon: a file system or a database that hangs must not keep the command.
        thread = threading.Thread(target=_run, args=(steps, found), name=f"plet-doctor-{name}", daemon=True)
        thread.start()
        running[name] = thread
    for thread in running.values():
        thread.join(max(0.0, deadline - time.monotonic()))
    facts = Facts(dict(found))
    for steps in groups.values():
        late = [name for name, _ in steps if name not in facts.found]
        for place, name in enumerate(late):
            text = f"no answer within {timeout:g} s" if not place else f"not asked: {late[0]} did not answer"
            facts.found[name] = Trouble(text, "timeout")
    return facts


def _run(steps: Sequence[Step], found: dict[str, Any]) -> None:
    for name, step in steps:
        try:
            found[name] = step()
        # Whatever is broken here is what the report is for.
        except Exception as error:
            found[name] = Trouble(str(error).strip() or type(error).__name__, type(error).__name__)
