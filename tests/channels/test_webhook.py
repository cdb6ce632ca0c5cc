"""A webhook is signed, carries the same key and body each time, and shows nothing of the answer."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import asdict

import pytest
from alerting import NOW, a_message, an_alert, channels, told
from webhooks import answer, receiving, redirect
from worlds import world_of

from plet_celery.monitor import outbox, trying
from plet_celery.monitor.channels.channel import Undelivered
from plet_celery.monitor.channels.request import Rules
from plet_celery.monitor.channels.webhook import WebhookChannel, body_of, shown_url, signature
from plet_celery.monitor.checks import run_check
from plet_celery.store import Store
from plet_celery.watchfacts import Level

HOUR = 3600.0
KEY = "0123456789abcdef-key"


def channel(url: str, *keys: str) -> WebhookChannel:
    return WebhookChannel(
        name="ops", url=url, keys=keys or (KEY,), timeout=20, rules=Rules(allow_private=True)
    )


def test_the_body_is_the_message_and_its_version() -> None:
    message = a_message()

    body = json.loads(body_of(message))

    assert body.pop("version") == 1
    assert body == asdict(message) | {"runs": list(message.runs)}


def test_the_signature_is_hmac_sha256_of_timestamp_and_body() -> None:
    message = a_message()
    with receiving(answer(202)) as receiver:
        status = channel(receiver.url).send(message, now=NOW + 0.9)

    (request,) = receiver.requests
    headers = request.headers
    signed = headers["X-Plet-Timestamp"].encode() + b"." + request.body
    assert status == "answered 202"
    assert headers["X-Plet-Timestamp"] == str(int(NOW))
    assert headers["X-Plet-Signature"] == "v1=" + hmac.new(KEY.encode(), signed, hashlib.sha256).hexdigest()
    assert headers["Idempotency-Key"] == message.id
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("plet-celery/")


def test_while_a_key_changes_both_sign() -> None:
    with receiving() as receiver:
        channel(receiver.url, "old-old-old-old-old", KEY).send(a_message(), now=NOW)

    (request,) = receiver.requests
    signs = request.headers["X-Plet-Signature"].split(",")
    assert signs == [signature([key], int(NOW), request.body) for key in ("old-old-old-old-old", KEY)]


def test_a_repeat_has_the_same_key_and_body_and_a_signature_of_its_own_time() -> None:
    message = a_message()
    with receiving() as receiver:
        for now in (NOW, NOW + 3600):
            channel(receiver.url).send(message, now=now)

    first, second = receiver.requests
    assert first.body == second.body
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.headers["X-Plet-Signature"] != second.headers["X-Plet-Signature"]


@pytest.mark.parametrize("status", [300, 400, 401, 404, 410, 429, 500, 503])
def test_what_is_not_2xx_is_undelivered_and_only_the_status_is_told(status: int) -> None:
    behave = answer(status, "X-Hidden: c4n4ry", body=b"c4n4ry")
    with receiving(behave) as receiver, pytest.raises(Undelivered) as caught:
        channel(receiver.url).send(a_message(), now=NOW)

    assert "c4n4ry" not in str(caught.value)
    assert str(caught.value).startswith("answered ")


def test_a_webhook_that_is_down_for_long_is_red_until_a_test_reaches_it(store: Store) -> None:
    now = time.time() - 26 * HOUR
    with receiving(answer(503)) as receiver:
        found = channels(channel(receiver.url), disable_after=24 * HOUR)
        for hour in range(26):
            told(store, an_alert(), "ops", now=now + hour * HOUR)
            outbox.deliver(store, found, now=now + hour * HOUR, owner="test", has_app=True, seconds=60.0)
        (red,) = run_check(world_of(store), "channel", now=time.time(), seconds=20)
        receiver.behave = answer(200)
        assert trying.try_out(store, found, "ops", now=time.time()).ok

    (well,) = run_check(world_of(store), "channel", now=time.time(), seconds=20)
    assert (red.level, well.level) == (Level.CRITICAL, Level.OK)
    assert "in a row: answered 503" in red.observation, red.observation


def test_a_redirect_is_told_as_such() -> None:
    behave = redirect("https://evil.example.org/c4n4ry")
    with receiving(behave) as receiver, pytest.raises(Undelivered) as caught:
        channel(receiver.url).send(a_message(), now=NOW)

    assert str(caught.value) == "answered 307; redirects are not followed"


def test_an_address_is_shown_as_host_and_hash() -> None:
    url = "https://hooks.example.org:8443/services/t0k3n?key=s3cr3t"

    shown = shown_url(url)

    assert shown == f"hooks.example.org #{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    assert channel(url).target == shown
    assert "t0k3n" not in repr(channel(url)) and KEY not in repr(channel(url))
