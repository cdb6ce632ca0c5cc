"""A real shipper removes what has expired and what was erased by itself, beside its work."""

from __future__ import annotations

from pathlib import Path

from removing import folders_below
from shipping import Said, document, shipping, told, writing
from waiting import wait_until

from plet_celery import presence
from plet_celery.errors import RunNotFound
from plet_celery.store import Store, erasing, open_store, queries

SOON = 1.0 / 86_400


def is_gone(store: Store, run: str) -> bool:
    try:
        queries.get_run(store, run)
    except RunNotFound:
        return True
    return False


def test_a_shipper_prunes_its_own_runs_and_those_that_fail_are_kept_longer(tmp_path: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    config = document(tmp_path / "home", retention_days=SOON, prune_every=1.0, mirror=str(share))
    runs = Path(config["home"]) / "runs"

    with shipping(config), writing(config, 1, runs=5, lines=3, hold=True) as writer:
        held = writer.held()["run"]
        assert presence.await_drain(Path(config["journal"]), timeout=60)
        said = Said.in_files(writer.notes)
        ended = [run for run, kinds in said.kinds.items() if kinds["run.succeeded"]]
        assert len(ended) == 5
        store = open_store(config["database_url"], read_only=True)
        wait_until(lambda: all(is_gone(store, run) for run in ended), 60)
        # The run that goes on stays, with its folder and its copy.
        assert not is_gone(store, held)
        assert len(folders_below(runs)) == 1
        wait_until(lambda: len(folders_below(share)) == 1, 60)
        store.close()


def test_a_shipper_removes_the_folder_of_an_erased_run_that_still_runs(tmp_path: Path) -> None:
    config = document(tmp_path / "home", prune_every=1.0)
    runs = Path(config["home"]) / "runs"

    with shipping(config), writing(config, 1, runs=1, lines=3, hold=True) as writer:
        held = writer.held()["run"]
        assert presence.await_drain(Path(config["journal"]), timeout=60)
        assert len(folders_below(runs)) == 2
        store = open_store(config["database_url"])
        done = erasing.erase_run(store, held, mirror=False)
        wait_until(lambda: not erasing.waiting(store, done.digests), 60)
        assert len(folders_below(runs)) == 1
        # Its writer is gone without a word, and the shipper tells its loss: too late to come back.
        writer.process.kill()
        writer.process.wait()
        assert presence.await_drain(Path(config["journal"]), timeout=60)
        assert is_gone(store, held)
        assert len(folders_below(runs)) == 1
        store.close()


def test_a_url_that_names_no_store_ends_no_thread_with_a_traceback(tmp_path: Path) -> None:
    config = document(tmp_path / "home") | {"database_url": "nonsense"}

    with shipping(config):
        wait_until(lambda: "sink failed" in told(config), 30)
        wait_until(lambda: "nothing can be removed" in told(config) or "Traceback" in told(config), 30)

    assert "Traceback" not in told(config)
    assert told(config).count("nothing can be removed") == 1
