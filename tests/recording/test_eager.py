# mypy: disable-error-code="untyped-decorator"
"""Eager tasks, in the caller's process, over a real journal: ends, nesting, and nothing left behind."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, Task
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from plet_celery import Plet, TrackedTask, current_run
from plet_celery.current import NULL_RUN
from plet_celery.errors import SettingsError
from plet_celery.plet import RecordingStep

MakeApp = Callable[..., Any]


def do_nothing() -> None: ...


def test_a_no_op_task_writes_two_events(make_app: MakeApp) -> None:
    recorded = make_app()

    @recorded.app.task(shared=False, name="noop")
    def noop() -> None: ...

    result = noop.apply()

    assert recorded.kinds(result.id) == ["run.started", "run.succeeded"]
    started, ended = recorded.events(result.id)
    assert started.data["pool"] == "eager"
    assert started.attempt == ended.attempt and len(started.attempt) == 24
    assert ended.data["runtime"] >= 0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("x"), "run.failed"),
        (SoftTimeLimitExceeded(), "run.timed_out"),
        (Ignore("no"), "run.ignored"),
        (Reject("bad", requeue=False), "run.rejected"),
    ],
)
@pytest.mark.parametrize("propagates", [False, True])
def test_each_exception_gives_its_end(
    make_app: MakeApp, error: Exception, kind: str, propagates: bool
) -> None:
    recorded = make_app(task_eager_propagates=propagates)

    @recorded.app.task(shared=False, name="leave")
    def leave() -> None:
        raise error

    try:
        leave.apply(task_id="the-run")
    except Exception as raised:
        assert raised is error

    assert recorded.kinds("the-run") == ["run.started", kind]


def test_an_eager_retry_is_a_second_attempt(make_app: MakeApp) -> None:
    recorded = make_app()

    @recorded.app.task(shared=False, name="flaky", bind=True, max_retries=2)
    def flaky(self: Task[Any, Any]) -> str:
        if self.request.retries == 0:
            raise self.retry(exc=ConnectionError("later"), countdown=0)
        return "done"

    result = flaky.apply()

    assert recorded.kinds(result.id) == ["run.started", "run.retried", "run.started", "run.succeeded"]
    attempts = [event.attempt for event in recorded.events(result.id)]
    assert attempts[0] == attempts[1] and attempts[2] == attempts[3] != attempts[0]


def test_a_task_called_in_a_task_inherits_and_gives_back(make_app: MakeApp) -> None:
    recorded = make_app()

    @recorded.app.task(shared=False, name="inner")
    def inner() -> None:
        logging.getLogger("shop").warning("inner line")

    @recorded.app.task(shared=False, name="outer")
    def outer() -> None:
        inner.apply(task_id="inner-run")
        logging.getLogger("shop").warning("outer line")

    outer.apply(task_id="outer-run", headers={"plet_tenant": "acme", "plet_trigger": "api"})

    started = {event.run: event.data for event in recorded.events() if event.kind == "run.started"}
    assert started["inner-run"]["tenant"] == "acme"
    assert (started["outer-run"]["trigger"], started["inner-run"]["trigger"]) == ("api", "task")
    lines = {event.data["text"]: event.run for event in recorded.events() if event.kind == "log.written"}
    assert lines == {"inner line": "inner-run", "outer line": "outer-run"}


def test_nothing_of_ours_stays_in_the_process(make_app: MakeApp) -> None:
    recorded = make_app()
    before = sys.stdout, sys.stderr

    @recorded.app.task(shared=False, name="talk")
    def talk() -> None:
        print("hello")

    talk.apply()

    assert (sys.stdout, sys.stderr) == before
    assert current_run() is NULL_RUN


def test_a_direct_call_is_no_run(make_app: MakeApp) -> None:
    recorded = make_app()

    @recorded.app.task(shared=False, name="direct", base=TrackedTask, bind=True)
    def direct(self: TrackedTask) -> str:
        with self.stage("load"):
            self.metadata["key"] = "value"
        return str(self.metadata["key"])

    assert direct() == "value"
    assert recorded.events() == []


def test_two_apps_in_a_process_record_each_its_own(make_app: MakeApp) -> None:
    one, two = make_app(), make_app()

    @one.app.task(shared=False, name="mine")
    def mine() -> None: ...

    mine.apply(task_id="mine-run")

    assert one.kinds() == ["run.started", "run.succeeded"]
    assert two.kinds() == []


def test_patterns_choose_what_is_recorded(make_app: MakeApp) -> None:
    recorded = make_app(plet_record_tasks=["shop.*"], plet_ignore_tasks=["shop.noise"])

    for name in ("shop.load", "shop.noise", "other.load"):
        recorded.app.task(shared=False, name=name)(do_nothing).apply(task_id=name)

    assert {event.run for event in recorded.events()} == {"shop.load"}


def test_installing_twice_is_installing_once(make_app: MakeApp) -> None:
    recorded = make_app()

    assert Plet(recorded.app) is recorded.plet


def test_arguments_are_bound_to_names_and_redacted(make_app: MakeApp) -> None:
    recorded = make_app()

    @recorded.app.task(shared=False, name="login", bind=True)
    def login(self: Task[Any, Any], user: str, password: str, *rest: Any, **more: Any) -> dict[str, str]:
        return {"token": "canary-result"}

    login.apply(args=("bob", "canary-one", 3), kwargs={"api_key": "canary-two"}, task_id="r")

    started, ended = recorded.events("r")
    assert (started.data["args"], started.data["kwargs"]) == (["bob", "***", 3], {"api_key": "***"})
    assert ended.data["result"] == {"token": "***"}


def test_huge_arguments_become_a_small_preview(make_app: MakeApp) -> None:
    recorded = make_app()

    @recorded.app.task(shared=False, name="huge")
    def huge(*args: Any, **kwargs: Any) -> Any:
        return args

    huge.apply(args=(["x" * 100_000] * 1000,), kwargs={"blob": b"\xff" * 10_000_000}, task_id="r")

    assert recorded.kinds("r") == ["run.started", "run.succeeded"]
    assert all(len(str(event.data)) < 40_000 for event in recorded.events("r"))


@pytest.mark.parametrize(
    "task_id", ["a/b", "../../etc/passwd", "line\nbreak", "x" * 10_240, "\udcff", "ü", " "]
)
def test_any_task_id_is_recorded(make_app: MakeApp, task_id: str) -> None:
    recorded = make_app()

    @recorded.app.task(shared=False, name="noop")
    def noop() -> None: ...

    noop.apply(task_id=task_id)

    assert recorded.kinds() == ["run.started", "run.succeeded"]


@pytest.mark.parametrize("obstacle", ["file", "read-only", "world-writable"])
def test_an_unusable_home_never_fails_a_task(
    make_app: MakeApp, obstacle: str, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    recorded = make_app(plet_home=str(tmp_path / "bad"))
    journal = recorded.plet.journal
    if obstacle == "file":
        (tmp_path / "bad").write_text("no folder")
    elif obstacle == "read-only":
        (tmp_path / "bad").symlink_to("/proc/self")
    else:
        journal.mkdir(parents=True)
        journal.chmod(0o777)

    @recorded.app.task(shared=False, name="noop")
    def noop() -> str:
        return "fine"

    assert noop.apply().get() == "fine"
    assert noop.apply().get() == "fine"
    told = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(told) == 1
    assert "bad" in told[0].getMessage()


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ("download", "is one string"),
        (("a", "a"), "declared twice"),
        (("",), "is no text"),
        ((7,), "is no text"),
        ({"a": 0}, "no positive number"),
        ({"a": float("nan")}, "no positive number"),
        ({"a": True}, "no positive number"),
    ],
)
def test_wrongly_declared_stages_are_refused_where_they_are_declared(
    make_app: MakeApp, stages: Any, said: str
) -> None:
    recorded = make_app()

    with pytest.raises(SettingsError, match=said):
        recorded.app.task(shared=False, name="bad", base=TrackedTask, stages=stages, lazy=False)(do_nothing)


def test_bad_settings_never_fail_a_producers_task(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    recorded = make_app(plet_gahter=1)

    @recorded.app.task(shared=False, name="noop")
    def noop() -> str:
        return "fine"

    assert noop.apply().get() == "fine"
    assert "plet_gather" in caplog.text


class OwnBase(Task[Any, Any]):
    """What a framework gives as task class: Celery's Django fixup adds these two."""

    abstract = True

    def delay_on_commit(self, *args: Any) -> tuple[str, tuple[Any, ...]]:
        return str(self.name), args


