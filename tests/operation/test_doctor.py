"""`celery plet doctor` on real journals and stores, whole and broken."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner
from shipping import document, shipping, writing
from waiting import wait_until

from plet_celery import MaxWait, Plet, events, presence
from plet_celery.cli import plet
from plet_celery.journal import Writer, WriterLimits
from plet_celery.store import condition, open_store
from plet_celery.store.histogram import bin_of, value_of

CANARY = "canary9f3e"


class Patient:
    """A project whose home is `folder/home`."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.home = folder / "home"
        app = Celery(
            "shop", set_as_current=False, broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/1"
        )
        quick = {"home": str(self.home), "min_free_bytes": 0, "min_free_percent": 0.0}
        app.conf.update({f"plet_{name}": value for name, value in (quick | settings).items()})
        Plet(app)
        self.app = app

    def has(self, *names: str) -> None:
        """Give the app tasks of these names."""

        def body() -> None:
            """Do nothing."""

        for name in names:
            self.app.task(name=name, shared=False)(body)

    def examine(self, *options: str) -> tuple[int, dict[str, Any]]:
        """Exit code and report."""
        code, text = self.run("--json", *options)
        return code, json.loads(text)

    def run(self, *options: str) -> tuple[int, str]:
        context = CLIContext(app=self.app, no_color=True, workdir=None)
        done = CliRunner().invoke(plet, ["doctor", *options], obj=context, catch_exceptions=False)
        return done.exit_code, done.stdout

    def finding(self, check: str, *options: str) -> dict[str, Any]:
        """The finding of this name."""
        found = {one["check"]: one for one in self.examine(*options)[1]["findings"]}
        assert check in found, sorted(found)
        return dict(found[check])


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path)


def recorded(home: Path, **settings: Any) -> dict[str, Any]:
    """A home in which one run was recorded and stored."""
    config = document(home, **settings)
    with shipping(config), writing(config, 1, runs=1, lines=3) as writer:
        writer.wait()
        assert presence.await_drain(Path(config["journal"]), timeout=60)
    return config


def test_a_project_that_never_ran_has_nothing_to_mend(patient: Patient) -> None:
    code, report = patient.examine()

    assert code == 0
    assert report["verdict"] == "note"
    assert not patient.home.exists()
    assert report["counts"]["error"] == report["counts"]["warning"] == 0
    told = {one["check"] for one in report["findings"]}
    assert {"places.home", "shipper.server", "store.reach", "celery.broker", "versions"} <= told


def test_a_project_at_work_is_fine(patient: Patient) -> None:
    config = document(patient.home, host_beat=3600.0)
    with shipping(config) as shipper, writing(config, 1, hold=True) as writer:
        writer.held()
        assert presence.await_drain(Path(config["journal"]), timeout=60)

        code, report = patient.examine()

    found = {one["check"]: one for one in report["findings"]}
    assert code == 0
    assert found["shipper.server"]["data"]["pid"] == shipper.pid
    assert found["journal.backlog"]["text"] == "nothing waits"
    assert found["store.schema"]["level"] == "ok"
    assert found["hosts.seen"]["data"]["host"] == socket.gethostname()
    assert report["counts"]["warning"] == report["counts"]["error"] == 0, report["findings"]


def test_what_waits_is_counted(patient: Patient) -> None:
    config = recorded(patient.home, host_beat=3600.0)
    with writing(config, 2, runs=2, lines=10) as writer:
        writer.wait()
        written = len(writer.notes.read_text().splitlines())

    found = patient.finding("journal.backlog")

    assert found["data"]["events"] == written
    assert found["data"]["bytes"] > 0
    assert found["data"]["is_all"]


def test_a_journal_that_nobody_ships_is_an_error_where_somebody_should(tmp_path: Path) -> None:
    patient = Patient(tmp_path, shipper="external")
    config = recorded(patient.home)
    with writing(config, 2, hold=True) as writer:
        writer.held()

        code, report = patient.examine("-q")

    assert code == 1
    (found,) = [one for one in report["findings"] if one["check"] == "shipper.server"]
    assert found["fix"] == "start plet -A shop ship (plet_shipper is 'external')"


def test_a_store_that_is_down_is_a_finding_and_the_rest_is_told(tmp_path: Path) -> None:
    patient = Patient(tmp_path, database_url=f"postgresql+psycopg://plet:{CANARY}@127.0.0.1:1/plet")
    document(patient.home)

    code, report = patient.examine()

    found = {one["check"]: one for one in report["findings"]}
    assert code == 69
    assert found["store.reach"]["level"] == "error"
    assert "refused" in found["store.reach"]["text"]
    assert found["places.journal"]["level"] == "ok"
    assert CANARY not in json.dumps(report)


