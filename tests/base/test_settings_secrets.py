"""A canary in each secret setting is found in no form that the settings, or Celery itself, show."""

from __future__ import annotations

import io
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.app.utils import HIDDEN_SETTINGS, bugreport  # type: ignore[attr-defined]
from pydantic import ValidationError

from plet_celery.errors import SettingsError
from plet_celery.settings import PREFIX, Settings, fingerprint
from plet_celery.settings_sources import describe_settings, load_settings

CANARY = "kanarie-7Zq4.wX"
SECRETS: dict[str, Any] = {
    "database_url": f"postgresql://bob:{CANARY}@db1/shop",
    "redact_values_secret": (CANARY, CANARY + "-2"),
    "channel_secret_urls": [f"hook=https://hooks.example.org/{CANARY}", f"mail=tgram://{CANARY}/1"],
    "channel_secret_keys": [f"hook={CANARY}-of-the-webhook"],
    "ping_secret_url": f"https://ping.example.org/{CANARY}",
}
CHANNELS: Any = {"hook": {"kind": "webhook"}, "mail": {"kind": "notify"}}
SECRET_FIELDS = [name for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)]


@pytest.mark.parametrize("value", [5, [CANARY], {CANARY: 1}, CANARY.encode("utf-16"), (CANARY, 5), object()])
@pytest.mark.parametrize("name", SECRET_FIELDS)
def test_a_bad_secret_is_refused_without_showing_it(name: str, value: Any) -> None:
    try:
        load_settings({PREFIX + name: value}, {})
    except SettingsError as error:
        assert f"plet_{name} = *** (from conf)" in str(error)
        assert CANARY not in str(error)
        assert error.__cause__ is None
        assert error.__suppress_context__


def test_the_model_itself_does_not_show_a_bad_input_either() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(database_url=[CANARY])

    assert CANARY not in str(caught.value)


def test_there_is_a_canary_for_every_secret_field() -> None:
    assert sorted(SECRETS) == sorted(SECRET_FIELDS)


@pytest.mark.parametrize("name", SECRET_FIELDS)
def test_celery_itself_masks_every_secret_setting(name: str) -> None:
    assert HIDDEN_SETTINGS.search(PREFIX + name)


@pytest.fixture
def secret_app() -> Celery:
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update({PREFIX + name: value for name, value in SECRETS.items()}, plet_channels=CHANNELS)
    return app


def test_no_secret_is_in_celerys_own_reports(secret_app: Celery) -> None:
    shown = [
        repr(secret_app.conf.table(with_defaults=True, censored=True)),
        secret_app.conf.humanize(with_defaults=False, censored=True),
        secret_app.conf.humanize(with_defaults=True, censored=True),
        bugreport(secret_app),
    ]

    for text in shown:
        assert "plet_database_url" in text or "database_url" in text
        assert CANARY not in text


def test_no_secret_is_in_celerys_reports_under_a_django_namespace() -> None:
    app = Celery("shop")
    given = {f"CELERY_PLET_{name.upper()}": value for name, value in SECRETS.items()}
    app.config_from_object(SimpleNamespace(**given), namespace="CELERY")

    assert CANARY not in bugreport(app)
    assert CANARY not in repr(app.conf.table(with_defaults=True, censored=True))


def test_no_secret_is_in_any_form_of_the_settings(secret_app: Celery) -> None:
    found = load_settings(secret_app.conf, {})
    stream = io.StringIO()
    log = logging.Logger("test")
    log.addHandler(logging.StreamHandler(stream))
    log.warning("settings: %s %r", found, found)

    shown = [
        repr(found),
        str(found),
        f"{found}",
        repr(dict(found)),
        repr(found.model_dump()),
        found.model_dump_json(),
        repr(describe_settings(secret_app.conf, {})),
        json.dumps([one.model_dump() for one in describe_settings(secret_app.conf, {})]),
        fingerprint(found),
        stream.getvalue(),
    ]

    for text in shown:
        assert CANARY not in text


@pytest.mark.parametrize(
    "given",
    [
        {"channels": {"hook": {"kind": "webhook", "url": CANARY}}},
        {"channels": {"hook": {"kind": "webhook", CANARY: 1}}},
        {"channels": {"hook": {"kind": CANARY}}},
        {"channels": {CANARY: {"kind": "webhook"}}},
        {"channels": {"hook": CANARY}},
        {"channels": CANARY},
        {"channels": CHANNELS, "channel_secret_urls": {"hook": CANARY}},
        {"channels": CHANNELS, "channel_secret_urls": [CANARY]},
        {"channels": CHANNELS, "channel_secret_urls": [f"{CANARY}=https://a"]},
        {"channels": CHANNELS, "channel_secret_urls": [f"hook=http://{CANARY}", "mail=a://b"]},
        {"channels": CHANNELS, "channel_secret_urls": [f"hook=https://u:{CANARY}@a", "mail=a://b"]},
        {"channels": CHANNELS, "channel_secret_urls": [f"hook=https://a:{CANARY}/", "mail=a://b"]},
        {"channels": CHANNELS, "channel_secret_urls": [f"hook=https://[{CANARY}", "mail=a://b"]},
        {"channels": CHANNELS, "channel_secret_urls": ["hook=https://a", f"mail={CANARY}"]},
        {"channels": CHANNELS, "channel_secret_keys": [f"mail={CANARY}"]},
        {"channels": {"hook": {"kind": "webhook", "proxy": f"http://u:{CANARY}@proxy:1"}}},
        {"pages_url": f"https://u:{CANARY}@flower.example.org"},
        {"ping_secret_url": f"mailto:{CANARY}"},
    ],
)
def test_no_secret_in_the_wrong_place_is_shown_by_the_error(given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({PREFIX + name: value for name, value in given.items()}, {})

    assert CANARY not in str(caught.value)


def test_secrets_in_a_mapping_are_refused_as_celery_would_show_them() -> None:
    app = Celery("shop", set_as_current=False)
    app.conf.plet_channel_secret_urls = {"hook": f"https://hooks.example.org/{CANARY}"}

    # Celery looks into mappings, and masks by the names there.
    assert CANARY in bugreport(app)
    with pytest.raises(SettingsError, match="it is a mapping, whose secrets Celery shows"):
        load_settings(app.conf, {})


def test_secrets_are_shown_as_stars_and_absent_ones_as_absent(secret_app: Celery) -> None:
    given = {one.name: one.value for one in describe_settings(secret_app.conf, {})}
    absent = {one.name: one.value for one in describe_settings({}, {})}

    assert given["plet_database_url"] == "***"
    assert given["plet_redact_values_secret"] == ["***", "***"]
    assert given["plet_channel_secret_urls"] == ["***", "***"]
    assert given["plet_ping_secret_url"] == "***"
    assert absent["plet_database_url"] is None
    assert absent["plet_redact_values_secret"] == []
