"""Where options come from, what is refused and how it is said, and that secrets stay secret."""

from __future__ import annotations

import json
import math
import pickle
import re
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from pydantic import SecretStr, ValidationError

from plet_celery import settings as module
from plet_celery.errors import PletError, SettingsError
from plet_celery.settings import PREFIX, Settings, fingerprint, settings_from_json, settings_to_json
from plet_celery.settings_sources import describe_settings, load_settings

CANARY = "kanarie-7Zq4.wX"
SECRETS: dict[str, Any] = {
    "database_url": f"postgresql://bob:{CANARY}@db1/shop",
    "redact_values_secret": (CANARY, CANARY + "-2"),
}
CHANNELS: Any = {"hook": {"kind": "webhook"}}
CHANNEL_SECRETS: dict[str, Any] = {
    "channel_secret_urls": [f"hook=https://hooks.example.org/{CANARY}"],
    "channel_secret_keys": [f"hook={CANARY}-of-the-webhook"],
    "ping_secret_url": f"https://ping.example.org/{CANARY}",
}


# Sources


def test_without_any_source_every_option_has_its_default() -> None:
    assert load_settings(None, {}) == Settings()
    assert load_settings({}, {}) == Settings()


def test_the_environment_beats_the_default_and_the_conf_beats_the_environment() -> None:
    environ = {"PLET_GATHER": "0.5", "PLET_STAGE_MAX": "7"}

    found = load_settings({"plet_gather": 2, "broker_url": "x"}, environ)

    assert (found.gather, found.stage_max) == (2.0, 7)


@pytest.mark.parametrize("off", ["0", "false", "False", "no", "off", " 0 "])
def test_enabled_0_in_the_environment_beats_the_conf(off: str) -> None:
    assert load_settings({"plet_enabled": True}, {"PLET_ENABLED": off}).enabled is False
    assert _sources({"plet_enabled": True}, {"PLET_ENABLED": off})["plet_enabled"] == "environment"


def test_enabled_1_in_the_environment_does_not_beat_the_conf() -> None:
    assert load_settings({"plet_enabled": False}, {"PLET_ENABLED": "1"}).enabled is False
    assert load_settings({}, {"PLET_ENABLED": "1"}).enabled is True


def test_the_environment_is_read_without_regard_to_case_behind_the_prefix() -> None:
    assert load_settings({"plet_enabled": True}, {"PLET_Enabled": "0"}).enabled is False
    assert load_settings({}, {"PLET_home": "/a"}).home == "/a"
    assert load_settings({}, {"plet_home": "/a"}).home is None


def test_an_empty_variable_counts_as_unset() -> None:
    found = load_settings(
        {}, {"PLET_HOME": "", "PLET_DATABASE_URL": "", "PLET_ENABLED": "", "PLET_GATHER": ""}
    )

    assert found == Settings()


def test_unknown_variables_are_not_ours() -> None:
    assert load_settings({}, {"PLET_PORT": "tcp://10.0.0.1:80", "PLET_SERVICE_HOST": "x"}) == Settings()


@pytest.mark.parametrize(
    "text",
    ['["shop.*", "mail.send"]', "shop.*,mail.send", " shop.* , mail.send ,", '[ "shop.*","mail.send" ]'],
)
def test_a_list_in_the_environment_is_json_or_separated_by_commas(text: str) -> None:
    assert load_settings({}, {"PLET_RECORD_TASKS": text}).record_tasks == ("shop.*", "mail.send")


def test_one_name_in_the_environment_is_a_list_of_one() -> None:
    assert load_settings({}, {"PLET_IGNORE_TASKS": "shop.noise"}).ignore_tasks == ("shop.noise",)


def test_secrets_in_the_environment_are_json_because_they_may_hold_commas() -> None:
    found = load_settings({}, {"PLET_REDACT_VALUES_SECRET": '["one,two", "three four"]'})
    assert [value.get_secret_value() for value in found.redact_values_secret] == ["one,two", "three four"]

    with pytest.raises(SettingsError) as caught:
        load_settings({}, {"PLET_REDACT_VALUES_SECRET": CANARY})
    assert "redact_values_secret" in str(caught.value)
    assert '["a", "b"]' in str(caught.value)
    assert CANARY not in str(caught.value)


def test_the_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLET_GATHER", "3")

    assert load_settings(None).gather == 3.0
    assert {one.name: one.source for one in describe_settings(None)}["plet_gather"] == "environment"


