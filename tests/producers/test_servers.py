"""Web servers: workers forked after a first publish (gunicorn --preload), spawned ones (uvicorn)."""

from __future__ import annotations

from typing import Any

from waiting import wait_until

from plet_celery.journal_keeping import segments
from plet_celery.shipper.roster import read_header


def test_gunicorn_workers_forked_after_a_publish_write_files_of_their_own(served: Any) -> None:
    bind = f"unix:{served.socket}"
    with served.running(
        "gunicorn", "gunicorn_app:application", "--preload", "--workers", "2", "--bind", bind
    ) as server:
        server.until("Booting worker")
        wait_until(served.socket.exists, 60)
        answers: list[dict[str, Any]] = []

        def both_have_answered() -> bool:
            answers.append(served.ask("GET", "/"))
            return len({answer["pid"] for answer in answers}) == 2

        wait_until(both_have_answered, 60)
        family = server.family()
        said = server.said()
        master = server.process.pid

    # Nothing but gunicorn's own two workers was started.
    assert len(family) == 2 and all("gunicorn" in line for line in family), family
    assert "plet_celery" not in said and "Traceback" not in said
    assert server.process.returncode == 0
    # Published before the fork, and once.
    assert len({answer["first"] for answer in answers}) == 1
    first, ids = answers[0]["first"], [answer["run"] for answer in answers]
    runs = served.queued(first, *ids)
    assert [run.trigger for run in runs] == ["manual", *["api"] * len(ids)]
    assert {run.user for run in runs[1:]} == {"bob"}
    writers = served.writers_of([first, *ids])
    headers = {segment.writer: read_header(segment) for segment in segments(served.journal)}
    pids = {headers[writer].pid for writer in writers}  # type: ignore[union-attr]
    assert pids == {master, *(answer["pid"] for answer in answers)}
    assert len(writers) == 3


def test_fastapi_under_uvicorn_workers_publishes_and_tells_progress(host: Any, valkey: Any) -> None:
    host.env["CALLING_BACKEND"] = valkey.result_url
    worker = ("-A", "calling", "worker", "-P", "solo", "-l", "info")
    with (
        host.running("celery", *worker) as works,
        host.running("uvicorn", "fastapi_app:api", "--workers", "2", "--uds", str(host.socket)) as server,
    ):
        works.until(" ready.")
        server.until("Application startup complete")
        wait_until(host.socket.exists, 60)
        wait_until((host.journal / "ship.beat").exists, 60)

        run_id = host.ask("POST", "/imports?rows=10")["run"]
        waiting = host.ask("POST", "/imports?rows=10")["run"]

        def half() -> bool:
            told = host.ask("GET", f"/imports/{run_id}")
            return bool(told == {"state": "PROGRESS", "percent": 50.0, "stage": "load"})

        wait_until(half, 60, what=lambda: str(host.ask("GET", f"/imports/{run_id}")))
        (queued,) = host.queued(waiting)
        assert (queued.state, queued.trigger, queued.user, queued.tenant) == (
            "queued",
            "api",
            "bob",
            "acme/north",
        )
        assert host.ask("GET", f"/imports/{waiting}")["state"] == "PENDING"
        family = server.family()
        assert not any("plet_celery" in line for line in family), family
        assert len(host.shippers()) == 1
        (host.folder / "go").touch()
        wait_until(lambda: host.ask("GET", f"/imports/{waiting}")["state"] == "SUCCESS", 60)
        assert host.ask("GET", f"/imports/{waiting}")["percent"] == 100.0

    wait_until(lambda: host.shippers() == [], 60, what="the worker's shipper has gone")


def test_uvicorn_that_reloads_goes_on_with_another_writer(served: Any) -> None:
    code = """\
from calling import add
from fastapi import FastAPI
api = FastAPI()
@api.get("/")
def publish() -> dict[str, object]:
    return {"version": "one", "run": add.delay(1, 2).id}
"""
    file = served.folder / "reloaded.py"
    file.write_text(code)
    answers: list[dict[str, Any]] = []

    def says(version: str) -> bool:
        try:
            answers.append(served.ask("GET", "/"))
        except OSError:
            return False
        return bool(answers[-1]["version"] == version)

    with served.running("uvicorn", "reloaded:api", "--reload", "--uds", str(served.socket)) as server:
        wait_until(lambda: says("one"), 60, what=server.said)
        aside = served.folder / "aside.txt"
        aside.write_text(code.replace("one", "number two"))
        aside.replace(file)  # at once: half a file is no module
        wait_until(lambda: says("number two"), 60, every=0.1, what=server.said)
        family = server.family()

    assert not any("plet_celery" in line for line in family), family
    ids = [answer["run"] for answer in answers]
    served.queued(ids[0], ids[-1])
    assert len(served.writers_of(ids)) == 2
