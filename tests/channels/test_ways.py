"""The channels log, call, signals and notify, each alone."""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from alerting import NOW, a_message, channels
from celery import Celery
from webhooks import Receiver, answer, hang, receiving

from plet_celery import AlertMessage, alert_fired, alert_resolved
from plet_celery.errors import SettingsError
from plet_celery.monitor.channels import Channel, Undelivered
from plet_celery.monitor.channels.call import CallChannel
from plet_celery.monitor.channels.log import LogChannel
from plet_celery.monitor.channels.notify import NotifyChannel
from plet_celery.monitor.channels.signals import SignalsChannel
from plet_celery.monitor.sending import sent
from plet_celery.settings_sources import load_settings
from plet_celery.watchfacts import AlertDoc, Severity


def send(channel: Channel, message: AlertMessage | None = None) -> tuple[bool, str]:
    """Send as a pass does."""
    return sent(channel, message or a_message(), channels(channel), NOW)


@pytest.fixture(autouse=True)
def nobody_else_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that another test module of this process has loaded may have connected for good."""
    for signal in (alert_fired, alert_resolved):
        monkeypatch.setattr(signal, "receivers", [])


# log


@pytest.mark.parametrize(
    ("kind", "severity", "level"),
    [
        ("fired", Severity.CRITICAL, logging.ERROR),
        ("fired", Severity.WARNING, logging.WARNING),
        ("resolved", Severity.CRITICAL, logging.INFO),
    ],
)
def test_an_alert_is_one_line_of_the_log(
    kind: str, severity: Severity, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "plet_celery.alerts"):
        assert send(LogChannel(name="log"), a_message(kind, severity=severity, subject="a\nb")) == (
            True,
            "logged",
        )

    (record,) = caplog.records
    assert record.levelno == level
    assert "\n" not in record.getMessage()
    assert "Value: 34 % of 41 runs in the last hour" in record.getMessage()


def test_a_line_of_the_log_says_nothing_twice(caplog: pytest.LogCaptureFixture) -> None:
    send(LogChannel(name="log"), a_message(id="ab" * 16))

    line = caplog.records[0].getMessage()
    assert line.startswith("WARNING shop.import_catalogue: too many runs fail | Since: ")
    assert line.count("too many runs fail") == 1


def test_what_the_headline_had_no_room_for_is_said(caplog: pytest.LogCaptureFixture) -> None:
    title = "x" * 300

    send(LogChannel(name="log"), a_message(doc=AlertDoc(title=title)))

    assert f" | What: {title} | Since: " in caplog.records[0].getMessage()


def test_percent_signs_in_words_are_data(caplog: pytest.LogCaptureFixture) -> None:
    send(LogChannel(name="log"), a_message(subject="%s %d %(x)s"))

    assert "%s %d %(x)s" in caplog.records[0].getMessage()


# call

heard: list[AlertMessage] = []


def listen(message: AlertMessage) -> None:
    """A project's function."""
    heard.append(message)


async def listen_later(message: AlertMessage) -> None:
    """One that is a coroutine."""
    heard.append(message)


@pytest.fixture
def nothing_heard() -> Iterator[None]:
    heard.clear()
    yield
    heard.clear()


@pytest.mark.parametrize("function", [listen, listen_later])
@pytest.mark.usefixtures("nothing_heard")
def test_a_function_gets_the_message(function: Any) -> None:
    message = a_message()

    assert send(CallChannel(name="c", function=function), message) == (True, "called")

    assert heard == [message]


@pytest.mark.parametrize("path", ["alerts_of_shop:tell", "alerts_of_shop.tell"])
def test_a_function_may_be_named_by_a_path(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alerts_of_shop.py").write_text("told = []\ntell = told.append\n")
    monkeypatch.syspath_prepend(tmp_path)

    assert send(CallChannel(name="c", function=path)) == (True, "called")

    assert len(sys.modules.pop("alerts_of_shop").told) == 1


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no_such_module:tell", "function no_such_module:tell cannot be imported: No module named"),
        ("json:tell", "function json:tell cannot be imported: module 'json' has no attribute 'tell'"),
        ("json:__name__", "json:__name__ is no function"),
        (":tell", "function :tell cannot be imported: "),
    ],
)
def test_one_that_is_not_there_is_told(path: str, words: str) -> None:
    ok, status = send(CallChannel(name="c", function=path))

    assert not ok and words in status


def listen_by_and_by(message: AlertMessage) -> Iterator[None]:
    """One that is a generator, which runs only when somebody iterates."""
    heard.append(message)
    yield