def test_a_store_that_never_answers_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        port = mute.getsockname()[1]
        patient = Patient(tmp_path, database_url=f"mysql+pymysql://plet:{CANARY}@127.0.0.1:{port}/plet")

        code, report = patient.examine("--timeout", "1")

    found = {one["check"]: one for one in report["findings"]}
    assert code == 69
    assert "no answer within 1 s" in found["store.reach"]["text"]
    assert "places.home" in found


def test_an_engine_that_is_not_supported_is_a_finding(tmp_path: Path) -> None:
    code, report = Patient(tmp_path, database_url=f"oracle://plet:{CANARY}@host/db").examine()

    assert code == 69
    assert CANARY not in json.dumps(report)


def test_a_home_that_is_a_file_is_a_finding(patient: Patient) -> None:
    patient.home.write_text("not a folder")

    found = patient.finding("places.home")

    assert found["level"] == "error"
    assert "is a file" in found["text"]


def test_a_home_that_may_not_be_looked_into_is_a_finding(patient: Patient) -> None:
    recorded(patient.home)
    patient.examine()
    patient.home.chmod(0o000)
    root = os.geteuid() == 0

    if root:  # whom no mode keeps out
        os.seteuid(65534)
    try:
        code, report = patient.examine()
    finally:
        if root:
            os.seteuid(0)
        patient.home.chmod(0o700)

    found = {one["check"]: one for one in report["findings"]}
    assert code == 69
    assert found["store.reach"]["level"] == "error"


def test_a_journal_that_others_can_write_is_a_finding(patient: Patient) -> None:
    config = document(patient.home)
    Path(config["journal"]).chmod(0o777)

    found = patient.finding("places.journal")

    assert found["level"] == "error"
    assert found["fix"].startswith("chmod go-w ")


def test_damage_is_a_finding_never_a_traceback(patient: Patient) -> None:
    config = recorded(patient.home)
    journal = Path(config["journal"])
    (journal / f"w-{'1' * 32}.00000001.plj").write_bytes(b"\x1ethis is no record\n" * 50)
    (journal / "w-nonsense.plj").touch()
    quarantine = journal / "quarantine"
    quarantine.mkdir(mode=0o700, exist_ok=True)
    (quarantine / f"w-{'2' * 32}.00000001.plj").write_bytes(b"junk")

    _, report = patient.examine()

    found = {one["check"]: one for one in report["findings"]}
    assert found["journal.damage"]["data"]["bytes"] > 0
    assert found["journal.quarantine"]["data"] == {"files": 1, "bytes": 4}
    assert found["journal.ignored"]["data"]["files"] == {"w-nonsense.plj": "name"}


def test_a_journal_without_readable_facts_is_a_finding(patient: Patient) -> None:
    config = recorded(patient.home)
    (Path(config["journal"]) / "journal.json").write_text("{")
    (Path(config["journal"]) / "ship.beat").write_text("[]")

    code, report = patient.examine()

    found = {one["check"]: one for one in report["findings"]}
    assert code == 1
    assert "is damaged" in found["journal.info"]["text"]
    assert "move the journal's folder away" in found["journal.info"]["fix"]


def test_a_store_of_another_journal_is_a_finding(tmp_path: Path) -> None:
    one = Patient(tmp_path)
    recorded(one.home)
    (tmp_path / "other").mkdir()
    recorded(tmp_path / "other" / "home")

    two = Patient(tmp_path, database_url=f"sqlite:///{tmp_path / 'other' / 'home' / 'plet.db'}")

    assert two.finding("store.identity")["level"] == "error"


def test_a_store_without_tables_says_how_to_make_them(tmp_path: Path, postgres_url: str) -> None:
    patient = Patient(tmp_path, database_url=postgres_url)

    code, report = patient.examine("-q")

    found = {one["check"]: one for one in report["findings"]}
    assert code == 1
    assert found["store.schema"]["fix"] == "plet -A shop migrate"
    # One cause is one finding.
    assert not {name for name in found if name.startswith(("hosts", "store"))} - {"store.schema"}


def test_warnings_count_only_where_that_is_asked_for(tmp_path: Path) -> None:
    patient = Patient(tmp_path)
    patient.app.conf.accept_content = ["json", "pickle"]

    assert patient.examine()[0] == 0
    assert patient.examine("--fail-on", "warning")[0] == 3


def test_promises_that_no_task_stands_behind_are_told(tmp_path: Path) -> None:
    objectives = {"shop.imports.*": [MaxWait(60)], "shop.import_*": [MaxWait(60)], "shop.lod": [MaxWait(9)]}
    patient = Patient(tmp_path, objectives=objectives)
    patient.has("shop.import_catalogue", "shop.load")

    pattern, name = patient.finding("objectives.patterns"), patient.finding("objectives.names")

    assert (pattern["level"], pattern["data"]) == ("warning", {"patterns": ["shop.imports.*"]})
    assert (name["level"], name["data"]) == ("note", {"names": ["shop.lod"]})
    assert name["fix"].endswith("; there is 'shop.load'")
    printed = patient.run()[1]
    assert "Promises" in printed and "shop.imports.*" in printed and "shop.lod" in printed


