"""docs/channels.md says what is so: its settings load, its code runs, its words are those of the code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alerting import NOW, a_message, channels
from celery import Celery
from webhooks import receiving

from plet_celery import alert_fired, alert_resolved
from plet_celery.monitor import rules
from plet_celery.monitor.channels.call import CallChannel
from plet_celery.monitor.channels.request import Rules
from plet_celery.monitor.channels.signals import SignalsChannel
from plet_celery.monitor.channels.webhook import WebhookChannel
from plet_celery.monitor.life import advance
from plet_celery.monitor.routing import channels_of
from plet_celery.monitor.rules import Facts
from plet_celery.monitor.sending import sent
from plet_celery.monitor.texts import message_of
from plet_celery.rulebook import Rulebook
from plet_celery.settings import Settings
from plet_celery.settings_channels import ChannelSettings
from plet_celery.settings_sources import load_settings
from plet_celery.store.outbox import Told

PAGE = (Path(__file__).parents[2] / "docs" / "channels.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
CONF = [
    block
    for block in re.findall(r"(?:^    .*\n)+", PAGE, re.MULTILINE)
    if block.lstrip().startswith("app.conf.")
]
KEY = "9f1c2f6e5d8a4b7c-a-long-random-text"


def block(word: str) -> dict[str, Any]:
    """Run the block of code with this word; return its names."""
    (code,) = [one for one in BLOCKS if word in one]
    names: dict[str, Any] = {}
    exec(compile(code, "channels.md", "exec"), names)
    return names


@pytest.fixture
def is_from_plet() -> Callable[..., bool]:
    function: Callable[..., bool] = block("def is_from_plet")["is_from_plet"]
    return function


@pytest.mark.parametrize("code", CONF, ids=range(len(CONF)))
def test_the_settings_of_the_page_load(code: str) -> None:
    app = Celery("shop", set_as_current=False)
    lines = [line[4:] for line in code.splitlines()]
    exec("\n".join(lines), {"app": app})

    channels_of(load_settings(app.conf, {}))


def test_there_are_settings_and_code_to_try() -> None:
    assert len(CONF) == 4 and len(BLOCKS) == 3


def test_the_receivers_check_believes_what_we_send(is_from_plet: Callable[..., bool]) -> None:
    with receiving() as receiver:
        WebhookChannel(
            name="ops", url=receiver.url, keys=("old-old-old-old-old", KEY), rules=Rules(allow_private=True)
        ).send(a_message(), now=NOW)
    (request,) = receiver.requests
    headers, body = request.headers, request.body

    assert is_from_plet(headers, body, KEY, now=NOW + 10)
    assert is_from_plet(headers, body, "old-old-old-old-old", now=NOW + 10)
    assert not is_from_plet(headers, body, "another-key-another-key", now=NOW + 10)
    assert not is_from_plet(headers, body + b" ", KEY, now=NOW + 10)
    assert not is_from_plet(headers, body, KEY, now=NOW + 301)
    assert not is_from_plet(headers | {"X-Plet-Timestamp": str(int(NOW) + 1)}, body, KEY, now=NOW)
    assert not is_from_plet(headers | {"X-Plet-Timestamp": "x"}, body, KEY, now=NOW)
    assert not is_from_plet({}, body, KEY, now=NOW)
    assert not is_from_plet(headers | {"X-Plet-Signature": "v1=é"}, body, KEY, now=NOW)


def test_the_function_of_the_page_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    channel = CallChannel(name="chat", function=block("def tell")["tell"])

    assert sent(channel, a_message(), channels(channel), NOW) == (True, "called")

    assert capsys.readouterr().out.startswith("5f5f")


def test_the_receivers_of_the_page_hear_signals(capsys: pytest.CaptureFixture[str]) -> None:
    names = block("@alert_fired.connect")  # holds them: a signal does not
    channel = SignalsChannel(name="signals", app=Celery("shop", set_as_current=False))
    try:
        for kind in ("fired", "resolved"):
            sent(channel, a_message(kind), channels(channel), NOW)
    finally:
        alert_fired.disconnect(names["on_alert"])
        alert_resolved.disconnect(names["on_end"])

    assert capsys.readouterr().out.splitlines() == [
        "shop fired shop.import_catalogue",
        "shop.import_catalogue is well again",
    ]


def test_the_message_of_the_page_is_what_comes() -> None:
    facts = Facts(ends={"failure_rate": {"shop.import_catalogue": {"succeeded": 7, "failed": 3}}})
    (found,) = rules.judge(facts, Rulebook({"timeout_rate": "off"}), now=NOW)
    ids = ("1f9f7a2e-5d0c-4c8e-9a51-0b6f2a7d3c11", "7a41c06b-93d2-4f0e-8b7a-52c1e9d8f604",
           "c3e8b1d7-06fa-4b29-a1c4-7de95f3082ab")  # fmt: skip
    found = replace(found, runs=ids)
    began = advance([], [found], now=NOW, new_id=lambda: "4f0c12ab" + "5" * 24, recent={})[-1].alert
    fired = advance([began], [found], now=NOW + 60, new_id=str, recent={})[-1]
    assert fired.kind == "fired"

    message = message_of(
        Told(kind=fired.kind, at=NOW + 60, alert=fired.alert),
        key="91d2e07c" + "5" * 24,
        number=2,
        redact=str,
        pages_url="https://flower.example.org/plet",
    )

    shown = PAGE.partition("## What a message says\n\n")[2].partition("\n\n")[0]
    assert [line[4:] for line in shown.splitlines()] == message.text.splitlines()


def test_every_key_of_a_channel_is_on_the_page_with_its_default() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE.partition("## Who is told")[2], re.MULTILINE))

    assert set(ChannelSettings.model_fields) <= table.keys()
    assert {name: table[name] for name in ("enabled", "resolved", "allow_private", "allow_http")} == {
        "enabled": "true",
        "resolved": "true",
        "allow_private": "false",
        "allow_http": "false",
    }


def test_every_option_of_channels_is_on_the_page() -> None:
    names = [name for name in Settings.model_fields if name.startswith(("channel", "ping"))]

    assert [name for name in [*names, "pages_url"] if f"plet_{name}" not in PAGE] == []


def test_links_within_the_page_lead_somewhere() -> None:
    heads = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}

    assert set(re.findall(r"\(#([^)]*)\)", PAGE)) <= anchors
