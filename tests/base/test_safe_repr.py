"""A repr for anything: bounded, never raising for the object, letting pass what is not the object's."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NoReturn

import pytest
from billiard import common
from billiard.exceptions import SoftTimeLimitExceeded, Terminated, TimeLimitExceeded
from hypothesis import given
from hypothesis import strategies as st

from plet_celery.redaction import LIMIT, safe_repr

Pair = namedtuple("Pair", "left right")


class Thing:
    """Its repr does what it is told."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act

    def __repr__(self) -> str:
        return self._act()  # type: ignore[no-any-return]


def _throw(error: BaseException) -> Callable[[], NoReturn]:
    def act() -> NoReturn:
        raise error

    return act


def _recurse() -> Any:
    return repr(Thing(_recurse))


class SubText(str):
    """A text with methods of its own."""

    __slots__ = ()

    def __len__(self) -> int:
        raise ValueError("no length")

    def __getitem__(self, key: Any) -> NoReturn:
        raise ValueError("no items")


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 1, -1.5, "text", "it's", b"bytes", [], (), {}, set(), frozenset(), deque()),
        *([1, [2, (3,)]], (1,), (1, 2), {"a": {"b": 1}}, {1}, frozenset({1}), deque([1, 2]), bytearray(b"x")),
        *(
            Pair(1, 2),
            OrderedDict(a=1),
            defaultdict(int),
            datetime(2026, 1, 1, tzinfo=UTC),
            range(3),
            1j,
            object,
        ),
    ],
    ids=repr,
)
def test_a_small_object_is_represented_as_repr_does(value: object) -> None:
    assert safe_repr(value) == repr(value)


@pytest.mark.parametrize(
    ("act", "name"),
    [
        (_throw(ValueError("x")), "ValueError"),
        (_throw(SystemExit(3)), "SystemExit"),
        (lambda: sys.exit(1), "SystemExit"),
        (_throw(KeyboardInterrupt()), "KeyboardInterrupt"),
        (_throw(GeneratorExit()), "GeneratorExit"),
        (_throw(MemoryError()), "MemoryError"),
        (_recurse, "RecursionError"),
        (lambda: None, "TypeError"),
        (lambda: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_repr_that_fails_becomes_a_placeholder(act: Callable[[], Any], name: str) -> None:
    assert safe_repr(Thing(act)) == f"<Thing: repr failed ({name})>"
    assert safe_repr([1, Thing(act)]) == f"[1, <Thing: repr failed ({name})>]"


@contextmanager
def _handler(number: signal.Signals, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize(
    "error",
    [
        SoftTimeLimitExceeded(),
        TimeLimitExceeded(1),
        Terminated(15),
        SystemExit(-241),
        TimeoutError("mine"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_signal_handler_raises_passes(error: BaseException) -> None:
    def handle(number: int, frame: object) -> NoReturn:
        raise error

    def act() -> str:
        signal.raise_signal(signal.SIGUSR1)
        return "never"

    with _handler(signal.SIGUSR1, handle), pytest.raises(type(error)):
        safe_repr([Thing(act)])


@pytest.mark.parametrize("error", [SoftTimeLimitExceeded(), TimeLimitExceeded(1), Terminated(15)])
def test_the_pool_limits_pass_however_they_come(error: Exception) -> None:
    with pytest.raises(type(error)):
        safe_repr(Thing(_throw(error)))


def test_the_end_of_a_pool_process_passes() -> None:
    def act() -> str:
        signal.raise_signal(signal.SIGUSR1)
        return "never"

    try:
        with _handler(signal.SIGUSR1, common._shutdown_cleanup), pytest.raises(SystemExit):  # type: ignore[attr-defined]
            safe_repr(Thing(act))
    finally:
        common.clear_terminate_handler_fired()  # type: ignore[attr-defined]


def test_ctrl_c_passes() -> None:
    def act() -> str:
        signal.raise_signal(signal.SIGINT)
        return "never"

    with _handler(signal.SIGINT, signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        safe_repr(Thing(act))


def test_the_cancellation_of_a_coroutine_passes() -> None:
    shown: list[str] = []

    async def show() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            shown.append(safe_repr(Thing(_throw(ValueError()))))
            raise

    async def main() -> None:
        task = asyncio.ensure_future(show())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert shown == ["<Thing: repr failed (ValueError)>"]


def test_containers_are_cut_before_they_are_represented() -> None:
    asked: list[int] = []

    class Row:
        def __repr__(self) -> str:
            asked.append(1)
            return "row"

    shown = safe_repr([Row()] * 1_000_000, 2000)

    assert len(asked) <= 200
    assert shown.startswith("[row, row, ")
    assert shown.endswith("…[cut] 999800 more]")


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10_000_000,
        b"x" * 10_000_000,
        ["x" * 1_000_000] * 100,
        {"x" * 1_000_000: "y" * 1_000_000},
        dict.fromkeys(range(100_000), "y" * 100),
        Thing(lambda: "x" * 1_000_000),
        10**100_000,
        [[[["x" * 9000] * 9] * 9] * 9],
    ],
    ids=["text", "bytes", "list of texts", "dict of texts", "dict", "object", "number", "nested"],
)
def test_the_result_has_at_most_the_limit(value: object) -> None:
    assert len(safe_repr(value)) <= LIMIT
    assert len(safe_repr(value, 100)) <= 100
    assert len(safe_repr(value, 1)) <= 6


def test_a_container_in_itself_ends() -> None:
    cycle: list[Any] = [1]
    cycle += [cycle, cycle]
    table: dict[str, Any] = {}
    table["self"] = table

    assert "…" in safe_repr(cycle)
    assert "…" in safe_repr(table)


def test_text_of_a_subclass_becomes_plain_text() -> None:
    shown = safe_repr(Thing(lambda: SubText("shown")))

    assert type(shown) is str
    assert shown == "shown"


def test_a_class_that_hides_its_name_still_gets_a_placeholder() -> None:
    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise ValueError("no attribute")

    class Hidden(metaclass=Meta):
        pass

    assert safe_repr(Hidden()).endswith("Hidden: repr failed (ValueError)>")
    assert "Meta" not in safe_repr([Hidden()])


def test_containers_with_hostile_methods_are_placeholders() -> None:
    class Items(list[int]):
        def __iter__(self) -> NoReturn:
            raise SystemExit(1)

    class Length(dict[str, int]):
        def __len__(self) -> NoReturn:
            raise ValueError

    assert "repr failed (SystemExit)" in safe_repr(Items([1]))
    assert "repr failed (ValueError)" in safe_repr(Length(a=1))


@given(
    st.recursive(
        st.one_of(st.text(), st.binary(), st.integers()), lambda inner: st.lists(inner) | st.tuples(inner)
    )
)
def test_any_plain_value_fits(value: Any) -> None:
    shown = safe_repr(value, 50)

    assert len(shown) <= 50
    assert shown == repr(value) or "…" in shown
