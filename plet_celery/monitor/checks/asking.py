"""Runs checks beside each other, each in a thread with a time-out that is an answer.

A thread that hangs is left behind, and its check is not asked again before it has ended: a monitor
that runs for months beside a store that hangs has one thread of each check in it, not thousands.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from plet_celery.errors import PletError
from plet_celery.terminal.text import span
from plet_celery.watchfacts import CheckResult, Level

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Question:
    """One check, ready to be asked."""

    name: str
    look: Callable[[], Iterable[CheckResult]]
    unanswered: Level = Level.NO_DATA
    """What silence means: critical of a store or broker, else nothing is known."""
    advice: str = ""
    """What to do when it is silent, or fails."""
    affected: str = ""


class Once(Generic[T]):
    """A value that several checks need and one of them finds out; the others wait for it."""

    def __init__(self, find: Callable[[], T]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._found: list[T] = []
        self._error: Exception | None = None

    def __call__(self) -> T:
        """Return the value, or raise what finding it has raised: again, without asking again."""
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self._found:
                try:
                    self._found.append(self._find())
                except Exception as error:
                    self._error = error
                    raise
            return self._found[0]


@dataclass
class _Asked:
    question: Question
    began: float
    found: list[CheckResult] | None = None
    error: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)


_left_behind: Final[dict[tuple[str, str], _Asked]] = {}
"""By check and whom it asks: those that had not ended when their time was up."""
_guard: Final = threading.Lock()


def ask(questions: Sequence[Question], *, seconds: float, whom: str = "") -> list[CheckResult]:
    """Return the answers of all checks, in their order, within `seconds`.

    Args:
        whom: names what is asked, such as the store's URL without password: of two projects in one
            process one may hang.
    """
    deadline = time.monotonic() + seconds
    asked = [_start(one, whom) for one in questions]
    found: list[CheckResult] = []
    for one in asked:
        answered = one.done.wait(max(0.0, deadline - time.monotonic()))
        with _guard:
            if answered:
                _left_behind.pop((one.question.name, whom), None)
            else:
                _left_behind[one.question.name, whom] = one
        found.extend(_answers(one, answered=answered, now=time.monotonic()))
    return found


def _start(question: Question, whom: str) -> _Asked:
    with _guard:
        before = _left_behind.get((question.name, whom))
    if before is not None and not before.done.is_set():
        return before
    one = _Asked(question, time.monotonic())
    # Daemon: a broker or a disk that hangs must not keep a process that wants to end.
    threading.Thread(target=_run, args=(one,), name=f"plet-check-{question.name}", daemon=True).start()
    return one


def _run(one: _Asked) -> None:
    try:
        one.found = list(one.question.look())
    # Whatever is broken here is what the check is for.
    except Exception as error:
        one.error = error
    finally:
        one.done.set()


def _answers(one: _Asked, *, answered: bool, now: float) -> list[CheckResult]:
    question = one.question
    if answered and one.found is not None:
        return one.found
    if answered:
        level, text = Level.NO_DATA, f"it cannot be told: {told(one.error)}"
    else:
        level, text = question.unanswered, f"no answer within {span(now - one.began)}"
    values: dict[str, Any] = {"error": type(one.error).__name__ if answered else "timeout"}
    return [
        CheckResult(
            name=question.name,
            level=level,
            observation=text,
            expectation="an answer in time",
            affected=question.affected,
            advice=question.advice or "see what it says; run celery plet doctor on that host",
            values=values,
        )
    ]


def told(error: BaseException | None) -> str:
    """Return an error in one line: ours speak for themselves, of others the class is said, too."""
    if error is None:
        return "no reason given"
    text = (str(error).strip().splitlines() or [""])[0][:300]
    if isinstance(error, PletError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
