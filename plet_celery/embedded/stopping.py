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
    """Context manager that turns the first SIGINT, SIGTERM or SIGHUP into `Stopped`, in the main thread.

    From `begin()` on nothing is raised any more; a signal then makes `in_a_hurry` true. A signal
    that was ignored before (`nohup`) stays ignored.
    """

    def __init__(self) -> None:
        self._shielded = False
        self._asked: signal.Signals | None = None
        self._hurry = False
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
        self._shielded = True

    def in_a_hurry(self) -> bool:
        """Tell whether another signal came after the one that asked to end."""
        return self._hurry

    @contextmanager
    def shield(self) -> Iterator[None]:
        """Put `Stopped` off until the block is done: a process that was just made gets noted."""
        if self._shielded:
            yield
            return
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False
        if self._asked is not None:
            raise Stopped(self._asked)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked is not None:
            self._hurry = True
            return
        self._asked = signal.Signals(number)
        if not self._shielded:
            raise Stopped(self._asked)