def test_promises_that_tasks_stand_behind_are_not_told(tmp_path: Path) -> None:
    patient = Patient(tmp_path, objectives={"shop.*": [MaxWait(60)], "shop.load": [MaxWait(9)]})
    patient.has("shop.load")

    _, report = patient.examine()

    assert not [one for one in report["findings"] if one["check"].startswith("objectives")]


def test_the_report_in_a_pipe_is_plain_lines(patient: Patient) -> None:
    code, text = patient.run()

    assert code == 0
    lines = text.splitlines()
    assert lines[0].startswith("· nothing to mend")
    assert "Where things live" in lines
    assert any(re.fullmatch(r"  ✔ broker +redis://127\.0\.0\.1:1/0", line) for line in lines)
    assert "\x1b" not in text


def test_no_secret_is_told_in_any_form(tmp_path: Path) -> None:
    """Canaries in broker, backend, database, settings and environment; the store and the broker are away."""
    (tmp_path / "proj.py").write_text(
        f"""
from celery import Celery
from plet_celery import Plet
app = Celery("proj", broker="sentinel://:{CANARY}-b1@127.0.0.1:1;sentinel://:{CANARY}-b2@127.0.0.1:2",
             backend="redis://user:{CANARY}-r/x@127.0.0.1:1/1")
app.conf.update(
    plet_database_url="postgresql+psycopg://plet:{CANARY}-d@127.0.0.1:1/plet?sslpassword={CANARY}-q",
    plet_redact_values_secret=("{CANARY}-v1",),
    shop_api_token="{CANARY}-t",
    broker_transport_options={{"sentinel_kwargs": {{"password": "{CANARY}-s"}}}},
)
plet = Plet(app)
"""
    )
    home = tmp_path / f"home-{CANARY}-v1"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PLET_", "CELERY_"))}
    env = kept | {"PLET_HOME": str(home), "SHOP_PASSWORD": f"{CANARY}-e", "MY_TOKEN": f"{CANARY}-e2"}
    for options in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "proj", "plet", "doctor", *options],
            cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

        assert done.returncode == 69, done.stderr
        assert "Traceback" not in done.stderr
        assert CANARY not in done.stdout + done.stderr
        assert "store" in done.stdout.lower()


@contextlib.contextmanager
def opened(url: str) -> Iterator[Any]:
    store = open_store(url)
    try:
        yield store
    finally:
        store.close()


def test_every_engine_tells_its_condition(database_url: str) -> None:
    with opened(database_url) as store:
        store.ensure_schema()
        tables = store.tables
        letter = {
            "writer": "w" * 32, "segment": 1, "offset": 7, "journal_id": "j" * 32, "at": 1.0,
            "buried_at": 2.0, "kind": "stage.started", "run_id": "r", "reason": "too long", "record": "{}",
        }  # fmt: skip
        drop = {
            "run_id": "", "attempt_id": "", "at": 100.0, "writer": "w" * 32, "segment": 1, "offset": 9,
            "number": 1, "journal_id": "j" * 32, "kind": "events.dropped", "level": None,
            "data": '{"count":5,"reasons":{"disk":3,"rate":2}}',
        }  # fmt: skip
        bins = [
            {
                "journal_id": "j" * 32, "bucket": bucket, "task": "shop.load", "queue": "", "tenant": "",
                "state": "succeeded", "measure": measure, "bin": place, "count": 1,
            }
            for bucket, measure, place in ((0, "runtime", 100), (300, "runtime", 120), (300, "waited", 200))
        ]  # fmt: skip
        with store.engine.connect().execution_options(plet_writes=True) as connection, connection.begin():
            connection.execute(
                tables.dead_letter.insert(), [letter, letter | {"offset": 8, "buried_at": 3.0}]
            )
            connection.execute(tables.event.insert(), [drop, drop | {"offset": 10, "at": 1.0}])
            connection.execute(tables.rollup_bin.insert(), bins)

        letters = condition.dead_letters(store, newest=1)
        answer = condition.answer(store)

        assert (letters.count, [one.offset for one in letters.newest]) == (2, [8])
        assert condition.dropped(store, since=50.0) == {"disk": 3, "rate": 2}
        assert condition.longest_runtimes(store) == {"shop.load": pytest.approx(value_of(120))}
        assert abs(answer.ahead) < 30
        assert condition.size_bytes(store) > 10_000