def test_a_users_task_class_is_kept_and_its_django_methods_reach_tracked_tasks(make_app: MakeApp) -> None:
    recorded = make_app()
    recorded.app.task_cls = OwnBase

    @recorded.app.task(shared=False, name="plain")
    def plain() -> None: ...

    @recorded.app.task(shared=False, name="tracked", base=TrackedTask)
    def tracked() -> None: ...

    assert isinstance(recorded.app.tasks["plain"], OwnBase)
    assert recorded.app.tasks["plain"].delay_on_commit(1) == ("plain", (1,))
    assert recorded.app.tasks["tracked"].delay_on_commit(2) == ("tracked", (2,))
    with pytest.raises(AttributeError, match="no attribute 'apply_async_on_commit'"):
        recorded.app.tasks["tracked"].apply_async_on_commit()


def test_settings_of_a_namespace_are_read(tmp_path: Any) -> None:
    class DjangoSettings:
        CELERY_PLET_HOME = str(tmp_path / "home")
        CELERY_PLET_SHIPPER = "off"
        CELERY_BROKER_URL = "memory://"

    app = Celery("namespaced", set_as_current=False)
    app.config_from_object(DjangoSettings, namespace="CELERY")

    assert Plet(app).home == tmp_path / "home"


def test_a_line_is_recorded_once_where_a_process_has_several_apps(make_app: MakeApp) -> None:
    found = []
    for recorded in (make_app(), make_app()):

        @recorded.app.task(shared=False, name="say")
        def say() -> None:
            logging.getLogger("shop").warning("once")

        found.append((recorded, say.apply().id))

    assert [recorded.kinds(run).count("log.written") for recorded, run in found] == [1, 1]


