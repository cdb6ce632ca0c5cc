"""Signals that end a stack: the first one asks, a second one hurries, and none tears a clean-up apart."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, Self

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """Somebody wants the stack to end."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """The shell's habit: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.number


class Stopping:
    """Context manager that turns SIGINT, SIGTERM and SIGHUP into `Stopped`, raised in the main thread.

    What a signal raises may be swallowed, where it strikes inside a destructor: so a loop that
    waits calls `check`, too. From `begin` on nothing is raised any more; a further signal then
    makes `in_a_hurry` true, and one more `at_once`. A signal that was ignored before (`nohup`) stays ignored.
    """

    def __init__(self) -> None:
        self._asked: signal.Signals | None = None
        self._shields = 0
        self._begun = False
        self._hurry = 0
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def begin(self) -> None:
        """The clean-up starts now: raise nothing any more."""
        self._begun = True

    def in_a_hurry(self) -> bool:
        """Tell whether another signal came after the one that asked to end."""
        return self._hurry > 0

    def at_once(self) -> bool:
        """Tell whether even a hurry takes too long."""
        return self._hurry > 1

    def check(self) -> None:
        """Raise `Stopped` if somebody has asked, and neither a shield nor the clean-up forbids it."""
        if self._asked is not None and not self._shields and not self._begun:
            raise Stopped(self._asked)

    @contextmanager
    def shield(self) -> Iterator[None]:
        """Put `Stopped` off until the block is done: a process that was just made gets noted."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        self.check()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked is None:
            self._asked = signal.Signals(number)
        elif self._begun:
            self._hurry += 1
        self.check()
