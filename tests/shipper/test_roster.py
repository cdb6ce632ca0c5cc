"""Who writes into a journal, who is gone, and what is left of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from plet_celery import events
from plet_celery.journal import Writer, WriterLimits, open_journal
from plet_celery.shipper.roster import Roster

LIMITS = WriterLimits(min_free_bytes=0, min_free_percent=0.0, reserve_bytes=0)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    open_journal(tmp_path / "j")
    return tmp_path / "j"


def writing(journal: Path, role: str = "child", parent: str | None = None, settings: str = "") -> Writer:
    writer = Writer(journal, role=role, parent=parent, settings_fingerprint=settings, limits=LIMITS)
    assert writer.append(events.RUN_STARTED, "r", "a", {})
    return writer


def id_of(writer: Writer) -> str:
    assert writer.id is not None
    return writer.id


def test_a_writer_is_alive_while_it_holds_its_file(journal: Path) -> None:
    writer = writing(journal)
    roster = Roster(journal, lambda: None)

    assert roster.look(1.0).alive == {writer.id}
    assert roster.look(2.0).alive == {writer.id}
    assert roster.sight.gone == {}
    writer.close()


def test_files_of_ended_writers_are_not_asked_again_until_they_are_removed(journal: Path) -> None:
    ended, living = writing(journal), writing(journal)
    mine = id_of(ended)
    ended.close()
    roster = Roster(journal, lambda: None)

    looks = [roster.look(float(number)) for number in range(3)]

    (file,) = journal.glob(f"w-{mine}.*")
    assert [set(look.final) for look in looks] == [set(), set(), {file.name}]
    assert looks[2].final[file.name].size == file.stat().st_size
    assert looks[2].alive == {living.id}
    file.unlink()
    sight = roster.look(3.0)
    assert (sight.final, mine in sight.newest) == ({}, False)
    living.close()


def test_only_unsettled_writers_are_searched_for_losses(journal: Path) -> None:
    one, other = writing(journal), writing(journal)
    ids = [id_of(one), id_of(other)]
    for writer in (one, other):
        writer.close()
    roster = Roster(journal, lambda: None)
    roster.look(1.0)

    sight = roster.look(2.0)

    assert set(sight.losers()) == set(ids)
    assert set(sight.losers({ids[0]})) == {ids[1]}


def test_our_own_writer_does_not_count_as_alive(journal: Path) -> None:
    writer = writing(journal, role="shipper")

    sight = Roster(journal, lambda: writer.id).look(1.0)

    assert sight.alive == set()
    assert sight.left({}) == 0
    assert sight.own_left({}) > 0
    writer.close()


def test_a_writer_is_gone_at_the_second_look_that_finds_it_so(journal: Path) -> None:
    writer = writing(journal)
    mine = id_of(writer)
    writer.close()
    roster = Roster(journal, lambda: None)

    first, second = roster.look(1.0), roster.look(2.0)

    assert first.alive == {mine}
    assert first.gone == {}
    assert second.alive == set()
    assert second.gone == {mine: 1.0}


def test_a_known_writer_without_a_file_is_gone(journal: Path) -> None:
    roster = Roster(journal, lambda: None)

    assert roster.look(1.0, known={"lost"}).gone == {"lost": 1.0}
    assert roster.look(2.0, known=set()).gone == {}


def test_a_child_whose_worker_lives_has_somebody_to_report_for_it(journal: Path) -> None:
    worker = writing(journal, role="worker")
    child = writing(journal, parent=worker.id)
    mine = id_of(child)
    child.close()
    roster = Roster(journal, lambda: None)
    roster.look(1.0)

    assert roster.look(2.0).losers()[mine].parent_lives
    worker.close()
    roster.look(3.0)
    assert not roster.look(4.0).losers()[mine].parent_lives


def test_only_living_workers_claim_a_shipper(journal: Path) -> None:
    worker = writing(journal, role="worker", settings="w")
    child = writing(journal, role="child", settings="c")

    claims = Roster(journal, lambda: None).look(1.0).claims()

    assert [claim.fingerprint for claim in claims] == ["w"]
    worker.close()
    child.close()


def test_what_is_left_counts_from_the_checkpoint(journal: Path) -> None:
    writer = writing(journal)
    sight = Roster(journal, lambda: None).look(1.0)
    mine = id_of(writer)
    size = sight.newest[mine].size

    assert sight.left({}) == size
    assert sight.left({mine: (1, size - 10)}) == 10
    assert sight.left({mine: (1, size)}) == 0
    assert sight.left({mine: (0, 5)}) == size
    writer.close()
