"""Checks of broker, queues and result backend: stopped, hanging, deep, with priorities; and back again."""

from __future__ import annotations

import dataclasses
import json
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Queue
from proxying import Proxy
from services import RedisPlace
from sqlalchemy import make_url
from storing import new_store
from waiting import wait_until
from worlds import asked, kept, plain_app, world_of

from plet_celery.celeryfacts import celery_facts
from plet_celery.embedded.valkey import running_valkey
from plet_celery.monitor.checks import run_check
from plet_celery.monitor.checks.broker import decide_queue
from plet_celery.monitor.checks.brokers import Depth
from plet_celery.monitor.masking import masking
from plet_celery.monitor.world import World, app_of
from plet_celery.settings_sources import load_settings
from plet_celery.store import Store
from plet_celery.store.waiting import Waiting
from plet_celery.watchfacts import CheckResult, Level

NOW = time.time()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = new_store(tmp_path)
    yield made
    made.close()


def test_a_broker_that_stops_is_critical_and_ok_again(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "valkey"
    folder.mkdir()
    with running_valkey(folder) as server:
        app = plain_app(server.broker_url, result_backend=server.result_url)
        world = world_of(store, app)
        there = [asked(world, name, now=NOW)[""] for name in ("broker", "results")]
    away = [asked(world, name, now=NOW)[""] for name in ("broker", "results", "queue", "workers")]
    with running_valkey(folder):
        again = [asked(world, name, now=NOW)[""] for name in ("broker", "results")]

    assert [one.level for one in there] == [Level.OK, Level.OK]
    assert [one.level for one in away] == [Level.CRITICAL, Level.CRITICAL, Level.NO_DATA, Level.NO_DATA]
    assert away[0].affected == "every task: none can be sent or received"
    assert "RedisBackend does not answer" in away[1].observation
    assert [one.level for one in again] == [Level.OK, Level.OK]


def answering(world: World) -> CheckResult:
    """What is told of a broker once it answers; on a busy machine one may connect too slowly."""
    found = wait_until(lambda: (one := asked(world, "broker", now=NOW)[""]).level is Level.OK and one)
    assert found
    return found


def queues(world: World) -> dict[str, CheckResult]:
    """What is told of queues once the broker answers."""
    return wait_until(lambda: {} if "" in (found := asked(world, "queue", now=NOW)) else found)


def test_a_broker_that_hangs_answers_by_its_silence(store: Store, rabbitmq_url: str) -> None:
    parsed = urllib.parse.urlsplit(rabbitmq_url)
    proxy = Proxy(parsed.hostname or "", parsed.port or 5672)
    try:
        netloc = f"{parsed.username}:{parsed.password}@127.0.0.1:{proxy.port}"
        world = world_of(store, plain_app(urllib.parse.urlunsplit(parsed._replace(netloc=netloc))))
        there = answering(world)
        proxy.swallow()
        hanging = asked(world, "broker", now=NOW, seconds=1.0)[""]
        proxy.up()
        proxy.break_all()
        again = answering(world)
    finally:
        proxy.down()

    assert there.level is again.level is Level.OK
    assert hanging.level is Level.CRITICAL
    assert "no answer within" in hanging.observation or "does not answer" in hanging.observation
    assert "guest:guest" not in repr([there, hanging])


def test_a_broker_that_the_environment_names_is_asked_without_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker's variables are not those of whoever passes in its place."""
    folder = tmp_path / "valkey"
    folder.mkdir()
    with running_valkey(folder) as server:
        monkeypatch.setenv("CELERY_BROKER_URL", server.broker_url)
        monkeypatch.setenv("CELERY_RESULT_BACKEND", server.result_url)
        app = Celery("shop", set_as_current=False)
        facts = json.loads(json.dumps(celery_facts(app)))
        monkeypatch.delenv("CELERY_BROKER_URL")
        monkeypatch.delenv("CELERY_RESULT_BACKEND")
        world = dataclasses.replace(world_of(store), facts=facts, app=app_of(facts))

        found = [asked(world, name, now=NOW)[""] for name in ("broker", "results")]

    assert [one.level for one in found] == [Level.OK, Level.OK]
    assert "valkey.sock" in found[0].observation
    assert found[1].observation.startswith("RedisBackend answers")


def test_a_password_that_the_environment_holds_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://shop:s3cr3t-word@127.0.0.1:1//")
    app = Celery("shop", set_as_current=False)

    masked = masking(load_settings({}, {}), make_url("sqlite:///x.db"), app.conf)

    assert masked("it said s3cr3t-word twice") == "it said *** twice"


@pytest.mark.parametrize(
    "secret",
    [
        "NOTIFYPASSWORD",
        "QUOTED/PASSWORD",
        "QUOTED%2FPASSWORD",
        "TOKENASHOSTOFAPPRISE",
        "PATHOFWEBHOOKabc",
        "pass-word",
        "with.dots.PATHOFWEBHOOK",
        "UNQUOTED/PASSWORD",
        "PATHBEFOREAT",
        "KEYKEYKEYKEYKEYKEY",
        "SECONDKEYSECONDKEY",
        "PINGPINGPINGPING",
        "hide-this",
    ],
)
def test_secrets_of_channels_are_masked(secret: str) -> None:
    conf = {
        "plet_channels": {
            "n": {"kind": "notify"},
            "q": {"kind": "notify"},
            "t": {"kind": "notify"},
            "t2": {"kind": "notify"},
            "w": {"kind": "webhook"},
        },
        "plet_channel_secret_urls": [
            "n=mailto://u:NOTIFYPASSWORD@h",
            " q = mailto://u:QUOTED%2FPASSWORD@h?pass=pass-word",
            "t=tgram://TOKENASHOSTOFAPPRISE/1",
            "t2=mailto://u:UNQUOTED/PASSWORD@h",
            "w=https://hooks.example.org/services/PATHOFWEBHOOKabc/with.dots.PATHOFWEBHOOK/PATHBEFOREAT@x",
        ],
        "plet_channel_secret_keys": ["w=KEYKEYKEYKEYKEYKEY", "w=SECONDKEYSECONDKEY"],
        "plet_ping_secret_url": "https://ping.example.org/PINGPINGPINGPING",
        "plet_redact_values_secret": ["hide-this"],
    }

    masked = masking(load_settings(conf, {}), make_url("sqlite:///x.db"), Celery(set_as_current=False).conf)

    assert masked(f"services of hooks.example.org said {secret} twice") == (
        "services of hooks.example.org said *** twice"
    )


def test_messages_of_all_priorities_are_counted(store: Store, redis_place: RedisPlace) -> None:
    options = {"global_keyprefix": redis_place.prefix, "priority_steps": [0, 3, 6, 9]}
    app = plain_app(redis_place.url, broker_transport_options=options)
    for priority in (0, 3, 9, 9):
        app.send_task("shop.pay", priority=priority)

    (queue,) = asked(world_of(store, app), "queue", now=NOW).values()

    assert (queue.subject, queue.values["messages"]) == ("celery", 4)
    assert queue.level is Level.CRITICAL
    assert queue.observation == "4 wait, nobody consumes it"


def test_rabbitmq_counts_its_consumers_itself(store: Store, rabbitmq_url: str) -> None:
    app = plain_app(rabbitmq_url, task_queues=[Queue("slow"), Queue("fast")], task_default_queue="fast")
    app.send_task("shop.pay", queue="slow")
    connection: Any = app.connection_for_read()
    with connection, app.amqp.TaskConsumer(connection.channel(), queues=[app.amqp.queues["fast"]]):
        found = queues(world_of(store, app))

    assert found["slow"].level is Level.CRITICAL
    assert found["slow"].observation == "1 wait, nobody consumes it"
    assert (found["fast"].level, found["fast"].values["consumers"]) == (Level.OK, 1)


def test_a_queue_that_is_not_there_is_empty(store: Store, rabbitmq_url: str) -> None:
    found = queues(world_of(store, plain_app(rabbitmq_url, task_queues=[Queue("never")])))

    assert found["never"].observation == "empty, nobody consumes it"
    assert found["never"].level is Level.OK


def queue(messages: int, consumers: list[str] | int | None, **more: Any) -> Any:
    given: dict[str, Any] = {"consumed_at": None, "waiting": None, "is_known": True}
    given |= {"now": NOW, "max_messages": 100, "max_wait": 900.0}
    return decide_queue("q", Depth(messages=messages, consumers=None), consumers=consumers, **(given | more))


def test_a_run_that_waits_long_is_told_while_its_message_is_there() -> None:
    old = Waiting(queue="q", runs=3, oldest_at=NOW - 4000, oldest_run="r", oldest_task="shop.pay")

    late, gone = queue(2, ["w"], waiting=old), queue(0, ["w"], waiting=old)

    assert late.level is Level.WARNING
    assert late.observation == "2 wait, the oldest run for 1 h 06 m 40 s (shop.pay), 1 worker consumes it"
    assert gone.level is Level.OK


def test_a_queue_of_which_little_is_known_is_never_ok() -> None:
    assert queue(0, None).level is Level.NO_DATA
    assert queue(5, None, is_known=False).level is Level.NO_DATA
    assert queue(101, None).level is Level.WARNING


def test_an_empty_queue_that_lost_its_consumer_is_told_for_a_day() -> None:
    assert queue(0, [], consumed_at=NOW - 60).level is Level.WARNING
    assert queue(0, [], consumed_at=NOW - 90_000).level is Level.OK
    assert queue(0, []).level is Level.OK


def test_what_is_no_json_is_left_to_a_pass_with_the_app(store: Store) -> None:
    app = plain_app(broker_use_ssl={"context": object()})

    (found,) = asked(world_of(store, app), "broker", now=NOW).values()

    assert found.level is Level.NO_DATA
    assert "broker_use_ssl" in found.observation


def test_a_backend_of_the_projects_own_is_not_imported(store: Store) -> None:
    world = world_of(store, plain_app(result_backend="shop.backends:Results"))

    (found,) = asked(world, "results", now=NOW).values()

    assert found.level is Level.NO_DATA
    assert "only a pass with the app" in found.observation


@pytest.mark.parametrize("backend", ["db+sqlite:///{folder}/results.db", "file://{folder}"])
def test_other_backends_are_asked_too(store: Store, tmp_path: Path, backend: str) -> None:
    world = world_of(store, plain_app(result_backend=backend.format(folder=tmp_path)))

    assert asked(world, "results", now=NOW)[""].level is Level.OK


def test_without_a_backend_nothing_is_missing(store: Store) -> None:
    assert asked(world_of(store, plain_app()), "results", now=NOW)[""].level is Level.OK


def test_each_pass_has_its_own_time(store: Store) -> None:
    """A check that fails is one answer; the others have theirs."""
    world = world_of(store)

    found = run_check(world, "broker", now=NOW, seconds=20)

    assert [one.level for one in found] == [Level.CRITICAL]
    assert kept(found, at=NOW)[0].checked_at == NOW