async def listen_by_and_by_later(message: AlertMessage) -> AsyncIterator[None]:
    """One that is an asynchronous generator."""
    heard.append(message)
    yield


async def listen_to_another(message: AlertMessage) -> Iterator[None]:
    """One that hands on what it was to run."""
    return listen_by_and_by(message)


@pytest.mark.parametrize("function", [listen_by_and_by, listen_by_and_by_later, listen_to_another])
@pytest.mark.usefixtures("nothing_heard")
def test_a_function_that_never_runs_has_delivered_nothing(function: Any) -> None:
    ok, status = send(CallChannel(name="c", function=function))

    assert heard == []
    assert not ok
    assert status.endswith(
        f":{function.__name__} has a yield in it, so calling it runs nothing; take that out"
    )


def test_a_function_that_has_run_may_return_a_generator() -> None:
    assert send(CallChannel(name="c", function=lambda message: (one for one in "ab"))) == (True, "called")


@pytest.mark.parametrize("function", [listen_by_and_by, listen_by_and_by_later, partial(listen_by_and_by)])
def test_a_generator_is_refused_where_the_channel_is_set(function: Any) -> None:
    with pytest.raises(SettingsError, match=r"'c': .*its function has a yield in it"):
        load_settings({"plet_channels": {"c": {"kind": "call", "function": function}}}, {})


def test_what_a_function_raises_is_told_without_secrets() -> None:
    def tell(message: AlertMessage) -> None:
        raise ValueError("no answer of https://bob:hunter2-7Zq@db1/x\nsecond line")

    ok, status = send(CallChannel(name="c", function=tell))

    assert not ok
    assert status == "ValueError: no answer of https://***@db1/x\\nsecond line"


