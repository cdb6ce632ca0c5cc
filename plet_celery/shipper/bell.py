"""How a shipper's main thread sleeps and is woken: by time, or by a signal that asks it to end."""

from __future__ import annotations

import os
import select
import signal
import time
from types import FrameType


class Bell:
    """SIGTERM and SIGINT ask to drain and end.

    The handler only takes note and writes a byte: an `Event.set` in a handler can dead-lock with
    the very `wait` that it interrupted.
    """

    def __init__(self, *, impatient: bool = False) -> None:
        """Prepare.

        Args:
            impatient: a second signal ends the process at once; what was not stored stays in the journal.
        """
        self._impatient = impatient
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        os.set_blocking(self._reading, False)
        self.asked_to_end: float | None = None
        """When (monotonic) the first signal came."""
        self.signal: int | None = None
        """The first signal."""

    def install(self) -> None:
        """Take the two signals; the terminal's hang-up is ignored."""
        signal.signal(signal.SIGTERM, self._ring)
        signal.signal(signal.SIGINT, self._ring)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def wait(self, timeout: float) -> None:
        """Sleep until the time is over or a signal came."""
        if select.select([self._reading], [], [], timeout)[0]:
            os.read(self._reading, 4096)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self.asked_to_end is None:
            self.asked_to_end, self.signal = time.monotonic(), number
        elif self._impatient:
            os.write(2, b"asked twice: ends at once\n")
            os._exit(128 + number)
        try:
            os.write(self._writing, b"!")
        except BlockingIOError:
            pass  # rung often enough