def test_a_celery_app_is_a_source() -> None:
    app = Celery("shop", broker="memory://")
    app.conf.plet_gather = 1.5
    app.conf.update(plet_record_tasks=["shop.*"])

    found = load_settings(app.conf, {})

    assert (found.gather, found.record_tasks) == (1.5, ("shop.*",))


def test_options_of_the_constructor_and_of_a_module_are_a_source() -> None:
    app = Celery("shop", broker="memory://", config_source=SimpleNamespace(plet_gather=1.5), plet_stage_max=9)

    found = load_settings(app.conf, {})

    assert (found.gather, found.stage_max) == (1.5, 9)


def test_django_writes_them_with_its_namespace() -> None:
    app = Celery("shop")
    app.config_from_object(
        SimpleNamespace(
            CELERY_PLET_DATABASE_URL="sqlite:///x.db", CELERY_PLET_GATHER=2, DEBUG=True, PLET_HOME="not ours"
        ),
        namespace="CELERY",
    )

    found = load_settings(app.conf, {"PLET_GATHER": "9"})

    assert found.database_url == SecretStr("sqlite:///x.db")
    assert (found.gather, found.home) == (2.0, None)
    assert _sources(app.conf, {})["plet_database_url"] == "conf"


def test_an_unknown_name_in_django_is_refused_like_any_other() -> None:
    app = Celery("shop")
    app.config_from_object(SimpleNamespace(CELERY_PLET_DATABSE_URL="x"), namespace="CELERY")

    with pytest.raises(SettingsError, match="plet_database_url"):
        load_settings(app.conf, {})


def test_every_option_tells_its_source() -> None:
    sources = _sources({"plet_gather": 1}, {"PLET_HOME": "/a"})

    assert list(sources) == [PREFIX + name for name in Settings.model_fields]
    assert (sources["plet_gather"], sources["plet_home"]) == ("conf", "environment")
    assert set(sources.values()) == {"conf", "environment", "default"}


def _sources(conf: Any, environ: dict[str, str]) -> dict[str, str]:
    return {one.name: one.source for one in describe_settings(conf, environ)}


# Refusals


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("plet_databse_url", "plet_database_url"),
        ("plet_db_url", "plet_database_url"),
        ("plet_retention", "plet_retention_days"),
        ("plet_", "plet_"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(wrong: str, nearest: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({wrong: "x"}, {})

    assert repr(wrong) in str(caught.value)
    assert nearest in str(caught.value).replace(repr(wrong), "")


def test_upper_case_without_a_namespace_is_refused_because_celery_would_not_read_it() -> None:
    app = Celery("shop")
    app.config_from_object(SimpleNamespace(PLET_DATABASE_URL=CANARY, PLET_OTHER=1))

    with pytest.raises(SettingsError) as caught:
        load_settings(app.conf, {})

    assert "'PLET_DATABASE_URL'" in str(caught.value)
    assert "'plet_database_url'" in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gather", "soon"),
        ("gather", 0),
        ("gather", -1),
        ("gather", math.nan),
        ("retention_days", math.inf),
        ("retention_days", None),
        ("stage_max", 1.5),
        ("stage_max", "many"),
        ("log_level", "LOUD"),
        ("durability", "always"),
        ("enabled", "perhaps"),
        ("record_tasks", 5),
        ("record_tasks", "shop.*"),
        ("home", 5),
    ],
)
def test_a_bad_value_is_refused_with_field_value_source_and_way_out(name: str, value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({PREFIX + name: value}, {})

    message = str(caught.value)
    assert message.startswith(f"plet_{name} = {value!r} (from conf): ")
    assert "Input should be" in message
    assert "default " in message
    assert isinstance(caught.value, PletError)


def test_a_bad_value_of_the_environment_names_the_environment() -> None:
    with pytest.raises(SettingsError, match=re.escape("plet_gather = 'soon' (from environment): ")):
        load_settings({}, {"PLET_GATHER": "soon"})


def test_every_bad_value_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"plet_gather": "x", "plet_stage_max": 0}, {})

    assert len(str(caught.value).splitlines()) == 2


