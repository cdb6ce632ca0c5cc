"""What a run says without knowing us: `logging`, `print` and warnings become log lines of the run.

Installed while a run executes and taken out after it, because in eager mode the process and its
`sys.stdout` are the user's (a test may have swapped it). What is captured is also passed on unchanged.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from dataclasses import dataclass
from typing import Any, Final, TextIO

from plet_celery.current import active_run
from plet_celery.guard import PASS_THROUGH, contain
from plet_celery.redaction import is_asynchronous, safe_repr
from plet_celery.run import Run

# Ours would record themselves; celery.app.trace repeats the run's end, celery.redirected what we
# tee (in pieces: print("a", 1) is three records there).
_NOT_CAPTURED: Final = ("plet_celery", "celery.app.trace", "celery.redirected")
_PARTIAL_MAX: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """Which of the three are captured."""

    logging: bool = True
    print: bool = True
    warnings: bool = True


class RunHandler(logging.Handler):
    """Hands records to the current run; outside a run it does nothing. It holds no lock."""

    def createLock(self) -> None:  # noqa: N802 - logging's name
        """Have none: the journal's append is safe without, and a held lock would not survive a soft limit."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Filter and emit, as logging does; from Python 3.13 on that takes the lock we do not have."""
        passed: Any = self.filter(record)  # from 3.12 on it may be a record of the filter's own
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record into the current run's log."""
        run = active_run()
        if run is None or record.name.startswith(_NOT_CAPTURED):
            return
        try:
            stream = "warning" if record.name == "py.warnings" else "log"
            run.write_log(record.levelno, _record_text(record), logger=record.name, stream=stream)
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "capture.logging")


# One for the process: with one for each app, a line would be recorded as often as there are apps.
_handler: Final = RunHandler()


class Tee:
    """A stream that passes everything on, and hands whole lines to the current run."""

    def __init__(self, wrapped: TextIO, stream: str) -> None:
        self.wrapped = wrapped
        self._stream = stream
        self._partial: dict[tuple[str, int], str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def __iter__(self) -> Any:
        return iter(self.wrapped)

    def write(self, text: str) -> int:
        """Write to the wrapped stream, then into the run's log, one record a line."""
        written = self.wrapped.write(text)
        try:
            run = active_run()
            if run is not None and isinstance(text, str):
                self._take(run, text)
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "capture.print")
        return written

    def writelines(self, lines: Any) -> None:
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    @property
    def has_partial(self) -> bool:
        """Whether anybody printed without a newline at the end."""
        return bool(self._partial)

    def finish(self, run: Run) -> None:
        """Write what a run printed without a newline at its end."""
        # list() first: other threads print meanwhile.
        for key in [key for key in list(self._partial) if key[0] == run.attempt]:
            self._line(run, self._partial.pop(key, ""))

    def _take(self, run: Run, text: str) -> None:
        key = (run.attempt, threading.get_ident())
        *lines, rest = (self._partial.pop(key, "") + text).split("\n")
        for line in lines:
            self._line(run, line)
        if "\r" in rest:
            # A progress bar rewrites its line: only the last state is worth keeping.
            head, _, last = rest.rpartition("\r")
            rest = last or head.rpartition("\r")[2] + "\r"
        if len(rest) > _PARTIAL_MAX:
            self._line(run, rest)
        elif rest:
            self._partial[key] = rest

    def _line(self, run: Run, line: str) -> None:
        line = line.rstrip("\r").rpartition("\r")[2]
        if line:
            run.write_log(logging.INFO, line, logger=self._stream, stream=self._stream)


