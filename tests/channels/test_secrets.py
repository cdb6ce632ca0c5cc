"""Canaries: addresses and keys of channels are in no row, log line, repr, command's output or message."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alerting import NOW, a_message, an_alert, told
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result
from storing import new_store
from webhooks import Receiver, Request, answer, receiving

from plet_celery import Plet
from plet_celery.cli import plet
from plet_celery.cli.channels import channel_test
from plet_celery.doctor import examination
from plet_celery.monitor.outbox import deliver
from plet_celery.monitor.ping import ping
from plet_celery.monitor.routing import Channels, channels_of
from plet_celery.monitor.sending import sent
from plet_celery.settings_sources import load_settings
from plet_celery.store import Store, open_store
from plet_celery.watchfacts import AlertDoc

PATH = "kanarie-p4th-7Zq4"
KEY = "kanarie-k3y-9Xw2-long-enough"
TOKEN = "kanarie-t0k3n-5Rt8"
PING = "kanarie-p1ng-3Bn6"
ANSWER = "kanarie-answ3r-1Lm"
CANARIES = (PATH, KEY, TOKEN, PING, ANSWER)


class Project:
    """An app with channels of every kind, and its store."""

    def __init__(self, folder: Path, port: int) -> None:
        self.home = folder / ".plet"
        self.home.mkdir(mode=0o700)
        new_store(self.home).close()
        self.app = Celery("shop", set_as_current=False, broker="redis://127.0.0.1:1/0")
        private = {"allow_private": True, "allow_http": True}
        self.app.conf.update(
            plet_home=str(self.home),
            plet_channels={
                "hook": {"kind": "webhook", **private},
                # Loading Apprise and its hundred services takes a while beside others that compute.
                "mail": {"kind": "notify", "timeout": 60},
                "mine": {"kind": "call", "function": self.tell},
            },
            plet_channel_secret_urls=[
                f"hook=http://127.0.0.1:{port}/{PATH}?key={PATH}",
                f"mail=json://127.0.0.1:{port}/{TOKEN}",
            ],
            plet_channel_secret_keys=[f"hook={KEY}"],
            plet_ping_secret_url=f"http://127.0.0.1:{port}/{PING}",
            plet_ping_allow_private=True,
        )
        Plet(self.app)
        self.settings = load_settings(self.app.conf, {})

    def tell(self, message: Any) -> None:
        """A function that tells more than it should."""
        raise RuntimeError(f"cannot post to https://chat.example.org/{PATH} with {KEY}, {TOKEN}")

    @property
    def store(self) -> Store:
        """The store, for writing."""
        return open_store(f"sqlite:///{self.home / 'plet.db'}")

    @property
    def channels(self) -> Channels:
        """As a pass has them."""
        return channels_of(self.settings, app=self.app)

    def invoke(self, *args: str) -> Result:
        """Run `celery plet …`."""
        context = CLIContext(app=self.app, no_color=True, workdir=None)
        return CliRunner().invoke(plet, list(args), obj=context, catch_exceptions=False)

    def test(self, *args: str) -> Result:
        """Run `celery plet alerts test …`."""
        context = CLIContext(app=self.app, no_color=True, workdir=None)
        return CliRunner().invoke(channel_test, list(args), obj=context, catch_exceptions=False)


def refuse(receiver: Receiver, peer: Any, request: Request) -> None:
    """Answer with what must not be shown."""
    answer(500, f"X-Reason: {ANSWER}", f"Location: http://{ANSWER}/", body=ANSWER.encode())(
        receiver, peer, request
    )


def texts_of(store: Store) -> str:
    """Every row of every table."""
    with store.reading() as connection:
        tables = store.tables.metadata.sorted_tables
        return "\n".join(repr(row) for table in tables for row in connection.execute(sa.select(table)))


def clean(text: str) -> str:
    """The text; there is no canary in it."""
    assert [one for one in CANARIES if one in text] == []
    return text


@pytest.fixture
def logged() -> Any:
    """All that is logged, at every level, by everybody."""
    stream, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(stream), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def test_no_secret_shows_while_every_channel_fails(tmp_path: Path, logged: io.StringIO) -> None:
    with receiving(refuse) as receiver:
        project = Project(tmp_path, receiver.port)
        store, channels = project.store, project.channels
        doc = AlertDoc(title=f"no answer of https://x.example.org/?token={TOKEN}", value=KEY, advice=PATH)
        told(store, an_alert(doc=doc), "hook", "mail", "mine", "log")

        done = deliver(store, channels, owner="test", now=NOW, has_app=True, seconds=60)
        pinged = ping(project.settings, is_complete=False)

    assert (done.delivered, done.failed) == (1, 3)
    # The alert's own rows are not ours: a rule wrote them.
    own = store.tables.watching
    with store.reading() as connection:
        query = sa.select(own.delivery.c.status, own.delivery.c.owner)
        rows = [tuple(row) for row in connection.execute(query)]
        rows += [tuple(row) for row in connection.execute(sa.select(own.channel))]
    clean(repr(rows))
    assert "answered 500" in repr(rows) and "RuntimeError: cannot post to" in repr(rows)
    clean(repr(done) + repr(pinged))
    clean(repr(channels) + str(list(channels.by_name.values())) + repr(project.settings))
    assert "alerts cannot be sent" in clean(logged.getvalue())
    clean("".join(str(one.body) for one in receiver.requests))
    assert len(receiver.requests) == 3


@pytest.mark.parametrize(
    "secret",
    ["hunterCANARYPASS", "CANARYPATHabcdefgh", "QUOTED CANARY", "QUOTED%20CANARY", "CANARYTOKENASHOST"],
)
def test_a_part_of_an_address_without_a_digit_is_a_secret_too(secret: str) -> None:
    def tell(message: Any) -> None:
        raise RuntimeError(f"hooks.example.org/services refused {secret}, twice: {secret}")

    conf = {
        "plet_channels": {
            "hook": {"kind": "webhook"},
            "mail": {"kind": "notify"},
            "chat": {"kind": "notify"},
            "mine": {"kind": "call", "function": tell},
        },
        "plet_channel_secret_urls": [
            "hook=https://hooks.example.org/services/CANARYPATHabcdefgh?key=QUOTED%20CANARY",
            "mail=mailto://u:hunterCANARYPASS@h",
            "chat=tgram://CANARYTOKENASHOST/1",
        ],
        "plet_channel_secret_keys": [f"hook={KEY}"],
    }
    channels = channels_of(load_settings(conf, {}))

    found = sent(channels.by_name["mine"], a_message(), channels, NOW)

    assert found == (False, "RuntimeError: hooks.example.org/services refused ***, twice: ***")


def test_no_secret_shows_while_every_channel_works(tmp_path: Path, logged: io.StringIO) -> None:
    with receiving() as receiver:
        project = Project(tmp_path, receiver.port)
        told(project.store, an_alert(), "hook", "mail", "log")

        done = deliver(project.store, project.channels, owner="t", now=NOW, has_app=True, seconds=60)

    assert (done.delivered, done.failed) == (3, 0)
    clean(texts_of(project.store))
    clean(logged.getvalue())


@pytest.mark.parametrize("args", [("config",), ("config", "--json"), ("doctor",), ("doctor", "--json")])
def test_no_secret_is_in_what_commands_print(tmp_path: Path, args: tuple[str, ...]) -> None:
    project = Project(tmp_path, 1)

    output = clean(project.invoke(*args).output)

    if args[0] == "config":
        assert "plet_channel_secret_urls" in output and '"kind"' in output


def test_the_command_tells_what_became_of_the_test_message(tmp_path: Path) -> None:
    with receiving() as receiver:
        project = Project(tmp_path, receiver.port)
        good = project.test("hook")
        as_json = project.test("mail", "--json")
        receiver.behave = refuse
        bad = project.test("hook")

    assert good.exit_code == 0
    assert clean(good.output).startswith("hook (127.0.0.1 #")
    assert good.output.rstrip().endswith(") took the test message: answered 200")
    assert json.loads(clean(as_json.output))["ok"] is True
    assert bad.exit_code == 1
    assert clean(bad.output).rstrip().endswith(") did not take the test message: answered 500")
    assert receiver.requests[0].headers["Idempotency-Key"] != receiver.requests[2].headers["Idempotency-Key"]


def test_the_command_enables_a_disabled_channel_and_says_so(tmp_path: Path) -> None:
    with receiving(refuse) as receiver:
        project = Project(tmp_path, receiver.port)
        for day in range(6):
            told(project.store, an_alert(), "hook", now=NOW + day * 86_400)
            deliver(
                project.store, project.channels, owner="t", now=NOW + day * 86_400, has_app=False, seconds=60
            )
        remains = project.test("hook")
        receiver.behave = answer(200)
        enabled = project.test("hook")

    assert (remains.exit_code, enabled.exit_code) == (1, 0)
    assert remains.output.rstrip().endswith("answered 500; it remains disabled")
    assert enabled.output.rstrip().endswith("answered 200; it was disabled and is enabled again")
    assert "disabled" not in project.test("log").output


def test_a_channel_that_is_not_there_ends_with_the_names_of_those_that_are(tmp_path: Path) -> None:
    result = Project(tmp_path, 1).test("hok")

    assert result.exit_code == 4
    assert "there is no channel 'hok'; plet_channels has hook, log, mail, mine, signals" in result.output
    assert "did you mean 'hook'?" in result.output


def test_doctor_names_channels_whose_extra_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(examination, "find_spec", lambda name: None)

    output = Project(tmp_path, 1).invoke("doctor").output

    assert "nobody is told by mail: Apprise is not installed" in output
    assert "pip install 'plet-celery[notify]'" in output
