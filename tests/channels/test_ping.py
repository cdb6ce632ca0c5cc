"""The dead man's switch: a GET after every complete pass, /fail after another; it never raises."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from webhooks import answer, close, hang, receiving, redirect

from plet_celery.monitor import ping as module
from plet_celery.monitor.channels.request import Rules
from plet_celery.monitor.ping import Pinged, failed, ping
from plet_celery.settings import Settings
from plet_celery.settings_sources import load_settings


def pinging(url: str, **more: Any) -> Settings:
    return load_settings({"plet_ping_secret_url": url, "plet_ping_allow_private": True} | more, {})


def test_a_complete_pass_pings_and_another_one_pings_its_failure() -> None:
    with receiving() as receiver:
        settings = pinging(f"http://127.0.0.1:{receiver.port}/ping/u-u-i-d?rid=1")

        results = [ping(settings, is_complete=complete) for complete in (True, False)]

    assert [one.place for one in receiver.requests] == ["/ping/u-u-i-d?rid=1", "/ping/u-u-i-d/fail?rid=1"]
    assert [one.method for one in receiver.requests] == ["GET", "GET"]
    assert [(one.ok, one.status) for one in results] == [(True, "answered 200")] * 2


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://hc-ping.com/uuid", "https://hc-ping.com/uuid/fail"),
        ("https://hc-ping.com/uuid/", "https://hc-ping.com/uuid/fail"),
        ("https://hc-ping.com/key/slug?create=1#x", "https://hc-ping.com/key/slug/fail?create=1"),
        ("https://example.org", "https://example.org/fail"),
    ],
)
def test_the_failures_address(url: str, expected: str) -> None:
    assert failed(url) == expected


def test_without_an_address_nothing_is_done() -> None:
    assert ping(Settings(), is_complete=True) == Pinged(ok=True, status="")


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (answer(404), "answered 404"),
        (redirect("http://127.0.0.1:1/"), "answered 307"),
        (close, "it closed the connection without an answer"),
        (hang, "no answer within 0.3 s"),
    ],
)
def test_whatever_the_other_side_does_is_told(
    behave: Any, words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.3 if behave is hang else 20.0)
    with receiving(behave) as receiver:
        result = ping(pinging(f"http://127.0.0.1:{receiver.port}/u-u-i-d"), is_complete=True)

    if result.status == "not done within 0.3 s" and behave is hang:
        words = result.status  # on a busy machine the request may not get to say why
    assert (result.ok, result.status) == (False, words)
    assert "ping was not taken" in caplog.text and words in caplog.text
    assert "u-u-i-d" not in caplog.text + repr(result)


def test_nobody_there_is_told() -> None:
    result = ping(pinging("http://127.0.0.1:1/u-u-i-d"), is_complete=True)

    assert (result.ok, result.status) == (False, "no connection: Connection refused")


def test_a_name_server_that_hangs_keeps_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.05)
    with receiving() as receiver:

        def resolve(*args: Any, **kwargs: Any) -> Any:
            receiver.closing.wait(60)
            raise socket.gaierror

        rules = Rules(allow_private=True, resolve=resolve)
        result = ping(pinging("http://ping.example.org/"), is_complete=True, rules=rules)

    assert (result.ok, result.status) == (False, "not done within 0.05 s")


def test_a_private_address_and_plain_http_are_refused_unless_allowed() -> None:
    with receiving() as receiver:
        for url, words in (
            (f"http://127.0.0.1:{receiver.port}/", "refused: it is plain http"),
            (f"https://127.0.0.1:{receiver.port}/", "refused: its host has no public address"),
        ):
            result = ping(load_settings({"plet_ping_secret_url": url}, {}), is_complete=True)
            assert not result.ok and words in result.status

        assert receiver.connections == 0
