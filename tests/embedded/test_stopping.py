"""The first signal asks, the second hurries, and neither tears a clean-up apart."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from plet_celery.embedded.stopping import Stopped, Stopping


@pytest.fixture(autouse=True)
def _handlers_come_back() -> Iterator[None]:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    yield
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_the_first_signal_interrupts(number: signal.Signals, code: int) -> None:
    with Stopping() as stopping, pytest.raises(Stopped) as caught:
        signal.raise_signal(number)

    assert caught.value.exit_code == code
    assert not stopping.in_a_hurry()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_was_swallowed_comes_again() -> None:
    class Fragile:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    with Stopping() as stopping:
        fragile = Fragile()
        del fragile

        with pytest.raises(Stopped, match="SIGTERM"):
            stopping.check()
        with pytest.raises(Stopped, match="SIGTERM"):
            signal.raise_signal(signal.SIGINT)


def test_a_second_signal_only_hurries_the_clean_up() -> None:
    with Stopping() as stopping:
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGINT)
        stopping.begin()

        signal.raise_signal(signal.SIGINT)

        assert stopping.in_a_hurry()


def test_a_signal_during_the_clean_up_of_an_ordinary_end_does_not_interrupt_it() -> None:
    with Stopping() as stopping:
        stopping.begin()

        signal.raise_signal(signal.SIGTERM)
        assert not stopping.in_a_hurry()
        signal.raise_signal(signal.SIGTERM)

        assert stopping.in_a_hurry()


def test_a_shielded_block_runs_to_its_end_first() -> None:
    done = []
    with Stopping() as stopping, pytest.raises(Stopped), stopping.shield():
        signal.raise_signal(signal.SIGTERM)
        done.append("noted")

    assert done == ["noted"]


def test_a_block_that_fails_leaves_no_shield_behind() -> None:
    with Stopping() as stopping:
        with pytest.raises(ValueError), stopping.shield():
            raise ValueError

        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)


def test_a_hangup_that_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stopping():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
