"""Two users of one machine with one plet home: a journal each, and nothing of the other's."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from living import NOBODY, Team, as_nobody, beat_of, told
from services import RedisPlace, missing
from waiting import wait_until

from plet_celery import paths
from plet_celery.embedded.valkey import Valkey
from plet_celery.errors import HomeError, StoreError
from plet_celery.journal import open_journal
from plet_celery.journal_keeping import list_journal
from plet_celery.store import open_store


@pytest.fixture(autouse=True)
def root() -> None:
    """Every test here starts a process as another user."""
    if os.getuid() != 0:
        missing("root", "run the tests as root: starting a process as another user takes it")


@pytest.fixture
def team(valkey: Valkey, redis_place: RedisPlace) -> Iterator[Team]:
    """A folder that another user may enter, and a broker that it may use."""
    folder = Path(tempfile.mkdtemp(prefix="plet-test-users-", dir="/tmp"))
    folder.chmod(0o777)
    made = Team(folder, valkey)
    made.env |= {
        "LIFE_BROKER": redis_place.url, "LIFE_BACKEND": redis_place.url, "LIFE_PREFIX": redis_place.prefix,
        "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    made.publish_to(redis_place.url, redis_place.prefix)
    yield made
    made.close()
    shutil.rmtree(folder)


def shared(home: Path) -> None:
    """What docs/shipper.md says of a home for several users."""
    home.mkdir(mode=0o755)
    for name in ("journal", "runs"):
        (home / name).mkdir()
        (home / name).chmod(0o1777)


def modes(home: Path) -> dict[str, str]:
    """What lies in a home open for others."""
    found = {}
    for path in home.rglob("*"):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue  # A shipper writes a file beside the one that it replaces.
        if stat.S_IMODE(status.st_mode) & 0o077:
            found[str(path.relative_to(home))] = oct(stat.S_IMODE(status.st_mode))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("mask", ["000", "077"])
def test_two_users_have_a_journal_each_and_nothing_open_to_others(
    postgres_url: str, team: Team, mask: str
) -> None:
    team.env["PLET_DATABASE_URL"] = postgres_url
    subprocess.run([sys.executable, "-m", "celery", "-A", "lifeapp", "plet", "migrate"],
                   env=team.env, cwd=team.folder, check=True, capture_output=True)  # fmt: skip
    shared(team.home)
    masked = ("sh", "-c", f'umask {mask}; exec "$@"', "sh")
    ours = team.start("-c", "1", "-Q", "ours", prefix=masked, wait=False)
    theirs = team.start("-c", "1", "-Q", "theirs", prefix=(*as_nobody(), *masked), wait=False)
    for worker in (ours, theirs):
        team.await_ready(worker)

    ids = team.submit("life.say", "hello", count=5, queue="ours")
    ids += team.submit("life.say", "hello", count=5, queue="theirs")

    team.await_states(ids, succeeded=10)
    journals = [team.home / "journal" / str(uid) for uid in (0, NOBODY)]
    assert [journal.stat().st_uid for journal in journals] == [0, NOBODY]
    beats = [beat_of(journal) for journal in journals]
    assert [beat and beat.process.uid for beat in beats] == [0, NOBODY]
    for uid in (0, NOBODY):
        wait_until(lambda: len(list((team.home / "runs" / str(uid)).glob("_/*/run.log"))) == 5, 60)  # noqa: B023
    assert set(modes(team.home)) == {"journal", "runs"}
    assert [team.stop(ours), team.stop(theirs)] == [0, 0]
    assert "sink failed" not in "".join(map(told, journals))


@pytest.mark.slow
def test_a_second_user_of_a_sqlite_store_is_refused_with_the_way_out(team: Team) -> None:
    shared(team.home)
    team.home.chmod(0o1777)
    ours = team.start("-c", "1", "-Q", "ours")
    team.await_states(team.submit("life.ok", count=2, queue="ours"), succeeded=2)

    theirs = team.start("-c", "1", "-Q", "theirs", prefix=as_nobody())

    assert "SQLite serves one user: set plet_database_url" in team.output(theirs)
    assert not (team.home / "journal" / str(NOBODY)).exists()
    (run,) = team.submit("life.ok", queue="theirs")
    wait_until(lambda: "succeeded in" in team.output(theirs), 60)
    assert team.states([run]) == {"missing": 1}
    assert [team.stop(theirs), team.stop(ours)] == [0, 0]


def run_as_nobody(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*as_nobody(), sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


def test_another_user_can_neither_write_into_a_journal_nor_plant_a_segment(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="plet-test-users-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        journal = folder / "journal"
        open_journal(journal)
        name = f"w-{'a' * 32}.00000001.plj"
        plant = "import sys; open(sys.argv[1], 'w').write('x')"

        assert "PermissionError" in run_as_nobody(plant, journal / name).stderr

        # Even where the folder was open for a moment: what somebody else owns is no segment.
        journal.chmod(0o777)
        assert run_as_nobody(plant, journal / name).returncode == 0
        with pytest.raises(HomeError, match="writable by others"):
            open_journal(journal)
        journal.chmod(0o700)
        listing = list_journal(journal)
        assert (listing.segments, listing.ignored) == ([], {name: "owner"})
    finally:
        shutil.rmtree(folder)


def test_a_journal_that_somebody_else_has_made_in_our_name_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    squatted = paths.journal_directory(home)
    squatted.mkdir(parents=True)
    os.chown(squatted, NOBODY, NOBODY)

    with pytest.raises(HomeError, match=f"belongs to uid {NOBODY}"):
        open_journal(squatted)


def test_the_store_file_of_another_user_is_not_written(tmp_path: Path) -> None:
    file = tmp_path / "plet.db"
    file.touch(mode=0o600)
    os.chown(file, NOBODY, NOBODY)

    with pytest.raises(StoreError, match="SQLite serves one user"):
        open_store(f"sqlite:///{file}").ensure_schema()


def test_runs_of_another_user_are_refused_unless_made_for_several(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir(mode=0o755)
    assert paths.runs_directory(tmp_path) == runs
    os.chown(runs, NOBODY, NOBODY)

    with pytest.raises(HomeError, match="chmod 1777"):
        paths.refuse_others_home(tmp_path, embedded_store=False)

    runs.chmod(0o1777)
    paths.refuse_others_home(tmp_path, embedded_store=False)
    assert paths.runs_directory(tmp_path) == runs / "0"
