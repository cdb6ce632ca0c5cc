"""What a run says without knowing us: `logging`, `print` and warnings become log lines of the run.

Installed while a run executes and taken out after it, because in eager mode the process and its
`sys.stdout` are the user's (a test may have swapped it). What is captured is also passed on unchanged.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
import weakref
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


class _Passing(threading.local):
    """What this thread just passes on and has taken: a tee below, another app's, must not take it again."""

    streams: frozenset[str] = frozenset()


_passing: Final = _Passing()
_ALL: Final = frozenset(("stdout", "stderr", "warning"))


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
        _resort(record)
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


_attached_by: Final[weakref.WeakSet[Capture]] = weakref.WeakSet()
"""The apps that have it in place: without one, a script's `logging` is as if it had never been there."""


def _resort(record: logging.LogRecord) -> None:
    """Show what nobody else handles: with us in place logging no longer does so itself."""
    last, before = logging.lastResort, _passing.streams
    if last is None or record.levelno < last.level or not _is_alone(record.name):
        return
    try:
        _passing.streams = _ALL  # it is a line of the log, no printed one
        last.handle(record)
    finally:
        _passing.streams = before


def _is_alone(name: str) -> bool:
    """Tell whether nobody but us handles the records of this logger."""
    found = logging.root.manager.loggerDict.get(name)
    logger: logging.Logger | None = found if isinstance(found, logging.Logger) else logging.root
    while logger is not None:
        if any(one is not _handler for one in logger.handlers):
            return False
        logger = logger.parent if logger.propagate else None
    return True


class Tee:
    """A stream that passes everything on, and hands whole lines to the current run."""

    def __init__(
        self, wrapped: TextIO, stream: str, partial: dict[tuple[str, int], str] | None = None
    ) -> None:
        self.wrapped = wrapped
        self.partial = partial if partial is not None else {}
        """What was printed without a newline so far, by attempt and thread."""
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def __iter__(self) -> Any:
        return iter(self.wrapped)

    def write(self, text: str) -> int:
        """Write to the wrapped stream, then into the run's log, one record a line."""
        before = _passing.streams
        if self._stream in before:
            return self.wrapped.write(text)
        try:
            _passing.streams = before | {self._stream}
            written = self.wrapped.write(text)
        finally:
            _passing.streams = before
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
        return bool(self.partial)

    def finish(self, run: Run) -> None:
        """Write what a run printed without a newline at its end."""
        # list() first: other threads print meanwhile.
        for key in [key for key in list(self.partial) if key[0] == run.attempt]:
            self._line(run, self.partial.pop(key, ""))

    def _take(self, run: Run, text: str) -> None:
        key = (run.attempt, threading.get_ident())
        *lines, rest = (self.partial.pop(key, "") + text).split("\n")
        for line in lines:
            self._line(run, line)
        if "\r" in rest:
            # A progress bar rewrites its line: only the last state is worth keeping.
            head, _, last = rest.rpartition("\r")
            rest = last or head.rpartition("\r")[2] + "\r"
        if len(rest) > _PARTIAL_MAX:
            self._line(run, rest)
        elif rest:
            self.partial[key] = rest

    def _line(self, run: Run, line: str) -> None:
        line = line.rstrip("\r").rpartition("\r")[2]
        if line:
            run.write_log(logging.INFO, line, logger=self._stream, stream=self._stream)


class Warned:
    """A `warnings.showwarning` that passes on to the one before it, and into the current run's log."""

    def __init__(self, original: Any) -> None:
        self.wrapped = original

    def __call__(
        self, message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        """Show a warning."""
        before = _passing.streams
        try:
            _passing.streams = _ALL
            self.wrapped(message, category, filename, lineno, file, line)
        finally:
            _passing.streams = before
        if "warning" in before:
            return
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


def _is_below(top: Any, one: Any) -> bool:
    """Tell whether `one` is `top`, or what other apps' tees (or warnings) above it pass on to."""
    while top is not one and isinstance(top, (Tee, Warned)):
        top = top.wrapped
    return top is one


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
        self.is_workers = False
        """The log handler stays: in a worker whoever sets up logging has done so, and its lock is not to be
        taken where a soft limit may strike."""
        self._tees = {"stdout": Tee(sys.stdout, "stdout"), "stderr": Tee(sys.stderr, "stderr")}
        self._warned: Warned | None = None

    def enter(self, run: Run) -> None:
        """A run begins."""
        alone = not self._runs
        self._runs.add(run.attempt)
        self._attach()
        # Not looked at while another run executes: it may have put a stream of its own in place.
        if alone or not self._tees_in:
            self._install()

    def _install(self) -> None:
        """Put tees and hook in place; two threads may do so at once."""
        if self._options.print:
            for name, tee in list(self._tees.items()):
                stream = getattr(sys, name)
                if stream is None or _is_below(stream, tee):
                    continue
                if stream is not tee.wrapped:
                    # A new one: what stands there may pass on to the old one, and that to it: a ring.
                    self._tees[name] = Tee(stream, name, tee.partial)
                setattr(sys, name, self._tees[name])
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
        self._detach()
        if self._runs:
            self._attach()

    def _uninstall(self) -> None:
        self._tees_in = False
        tees = self._tees
        for name, tee in tees.items():
            # A run that begins in another thread now shall not miss them for long.
            if not self._runs and getattr(sys, name) is tee:
                setattr(sys, name, tee.wrapped)
        if self._warned is not None and warnings.showwarning is self._warned:
            warnings.showwarning = self._warned.wrapped

    def _detach(self) -> None:
        """Give a script its `logging` back; where runs end in threads, logging's lock would cost lines."""
        if self.is_workers or threading.current_thread() is not threading.main_thread():
            return
        _attached_by.discard(self)
        if not _attached_by:
            for logger in (logging.root, self._task_logger, *_closed[1]):
                logger.removeHandler(self._handler)

    def _attach(self) -> None:
        if not (self._options.logging or self._options.warnings):
            return
        _attached_by.add(self)
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
        shown: Any = warnings.showwarning
        if shown is getattr(logging, "_showwarning", None):
            return
        if self._warned is not None and _is_below(shown, self._warned):
            return
        if self._warned is None or self._warned.wrapped is not shown:
            self._warned = Warned(shown)
        warnings.showwarning = self._warned


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