class Capture:
    """Puts handler and tees in place while at least one run executes in this process."""

    def __init__(self, options: CaptureOptions) -> None:
        self._options = options
        self._handler = _handler
        self._task_logger = logging.getLogger("celery.task")
        self._runs: set[str] = set()
        self._tees_in = False
        self.resident = False
        """Stay in place between runs: in a worker whose pool begins and ends runs in several threads."""
        self._tees = {"stdout": Tee(sys.stdout, "stdout"), "stderr": Tee(sys.stderr, "stderr")}
        self._showwarning: Any = None

    def enter(self, run: Run) -> None:
        """A run begins."""
        alone = not self._runs
        self._runs.add(run.attempt)
        if self._options.logging or self._options.warnings:
            self._attach()
        # Not looked at while another run executes: it may have put a stream of its own in place.
        if alone or not self._tees_in:
            self._install()

    def _install(self) -> None:
        """Put tees and hook in place; two threads may do so at once."""
        if self._options.print:
            for name, tee in self._tees.items():
                stream = getattr(sys, name)
                if stream is not tee:
                    tee.wrapped = stream
                    setattr(sys, name, tee)
        if self._options.warnings:
            self._hook_warnings()
        self._tees_in = True

    def leave(self, run: Run) -> None:
        """A run ends: write its unfinished lines, and leave the process as it was found."""
        tees = self._tees
        for tee in tees.values():
            if tee.has_partial:
                tee.finish(run)
        self._runs.discard(run.attempt)
        if self._runs or self.resident:
            return
        self._uninstall()
        if self._runs:  # In another thread a run has begun meanwhile.
            self._install()

    def _uninstall(self) -> None:
        self._tees_in = False
        tees = self._tees
        for name, tee in tees.items():
            if getattr(sys, name) is tee:
                setattr(sys, name, tee.wrapped)
        if self._showwarning is not None:
            if warnings.showwarning == self._show:
                warnings.showwarning = self._showwarning
            self._showwarning = None

    def _attach(self) -> None:
        # Celery empties these loggers' handlers when it sets up logging, at moments that differ by
        # pool and options; looking at each run's start is simpler than following them.
        if self._handler not in logging.root.handlers:
            logging.root.addHandler(self._handler)
        if not self._task_logger.propagate and self._handler not in self._task_logger.handlers:
            self._task_logger.addHandler(self._handler)
        for logger in _closed_loggers():
            # Exactly there where records go no further: anywhere else they would come twice.
            if bool(logger.propagate) == (self._handler in logger.handlers):
                (logger.removeHandler if logger.propagate else logger.addHandler)(self._handler)

    def _hook_warnings(self) -> None:
        # A worker has logging.captureWarnings on; then they come as records of py.warnings.
        if warnings.showwarning == self._show:
            return
        if warnings.showwarning is not getattr(logging, "_showwarning", None):
            self._showwarning = warnings.showwarning
            warnings.showwarning = self._show

    def _show(
        self, message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        original = self._showwarning or warnings.showwarning
        if original != self._show:
            original(message, category, filename, lineno, file, line)
        try:
            run = active_run()
            if run is not None and file is None:
                said = str(message) if isinstance(message, (str, Warning)) else safe_repr(message)
                text = f"{filename}:{lineno}: {category.__name__}: {said}"
                run.write_log(logging.WARNING, text, logger="py.warnings", stream="warning")
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "capture.warnings")


def _record_text(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except BaseException as failure:  # a user's __str__: whatever it raises stands for one argument only
        if is_asynchronous(failure):
            raise
        text = (
            f"{record.msg!s} {safe_repr(record.args)}"
            if isinstance(record.msg, str)
            else safe_repr(record.msg)
        )
    if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
        try:
            text = f"{text}\n{_FORMATTER.formatException(record.exc_info)}"
        except BaseException as failure:
            if is_asynchronous(failure):
                raise
            text = f"{text}\n{safe_repr(record.exc_info[1])}"
    elif record.exc_text:
        text = f"{text}\n{record.exc_text}"
    return text


_FORMATTER: Final = logging.Formatter()

# How many loggers there were, and which of them kept their records from the root.
_closed: tuple[int, list[logging.Logger]] = (0, [])


def _closed_loggers() -> list[logging.Logger]:
    """Return the loggers that do not propagate, or did not; looked for again once there are new ones."""
    global _closed
    known = logging.root.manager.loggerDict
    if len(known) != _closed[0]:
        loggers = [logger for logger in list(known.values()) if isinstance(logger, logging.Logger)]
        before = set(_closed[1])
        _closed = (len(known), [one for one in loggers if not one.propagate or one in before])
    return _closed[1]
