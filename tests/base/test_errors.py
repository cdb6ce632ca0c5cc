"""One tree of errors, which survives a pool's pickle."""

from __future__ import annotations

import pickle

import pytest

from plet_celery import errors

ALL = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception)]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_in_the_tree_and_says_when_it_is_raised(kind: type[Exception]) -> None:
    assert issubclass(kind, errors.PletError)
    assert kind.__doc__


@pytest.mark.parametrize("kind", ALL)
def test_every_error_survives_pickling(kind: type[Exception]) -> None:
    again = pickle.loads(pickle.dumps(kind("what happened")))

    assert type(again) is kind
    assert str(again) == "what happened"


def test_a_stale_write_and_an_absent_store_are_store_errors() -> None:
    assert issubclass(errors.StaleWrite, errors.StoreError)
    assert issubclass(errors.StoreUnavailable, errors.StoreError)
    assert issubclass(errors.JournalCorrupt, errors.JournalError)
