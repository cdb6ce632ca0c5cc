"""Who is told of which alert: by severity, task pattern and tenant."""

from __future__ import annotations

from typing import Any

import pytest
from alerting import an_alert, change

from plet_celery.errors import SettingsError
from plet_celery.monitor.routing import channels_of, chosen, route_of
from plet_celery.settings import Settings, settings_from_json, settings_to_json
from plet_celery.settings_sources import load_settings
from plet_celery.watchfacts import Route, Severity

KEY = "0123456789abcdef"


def settings_with(channels: dict[str, Any], **more: Any) -> Settings:
    conf = {"plet_channels": channels} | {f"plet_{name}": value for name, value in more.items()}
    return load_settings(conf, {})


def told(channels: dict[str, Any], kind: str = "fired", **alert: Any) -> list[str]:
    """Who is told, without the built-in channels."""
    found = an_alert(**alert)
    routes = route_of(settings_with(channels))(found, change(found, kind))
    return [one.channel for one in routes if one.channel not in ("log", "signals")]


def call(**fields: Any) -> dict[str, Any]:
    return {"c": {"kind": "call", "function": "shop.alerts:tell"} | fields}


def test_without_settings_the_log_and_the_signals_are_told() -> None:
    alert = an_alert()

    assert route_of(Settings())(alert, change(alert)) == [
        Route(channel="log", needs_app=False),
        Route(channel="signals", needs_app=True),
    ]


def test_a_channel_more_takes_none_away_and_each_can_be_switched_off() -> None:
    assert list(chosen(settings_with(call()))) == ["log", "signals", "c"]
    off = call() | {"log": {"kind": "log", "enabled": False}, "c": call()["c"] | {"enabled": False}}
    assert list(chosen(settings_with(off))) == ["signals"]


@pytest.mark.parametrize(
    ("fields", "alert", "is_told"),
    [
        ({}, {}, True),
        ({"severity": "critical"}, {}, False),
        ({"severity": "critical"}, {"severity": Severity.CRITICAL}, True),
        ({"severity": "warning"}, {"severity": Severity.CRITICAL}, True),
        ({"tasks": ["shop.*"]}, {}, True),
        ({"tasks": ["shop.[a-h]*"]}, {}, False),
        ({"tasks": ["*"]}, {"task": None}, False),
        ({"tasks": ["billing.*", "shop.import_*"]}, {}, True),
        ({"tenants": ["acme"]}, {}, True),
        ({"tenants": ["acme/north"]}, {}, True),
        ({"tenants": ["acme/north/site1"]}, {}, False),
        ({"tenants": ["acme/n"]}, {}, False),
        ({"tenants": ["acme"]}, {"tenant": "acme2"}, False),
        ({"tenants": ["acme"]}, {"tenant": ""}, False),
        ({"tenants": [""]}, {"tenant": ""}, True),
        ({"tenants": [""]}, {}, False),
        ({"tenants": ["acme"], "severity": "critical"}, {}, False),
    ],
)
def test_who_is_told(fields: dict[str, Any], alert: dict[str, Any], is_told: bool) -> None:
    assert told(call(**fields), **alert) == (["c"] if is_told else [])


@pytest.mark.parametrize(("kind", "is_told"), [("fired", True), ("worse", True), ("resolved", False)])
def test_a_channel_may_be_spared_the_ends(kind: str, is_told: bool) -> None:
    assert told(call(resolved=False), kind) == (["c"] if is_told else [])


def test_what_needs_the_app_says_so() -> None:
    channels = channels_of(
        settings_with(
            call() | {"w": {"kind": "webhook"}, "n": {"kind": "notify"}},
            channel_secret_urls=["w=https://hooks.example.org/x", "n=json://localhost"],
            channel_secret_keys=[f"w={KEY}"],
        )
    )

    needs = {name: one.needs_app for name, one in channels.by_name.items()}
    assert needs == {"log": False, "signals": True, "c": True, "w": False, "n": False}


def test_a_process_without_the_app_knows_a_function_by_name_only() -> None:
    """Such as the monitor that a shipper starts: its settings come as JSON."""
    found = settings_from_json(settings_to_json(settings_with(call(function=an_alert))))

    channel = channels_of(found).by_name["c"]

    assert channel.needs_app
    assert channel.target == "alerting:an_alert"
    assert route_of(found)(an_alert(), change(an_alert()))[-1] == Route(channel="c", needs_app=True)


@pytest.mark.parametrize(
    ("channels", "words"),
    [
        (
            {"c": {"kind": "mail"}},
            "'c': kind: Input should be 'log', 'call', ",
        ),
        ({"c": {"kind": "call"}}, "a channel of the kind 'call' has a function"),
        ({"c": {"kind": "log", "function": "a.b"}}, "a channel of the kind 'call' has a function"),
        ({"c": {"kind": "call", "function": "tell"}}, "no dotted path"),
        ({"c": {"kind": "log", "allow_private": True}}, "are for channels of the kind 'webhook'"),
        ({"c": {"kind": "log", "severty": "critical"}}, "unknown keys; the known ones are kind, enabled"),
        ({"C D": {"kind": "log"}}, "a channel's name is 1 to 64 of a-z"),
        ({"c" * 65: {"kind": "log"}}, "a channel's name is 1 to 64 of a-z"),
        ({"log": {"kind": "notify"}}, "the channel 'log' is built in"),
        ({"w": {"kind": "webhook"}}, "the channel 'w' has no address; write one as 'w=…'"),
        ({"w": {"kind": "webhook"}}, "the webhook 'w' has no key to sign with"),
        ({"c": {"kind": "log", "timeout": 0}}, "'c': timeout: Input should be greater than 0"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_way_out(channels: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_with(channels)

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("urls", "keys", "words"),
    [
        (["w=http://hooks.example.org"], [f"w={KEY}"], "does not begin with https://"),
        (["w=ftp://hooks.example.org"], [f"w={KEY}"], "does not begin with https://"),
        (["w=https://"], [f"w={KEY}"], "has no host"),
        (["w=https://a/b c"], [f"w={KEY}"], "characters that are none of a URL's"),
        (["w=https://a/\r\nX: y"], [f"w={KEY}"], "characters that are none of a URL's"),
        (
            ["w=https://a:0/"],
            [f"w={KEY}"],
            "has the port 0, at which nobody listens; write its port, or none",
        ),
        (["w=https://u:p@a/"], [f"w={KEY}"], "has a user or password in it"),
        (["w=https://a", "w=https://b"], [f"w={KEY}"], "has several addresses"),
        (["w=https://a", "v=https://b"], [f"w={KEY}"], "entry 2 is not 'channel=secret'"),
        (["w=https://a"], ["w=short"], "is shorter than 16 characters"),
        (["w=https://a"], [f"w={KEY}", f"v={KEY}"], "entry 2 is not 'channel=secret'"),
    ],
)
def test_addresses_and_keys_that_do_not_fit_are_refused(urls: list[str], keys: list[str], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_with({"w": {"kind": "webhook"}}, channel_secret_urls=urls, channel_secret_keys=keys)

    assert words in str(caught.value)


def test_channels_may_come_from_the_environment() -> None:
    environment = {
        "PLET_CHANNELS": '{"w": {"kind": "webhook", "severity": "critical"}}',
        "PLET_CHANNEL_SECRET_URLS": '["w=https://hooks.example.org/x=y"]',
        "PLET_CHANNEL_SECRET_KEYS": f'["w={KEY}"]',
    }

    found = channels_of(load_settings({}, environment)).by_name["w"]

    assert getattr(found, "url", "") == "https://hooks.example.org/x=y"