@pytest.mark.parametrize("raised", [RuntimeError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_error_that_cannot_be_shown_is_told_all_the_same(raised: type[BaseException]) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise raised

    def tell(message: AlertMessage) -> None:
        raise Mute

    assert send(CallChannel(name="c", function=tell)) == (False, f"Mute: {raised.__name__}")


def test_djangos_connections_of_that_thread_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    connections = SimpleNamespace(close_all=lambda: closed.append(threading.get_ident()))
    monkeypatch.setitem(sys.modules, "django.db", SimpleNamespace(connections=connections))
    called: list[int] = []

    send(CallChannel(name="c", function=lambda message: called.append(threading.get_ident())))

    assert closed == called and closed != [threading.get_ident()]


# signals


@pytest.fixture
def received() -> Iterator[list[tuple[str, Any, AlertMessage]]]:
    found: list[tuple[str, Any, AlertMessage]] = []

    def fired(sender: Any, message: AlertMessage, **kwargs: Any) -> None:
        found.append(("fired", sender, message))

    def resolved(sender: Any, message: AlertMessage, **kwargs: Any) -> None:
        found.append(("resolved", sender, message))

    alert_fired.connect(fired)
    alert_resolved.connect(resolved)
    yield found
    alert_fired.disconnect(fired)
    alert_resolved.disconnect(resolved)


def test_signals_tell_the_app_and_the_message(received: list[tuple[str, Any, AlertMessage]]) -> None:
    app = Celery("shop", set_as_current=False)
    channel = SignalsChannel(name="signals", app=app)
    kinds = ("fired", "worse", "flapping", "unsilenced", "resolved")
    messages = [a_message(kind) for kind in kinds]

    statuses = [send(channel, message)[1] for message in messages]

    names = ["fired", "fired", "fired", "fired", "resolved"]
    assert received == [(name, app, message) for name, message in zip(names, messages, strict=True)]
    assert statuses[0] == "alert_fired: 1 receiver"
    assert statuses[-1] == "alert_resolved: 1 receiver"


def test_a_receiver_of_another_app_hears_nothing() -> None:
    mine, other = Celery("mine", set_as_current=False), Celery("other", set_as_current=False)
    found: list[AlertMessage] = []

    def receiver(sender: Any, message: AlertMessage, **kwargs: Any) -> None:
        found.append(message)

    alert_fired.connect(receiver, sender=other)
    try:
        send(SignalsChannel(name="signals", app=mine))
        assert found == []
        send(SignalsChannel(name="signals", app=other))
        assert len(found) == 1
    finally:
        alert_fired.disconnect(receiver, sender=other)


def test_a_receiver_that_raises_is_told_and_the_others_hear_it_once(
    received: list[tuple[str, Any, AlertMessage]], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(sender: Any, message: AlertMessage, **kwargs: Any) -> None:
        raise ValueError("boom")

    alert_fired.connect(broken)
    try:
        assert send(SignalsChannel(name="signals")) == (True, "alert_fired: 2 receivers, 1 of them raised")
    finally:
        alert_fired.disconnect(broken)

    assert len(received) == 1


def test_a_projects_module_that_imports_the_signals_loads_no_reading_side() -> None:
    code = (
        "import sys; from plet_celery import alert_fired, AlertMessage; "
        "names = ('sqlalchemy', 'tornado', 'flower', 'alembic', 'apprise'); "
        "print([name for name in names if name in sys.modules])"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


# notify


def json_url(port: int) -> str:
    """Apprise's own kind of JSON post: a service that a test can serve, and that is given a minute."""
    return f"json://127.0.0.1:{port}/t0k3n?cto=60&rto=60"


def apprise_to(receiver: Receiver) -> NotifyChannel:
    """A channel with time for loading Apprise and its hundred services, beside others that compute."""
    return NotifyChannel(name="n", url=json_url(receiver.port), timeout=60.0)


def test_apprise_sends_headline_and_text() -> None:
    message = a_message(severity=Severity.CRITICAL)
    with receiving(answer(200)) as receiver:
        assert send(apprise_to(receiver), message) == (True, "sent by Apprise")

    body = json.loads(receiver.requests[0].body)
    assert (body["title"], body["message"], body["type"]) == (message.headline, message.text, "failure")


@pytest.mark.parametrize(
    ("kind", "expected"), [("fired", "warning"), ("resolved", "success"), ("test", "info")]
)
def test_the_kind_of_a_message_is_apprises(kind: str, expected: str) -> None:
    with receiving(answer(200)) as receiver:
        send(apprise_to(receiver), a_message(kind))

    assert json.loads(receiver.requests[0].body)["type"] == expected


def test_a_refusal_is_told_and_nothing_of_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with receiving(answer(500, body=b"c4n4ry")) as receiver:
        ok, status = send(apprise_to(receiver))

    assert (ok, status) == (False, "Apprise could not deliver it")
    assert receiver.requests[0].place == "/t0k3n"
    assert not [one for one in caplog.records if "t0k3n" in one.getMessage() or "c4n4ry" in one.getMessage()]


def test_the_negative_control_apprise_itself_logs_the_token(caplog: pytest.LogCaptureFixture) -> None:
    import apprise

    caplog.set_level(logging.DEBUG)
    with receiving(answer(500)) as receiver:
        service = apprise.Apprise()
        service.add(json_url(receiver.port))
        service.notify(title="a", body="b")

    assert [one for one in caplog.records if "t0k3n" in one.getMessage()]


def test_another_use_of_apprise_keeps_its_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with receiving(answer(200)) as receiver:
        send(apprise_to(receiver))

    logging.getLogger("apprise").warning("mine")

    assert "mine" in [one.getMessage() for one in caplog.records]


def test_a_service_that_hangs_ends_in_time() -> None:
    with receiving(hang) as receiver:
        ok, status = send(NotifyChannel(name="n", url=json_url(receiver.port), timeout=0.2))

    assert (ok, status) == (False, "not done within 0.2 s")


def test_a_url_that_apprise_does_not_know_is_told_without_it(caplog: pytest.LogCaptureFixture) -> None:
    channel = NotifyChannel(name="n", url="nosuchservice://t0k3n")

    assert send(channel) == (False, "Apprise does not understand its URL")

    assert "t0k3n" not in caplog.text
    assert "t0k3n" not in repr(channel) + channel.target
    assert channel.target.startswith("nosuchservice:// #")


def test_without_the_extra_the_error_names_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Hidden(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, *rest: Any) -> None:
            if name == "apprise":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in [one for one in sys.modules if one.partition(".")[0] == "apprise"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Hidden(), *sys.meta_path])

    with pytest.raises(Undelivered) as caught:
        NotifyChannel(name="n", url="json://localhost").send(a_message(), now=NOW)

    assert str(caught.value) == ("Apprise is not installed (apprise); run pip install 'plet-celery[notify]'")


def test_apprise_is_not_loaded_by_naming_channels() -> None:
    code = (
        "import sys; from plet_celery.settings_sources import load_settings; "
        "from plet_celery.monitor.routing import channels_of; "
        "conf = {'plet_channels': {'n': {'kind': 'notify'}}, "
        "'plet_channel_secret_urls': ['n=json://localhost']}; "
        "print(channels_of(load_settings(conf, {})).by_name['n'].target, 'apprise' in sys.modules)"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.split()[-1] == "False"