def test_the_longest_run_is_told_of_the_task(tmp_path: Path) -> None:
    patient = Patient(tmp_path)
    recorded(patient.home)
    with opened(f"sqlite:///{patient.home / 'plet.db'}") as store:
        row = {
            "journal_id": "j" * 32, "bucket": 0, "task": "shop.load", "queue": "", "tenant": "",
            "state": "succeeded", "measure": "runtime", "bin": bin_of(7200.0), "count": 1,
        }  # fmt: skip
        with store.engine.connect().execution_options(plet_writes=True) as connection, connection.begin():
            connection.execute(sa.insert(store.tables.rollup_bin), [row])

    found = patient.finding("celery.visibility_timeout")

    assert found["level"] == "warning"
    assert "shop.load (longest run 2 h" in found["text"] or "shop.load (longest run 1 h 5" in found["text"]


def test_a_frozen_shipper_is_an_error(tmp_path: Path) -> None:
    patient = Patient(tmp_path, lease_stale=0.5)
    config = document(patient.home)
    with shipping(config) as shipper:
        shipper.send_signal(signal.SIGSTOP)

        found = wait_until(
            lambda: next(
                (
                    one
                    for one in patient.examine()[1]["findings"]
                    if one["check"] == "shipper.server" and one["level"] == "error"
                ),
                None,
            ),
            30,
        )

    assert found is not None
    assert "it is frozen" in found["text"]


def test_events_that_never_came_are_told_before_and_after_the_store_has_the_rest(patient: Patient) -> None:
    config = recorded(patient.home)
    _write_with_losses(Path(config["journal"]))

    waiting = patient.examine()[1]["findings"]
    with shipping(config):
        assert presence.await_drain(Path(config["journal"]), timeout=60)
        stored = _told(patient, "shipper.gaps", "store.drops")

    before = {one["check"]: one["data"] for one in waiting if one["level"] == "warning"}
    assert before["journal.gaps"] == {"segments": 1}
    assert before["journal.drops"] == {"reasons": {"shed_debug_log": 3}}
    assert stored["shipper.gaps"]["data"] == {"segments": 1}
    assert stored["store.drops"]["data"] == {"reasons": {"shed_debug_log": 3}}


def test_what_the_store_has_refused_is_told(patient: Patient) -> None:
    recorded(patient.home)
    with opened(f"sqlite:///{patient.home / 'plet.db'}") as store:
        letter = {
            "writer": "w" * 32, "segment": 1, "offset": 7, "journal_id": "j" * 32, "at": 1.0,
            "buried_at": 2.0, "kind": "stage.started", "run_id": "r", "reason": "too long", "record": "{}",
        }  # fmt: skip
        with store.writing() as connection:
            connection.execute(store.tables.dead_letter.insert(), [letter])

    found = patient.finding("store.dead_letters")

    assert found["level"] == "warning"
    assert "too long" in found["text"]


def test_a_clock_that_is_wrong_is_told_by_every_host(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import time\ntrue = time.time\ntime.time = lambda: true() + 300\n"
    )
    config = document(tmp_path / "wrong") | {"database_url": postgres_url}
    with opened(postgres_url) as store:
        store.ensure_schema()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    with shipping(config):
        here = Patient(tmp_path, database_url=postgres_url)
        found = _told(here, "hosts.skew")["hosts.skew"]

    assert found["data"]["skew"] == pytest.approx(300, abs=30)
    assert re.search("its clock is (5 m|4 m 5)", found["text"]), found["text"]


def _write_with_losses(journal: Path) -> None:
    """Lose a segment that somebody removes, and three lines for which the disk has no room."""
    roomy = WriterLimits(segment_max_bytes=64 << 10, min_free_bytes=0, min_free_percent=0.0, reserve_bytes=0)
    text = "x" * 1000
    with contextlib.closing(Writer(journal, role="child", limits=roomy)) as writer:
        for number in range(150):
            line = {"level": 20, "stream": "task", "text": text, "i": number, "o": number * len(text)}
            assert writer.append(events.LOG_WRITTEN, "r1", "a1", line)
        (journal / f"w-{writer.id}.00000001.plj").unlink()
    with contextlib.closing(
        Writer(journal, role="child", limits=replace(roomy, min_free_percent=100.0))
    ) as tight:
        line = {"level": 10, "stream": "task", "text": "", "i": 1, "o": 0}
        assert [tight.append(events.LOG_WRITTEN, "r2", "a2", line) for _ in range(3)] == [False] * 3
        assert tight.append(events.RUN_SUCCEEDED, "r2", "a2", {"by": "child", "runtime": 0.1})


def _told(patient: Patient, *checks: str) -> dict[str, Any]:
    """Wait until all findings of these names are there; return them."""

    def found() -> dict[str, Any] | None:
        told = {one["check"]: one for one in patient.examine()[1]["findings"]}
        return {name: told[name] for name in checks} if set(checks) <= set(told) else None

    all_of_them = wait_until(found, 30)
    assert all_of_them is not None
    return all_of_them
