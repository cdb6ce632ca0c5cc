"""A bounded `repr` that an object's own `__repr__` cannot hurt."""

from __future__ import annotations

import functools
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from opcode import opmap
from types import CodeType, TracebackType
from typing import Any, Final

LIMIT: Final = 8 << 10
"""Characters of a `safe_repr`, unless told."""

CUT: Final = "…[cut]"
_DEPTH_MAX: Final = 6
_ITEMS_MAX: Final = 200
# CPython's int to str is quadratic, and refuses from 4,300 digits on.
_INT_BITS_MAX: Final = 4096

_RAISE: Final = opmap["RAISE_VARARGS"]
_BRACKETS: Final[dict[object, tuple[str, str]]] = {
    dict.__repr__: ("{", "}"),
    list.__repr__: ("[", "]"),
    tuple.__repr__: ("(", ")"),
    set.__repr__: ("{", "}"),
    frozenset.__repr__: ("frozenset({", "})"),
    deque.__repr__: ("deque([", "])"),
}
_TYPE_NAME: Callable[[type], str] = type.__dict__["__qualname__"].__get__


def safe_repr(value: object, limit: int = LIMIT) -> str:
    """Return `repr(value)` in at most `limit` characters; a marked placeholder if that fails.

    Containers, text and bytes are cut before they are represented: a list of a million rows costs
    no more than what is shown of it. Whatever `__repr__` raises becomes `<Thing: repr failed
    (ValueError)>`, except exceptions that are not the object's: see `is_asynchronous`.
    """
    text = _Bounded(limit).show(value, 0)
    return text if len(text) <= limit else text[: max(0, limit - len(CUT))] + CUT


def is_asynchronous(error: BaseException) -> bool:
    """Say whether `error` struck from outside: the code that it interrupted must let it pass.

    These are the pool's limits and terminations, whatever a signal handler raises (SIGTERM ends a
    prefork child by SystemExit), Ctrl-C, and the cancellation of coroutines and greenlets. A
    SystemExit, KeyboardInterrupt or other BaseException that code raises itself is not.
    """
    if isinstance(error, Exception):
        return isinstance(error, _pool_exceptions()) or _through_signal_handler(error.__traceback__)
    if _through_signal_handler(error.__traceback__):
        return True
    return not isinstance(error, SystemExit) and not _is_raised_by_code(error.__traceback__)


def _pool_exceptions() -> tuple[type[BaseException], ...]:
    from billiard.exceptions import SoftTimeLimitExceeded, Terminated, TimeLimitExceeded

    return (SoftTimeLimitExceeded, TimeLimitExceeded, Terminated)


def _through_signal_handler(trace: TracebackType | None) -> bool:
    handlers = {code for number in signal.valid_signals() for code in _handler_code(number)}
    return any(
        # The pool's handler of SIGTERM uninstalls itself before it raises.
        frame.tb_frame.f_code in handlers or frame.tb_frame.f_globals.get("__name__") == "billiard.common"
        for frame in _frames(trace)
    )


def _handler_code(number: int) -> Iterator[CodeType]:
    handler: Any = signal.getsignal(number)
    while isinstance(handler, functools.partial):
        handler = handler.func
    for function in (handler, getattr(type(handler), "__call__", None)):  # noqa: B004 - of an object
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        if isinstance(code, CodeType):
            yield code


def _is_raised_by_code(trace: TracebackType | None) -> bool:
    # Python's own handlers (Ctrl-C) and throw() strike between two instructions, never at a `raise`.
    frames = list(_frames(trace))
    return bool(frames) and frames[-1].tb_frame.f_code.co_code[frames[-1].tb_lasti] == _RAISE


def _frames(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


class _Bounded:
    """One `safe_repr`: how many characters may still be shown."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def show(self, value: object, depth: int) -> str:
        try:
            return self._container(value, depth) or self._leaf(value)
        except BaseException as error:
            if is_asynchronous(error):
                raise
            return f"<{_TYPE_NAME(type(value))[:200]}: repr failed ({_TYPE_NAME(type(error))[:200]})>"

    def _leaf(self, value: Any) -> str:
        kind = type(value)
        if kind in (str, bytes, bytearray) and len(value) > self._left:
            text = repr(value[: max(0, self._left)]) + CUT
        elif kind is int and value.bit_length() > _INT_BITS_MAX:
            text = f"<int of {value.bit_length()} bits>"
        else:
            # A __repr__ may return a subclass of str, with methods of its own.
            text = str.__str__(repr(value))
        self._left -= len(text)
        return text

    def _container(self, value: Any, depth: int) -> str | None:
        """Return None for what is no container, is empty, or represents itself."""
        own: object = type(value).__repr__
        brackets = _BRACKETS.get(own)
        if brackets is None or not len(value):
            return None
        if own is dict.__repr__:
            return self._nested(brackets, dict.items(value), len(value), depth, is_dict=True)
        if brackets[0] == "(" and len(value) == 1:
            brackets = ("(", ",)")
        return self._nested(brackets, value, len(value), depth)

    def _nested(
        self,
        brackets: tuple[str, str],
        items: Iterable[Any],
        count: int,
        depth: int,
        *,
        is_dict: bool = False,
    ) -> str:
        opening, closing = brackets
        if depth >= _DEPTH_MAX:
            return f"{opening}…{closing}"
        shown: list[str] = []
        for item in islice(items, _ITEMS_MAX):
            if self._left <= 0:
                break
            self._left -= 2
            if is_dict:
                shown.append(f"{self.show(item[0], depth + 1)}: {self.show(item[1], depth + 1)}")
            else:
                shown.append(self.show(item, depth + 1))
        if len(shown) < count:
            shown.append(f"{CUT} {count - len(shown)} more")
        return opening + ", ".join(shown) + closing
