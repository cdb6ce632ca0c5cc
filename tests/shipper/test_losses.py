"""Which writers' open attempts are lost, and what is told of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plet_celery.shipper.losses import Gone, Losses, loss


@dataclass
class Open:
    """An attempt without an end, as the store returns it."""

    attempt_id: str = "a1"
    run_id: str = "r1"
    task: str | None = "shop.import"
    queue: str | None = None
    tenant: str | None = "acme"
    worker: str | None = "celery@atlas"
    pid: int | None = 7
    started: float | None = 100.0
    queued_at: float | None = None


class Journal:
    """Takes appends until it is full."""

    def __init__(self, room: int = 99) -> None:
        self.taken: list[tuple[str, str | None, str | None, dict[str, Any]]] = []
        self.room = room

    def append(self, kind: str, run: str | None, attempt: str | None, data: dict[str, Any]) -> bool:
        if len(self.taken) >= self.room:
            return False
        self.taken.append((kind, run, attempt, data))
        return True


def test_a_writer_whose_worker_lives_is_given_time() -> None:
    losses = Losses(grace=15.0)
    gone = {"w": Gone(since=100.0, parent_lives=True)}

    assert losses.due(gone, 114.9) == []
    assert losses.due(gone, 115.0) == ["w"]


def test_a_writer_whose_worker_is_gone_too_is_lost_at_once() -> None:
    assert Losses(grace=15.0).due({"w": Gone(since=100.0, parent_lives=False)}, 100.0) == ["w"]


def test_a_worker_without_an_end_is_lost_once() -> None:
    losses, journal = Losses(grace=0.0), Journal(room=1)

    assert not losses.settle("w", [Open()], None, journal.append, "atlas", worker="celery@atlas")
    journal.room = 99
    assert losses.settle("w", [Open()], None, journal.append, "atlas", worker="celery@atlas")

    assert [kind for kind, *_ in journal.taken] == ["worker.lost", "run.lost"]
    assert journal.taken[0][3]["writer"] == "w"


def test_a_settled_writer_is_not_asked_for_again() -> None:
    losses, journal = Losses(grace=0.0), Journal()

    assert losses.settle("w", [Open()], (3, 400), journal.append, "atlas")

    assert losses.due({"w": Gone(since=0.0, parent_lives=False)}, 100.0) == []
    assert [kind for kind, *_ in journal.taken] == ["run.lost"]


def test_a_loss_that_the_journal_refused_is_told_later_and_the_others_once() -> None:
    losses, journal = Losses(grace=0.0), Journal(room=1)
    attempts = [Open(), Open(attempt_id="a2")]

    assert not losses.settle("w", attempts, (1, 1), journal.append, "atlas")
    assert losses.due({"w": Gone(since=0.0, parent_lives=False)}, 1.0) == ["w"]
    journal.room = 99
    assert losses.settle("w", attempts, (1, 1), journal.append, "atlas")

    assert [attempt for _, _, attempt, _ in journal.taken] == ["a1", "a2"]
    assert losses.told == set()


def test_a_loss_names_the_writer_its_tail_and_what_is_known_of_the_attempt() -> None:
    told = loss(Open(), writer="w", after=(3, 400), host="atlas")

    assert told == {
        "by": "shipper",
        "reason": "its process ended without an end of the run",
        "writer": "w",
        "after": [3, 400],
        "host": "atlas",
        "task": "shop.import",
        "tenant": "acme",
        "worker": "celery@atlas",
        "pid": 7,
        "started": 100.0,
    }
