"""When a shipper goes on, drains, yields or leaves."""

from __future__ import annotations

import dataclasses

import pytest

from plet_celery.shipper.verdict import Claim, Facts, Verdict, decide, newer_claim, version_key

SERVING = Facts(
    now=1000.0,
    fenced=False,
    yields_to=None,
    writers=1,
    left=True,
    quiet_since=None,
    asked_to_end=None,
    drain_timeout=10.0,
    linger=60.0,
)


def verdict(**changes: object) -> Verdict:
    return decide(dataclasses.replace(SERVING, **changes))  # type: ignore[arg-type]


def test_a_shipper_serves_while_a_writer_lives() -> None:
    assert verdict() is Verdict.SERVE


def test_a_shipper_leaves_after_lingering_without_writers() -> None:
    assert verdict(writers=0, left=False, quiet_since=941.0) is Verdict.SERVE
    assert verdict(writers=0, left=False, quiet_since=940.0) is Verdict.LEAVE


def test_a_shipper_stays_while_something_is_left() -> None:
    assert verdict(writers=0, left=True, quiet_since=None) is Verdict.SERVE


def test_asked_to_end_it_drains_until_all_writers_are_gone() -> None:
    assert verdict(asked_to_end=995.0) is Verdict.SERVE
    assert verdict(asked_to_end=995.0, writers=0) is Verdict.SERVE
    assert verdict(asked_to_end=995.0, writers=0, left=False) is Verdict.DRAINED


def test_asked_to_end_it_waits_no_longer_than_the_drain_timeout() -> None:
    assert verdict(asked_to_end=990.0) is Verdict.DRAINED


def test_a_fence_wins_over_everything() -> None:
    assert verdict(fenced=True, asked_to_end=1.0, yields_to="2 x") is Verdict.FENCED


def test_it_yields_before_it_drains() -> None:
    assert verdict(yields_to="2 x", asked_to_end=999.0) is Verdict.YIELD


def claimed(*claims: Claim, turns: tuple[float, ...] = (), plet: str = "1.2.0") -> Claim | None:
    return newer_claim(claims, plet=plet, fingerprint="mine", started=100.0, turns=turns, wall=1000.0)


def test_a_worker_with_the_same_settings_changes_nothing() -> None:
    assert claimed(Claim(plet="1.2.0", fingerprint="mine", started=200.0)) is None


def test_other_settings_win_if_their_worker_came_later() -> None:
    later = Claim(plet="1.2.0", fingerprint="theirs", started=200.0)
    earlier = Claim(plet="1.2.0", fingerprint="theirs", started=50.0)

    assert claimed(earlier, later) is later
    assert claimed(earlier) is None


def test_a_newer_version_wins_whenever_its_worker_came() -> None:
    newer = Claim(plet="1.10.0", fingerprint="mine", started=50.0)

    assert claimed(newer) is newer


def test_an_older_version_never_wins() -> None:
    assert claimed(Claim(plet="1.1.9", fingerprint="theirs", started=200.0)) is None


def test_two_apps_do_not_hand_a_journal_to_and_fro_for_ever() -> None:
    """After three step-downs in ten minutes the one who serves stays."""
    later = Claim(plet="1.2.0", fingerprint="theirs", started=200.0)

    assert claimed(later, turns=(500.0, 600.0)) is later
    assert claimed(later, turns=(500.0, 600.0, 700.0)) is None
    assert claimed(later, turns=(100.0, 600.0, 700.0)) is later


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("1.10.0", (1, 10, 0)),
        ("1.10.0rc1", (1, 10, 0)),
        ("2", (2,)),
        ("0.1.dev3", (0, 1)),
        ("", ()),
        ("x", ()),
    ],
)
def test_versions_compare_by_their_numbers(text: str, key: tuple[int, ...]) -> None:
    assert version_key(text) == key