def test_a_task_that_is_called_in_a_stage_gives_the_stage_back(make_app: MakeApp) -> None:
    recorded = make_app()

    @recorded.app.task(shared=False, name="inner", base=TrackedTask, bind=True)
    def inner(self: TrackedTask) -> None:
        self.stage("left open").__enter__()
        with self.stage("below"), self.stage("further below"):
            self.log("warning", "inside")

    @recorded.app.task(shared=False, name="outer", base=TrackedTask, bind=True)
    def outer(self: TrackedTask) -> None:
        with self.stage("load"):
            inner.apply(task_id="inner-run")
            self.log("warning", "after")
            with self.stage("sub"):
                pass
        self.log("warning", "at the end")

    outer.apply(task_id="outer-run")

    told = recorded.events("outer-run")
    lines = [one.data.get("stage") for one in told if one.kind == "log.written"]
    parents = [one.data.get("parent") for one in told if one.kind == "stage.started"]
    assert (lines, parents) == ([1, None], [None, 1])
    told = recorded.events("inner-run")
    assert [one.data.get("parent") for one in told if one.kind == "stage.started"] == [None, 1, 2]
    assert [one.data.get("stage") for one in told if one.kind == "log.written"] == [3]


def test_a_worker_passes_its_own_limits_to_its_runs(make_app: MakeApp) -> None:
    recorded = make_app(plet_stacks=False)

    @recorded.app.task(shared=False, name="slow")
    def slow() -> None: ...

    @recorded.app.task(shared=False, name="limited", time_limit=7.0)
    def limited() -> None: ...

    pool = "celery.concurrency.prefork:TaskPool"
    facts = {"hostname": "w@h", "concurrency": 1, "time_limit": 30.0, "soft_time_limit": 20.0}
    RecordingStep(SimpleNamespace(app=recorded.app, pool_cls=pool, **facts))
    for task in (slow, limited):
        build_tracer(task.name, task, app=recorded.app)(task.name, [], {}, {"id": task.name})
    slow.apply(task_id="eager")

    limits = {
        run: (started.get("soft_limit"), started.get("hard_limit"))
        for run in ("slow", "limited", "eager")
        for started in [next(one.data for one in recorded.events(run) if one.kind == "run.started")]
    }
    assert limits == {"slow": (20.0, 30.0), "limited": (20.0, 7.0), "eager": (None, None)}