def test_a_short_value_to_hide_is_refused_because_it_would_mask_ordinary_text() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"plet_redact_values_secret": ["abcde"]}, {})

    assert "at least 6 characters" in str(caught.value)
    assert "abcde" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:hushhush@h:port/x", "port is no number"),
        ("postgresql://u:hush/hush@h/x", "port is no number"),
        ("postgresql://u:p@hush@h/x", "@ too many"),
        ("hushhush", "no database URL"),
        ("", "no database URL"),
        ("/var/hushhush.db", "no database URL"),
    ],
)
def test_a_database_url_that_is_none_is_refused_without_repeating_it(url: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        load_settings({"plet_database_url": url}, {})

    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////var/plet.db",
        "postgresql+psycopg://u:p%40@[::1]:5432/x",
        "mariadb://h/x",
        "postgresql:///x?host=/run",
    ],
)
def test_a_database_url_is_taken_as_it_is(url: str) -> None:
    found = load_settings({"plet_database_url": url}, {}).database_url

    assert found is not None
    assert found.get_secret_value() == url


# The way to the shipper


def test_settings_survive_the_way_through_json() -> None:
    given = {PREFIX + name: value for name, value in SECRETS.items()}
    given |= {"plet_gather": 0.125, "plet_tenants_allowed": ["a/b"], "plet_home": "/ü"}
    found = load_settings(given, {})

    again = settings_from_json(settings_to_json(found))

    assert again == found
    assert again.database_url is not None
    assert CANARY in again.database_url.get_secret_value()
    assert settings_from_json(settings_to_json(found).encode()) == found


PAGES = {"insecure_open", "rights_for", "tenants_for", "objectives"}
"""What a shipper never gets to know."""


def test_the_fingerprint_is_stable_and_changes_with_any_option_of_a_shipper() -> None:
    base = fingerprint(Settings())
    others: dict[str, Any] = {
        name: _other(field.default)
        for name, field in Settings.model_fields.items()
        if name not in {*SECRETS, *PAGES}
    }
    others |= (
        SECRETS
        | CHANNEL_SECRETS
        | {
            "durability": "terminal",
            "log_level": "ERROR",
            "shipper": "off",
            "home": "/a",
            "mirror": "/b",
            "monitor_queue": "watch",
            "channels": CHANNELS,
            "pages_url": "https://flower.example.org/plet",
        }
    )
    others["sample"] = {"shop.*": 0.5}
    others["stuck_after_tasks"] = {"shop.*": 5.0}
    others["rules"] = {"drops": "off"}
    others["stuck_after_tasks"] = {"shop.*": 60.0}
    given = {name: {PREFIX + name: value} for name, value in others.items()}
    # Addresses and keys are of a channel, which cannot be without them.
    hook = {PREFIX + name: value for name, value in CHANNEL_SECRETS.items()} | {"plet_channels": CHANNELS}
    given["channels"] = hook
    given["channel_secret_urls"] = hook | {"plet_channel_secret_urls": ["hook=https://b.example.org"]}
    given["channel_secret_keys"] = hook | {"plet_channel_secret_keys": ["hook=0123456789abcdef"]}

    prints = {name: fingerprint(load_settings(conf, {})) for name, conf in given.items()}

    assert re.fullmatch("[0-9a-f]{12}", base)
    assert fingerprint(Settings()) == base
    assert len({base, *prints.values()}) == len(Settings.model_fields) - len(PAGES) + 1


def test_what_only_the_pages_ask_is_no_business_of_a_shipper() -> None:
    given = {"plet_insecure_open": True, "plet_rights_for": repr, "plet_tenants_for": "shop:tenants"}
    found = load_settings(given, {})

    assert fingerprint(found) == fingerprint(Settings())
    assert not PAGES & json.loads(settings_to_json(found)).keys()
    shown = {one.name: one.value for one in describe_settings(given, {})}
    assert shown["plet_rights_for"] == "builtins:repr"


def _other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return ("other",) if isinstance(value, tuple) else value


def test_settings_cannot_be_changed_and_can_be_pickled() -> None:
    found = Settings()

    with pytest.raises(ValidationError):
        found.gather = 5.0  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(found)) == found


# The model


def test_every_option_has_a_description_that_ends_as_a_sentence() -> None:
    for name, field in Settings.model_fields.items():
        assert (field.description or "").endswith("."), name


def test_units_are_in_the_name_and_durations_are_seconds() -> None:
    for name, field in Settings.model_fields.items():
        text = field.description or ""
        if "Seconds" in text:
            assert not re.search("(days|bytes|percent|ms|minutes)$", name), name
        if name.endswith("_days"):
            assert text.startswith("Days"), name
        if re.search(r"\b(size|space|bytes|KiB|MiB)\b", text) and field.annotation is int:
            assert name.endswith("_bytes"), name


def test_the_prefix_is_what_celery_passes_on() -> None:
    assert module.PREFIX == "plet_"
