"""`plet_rules`: what may be tuned, and what is said where it cannot be."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from plet_celery.errors import SettingsError
from plet_celery.monitor import checks
from plet_celery.rulebook import CHECKS, NAMES, Rulebook
from plet_celery.settings import settings_from_json, settings_to_json
from plet_celery.settings_sources import load_settings


def test_the_rules_of_the_first_day() -> None:
    rules = {one.name: (one.threshold, one.is_on) for one in Rulebook().all()}

    assert rules == {
        "failure_rate": (0.2, True),
        "timeout_rate": (0.1, True),
        "queue_depth": (100, True),
        "check": (None, True),
        "run_lost": (0, True),
        "killer_task": (2, True),
        "host_lost": (None, True),
        "stuck": (None, True),
        "missed_schedule": (None, True),
        "drops": (0, True),
        "monitor_silent": (None, True),
    }
    assert all(one.title and not one.is_tuned for one in Rulebook().all())


def test_a_rule_is_tuned_and_the_others_stay() -> None:
    book = Rulebook(
        {
            "failure_rate": {
                "threshold": 0.5,
                "for": 7,
                "keep": 8,
                "severity": "critical",
                "window": 600,
                "minimum": 3,
            }
        }
    )

    one = book.of("failure_rate")
    assert one is not None
    assert (one.threshold, one.pending_for, one.keep_firing_for) == (0.5, 7, 8)
    assert (one.severity, one.window, one.minimum, one.is_tuned) == ("critical", 600, 3, True)
    assert book.of("timeout_rate") == Rulebook().of("timeout_rate")


@pytest.mark.parametrize("word", [False, "off", "OFF"])
def test_a_rule_is_switched_off(word: Any) -> None:
    assert [one.name for one in Rulebook({"drops": word}).all() if not one.is_on] == ["drops"]
    one = Rulebook({"drops": "on"}).of("drops")
    assert one is not None
    assert one.is_on


def test_one_check_is_tuned_on_top_of_all() -> None:
    book = Rulebook({"check:broker": {"for": 5}, "check": {"severity": "critical"}})

    broker, beat = book.of("check:broker"), book.of("check:beat")
    assert broker is not None
    assert beat is not None
    assert (broker.pending_for, broker.severity, beat.pending_for, beat.severity) == (
        5,
        "critical",
        60,
        "critical",
    )
    assert book.of("objective:1") is None


class Mute:
    """What cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("mute")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({5: "off", "drops": "off"}, "5 is no name of a rule; write it as text, such as 'failure_rate'"),
        ({Mute(): "off"}, "<a Mute> is no name of a rule"),
        ({"drops": Mute()}, "'drops': <a Mute> is neither 'off' nor a mapping"),
        ({"drops": {Mute(): 1}}, "'drops' has no <a Mute>; it has for, keep, threshold, severity"),
        ({"drops": {"for": Mute()}}, "for <a Mute> must be 0 to"),
        ({"drops": {"severity": Mute()}}, "severity <a Mute> is none"),
        ({"failure_rate": {"for": 10**400}}, "for 1000"),
        ({"failure_rate": {"for": 10**5000}}, "for <a int> must be 0 to"),
        ({"failure_rate": {"minimum": 1.5}}, "minimum 1.5 must be a whole number of runs"),
        ({"check:brokr": "off"}, "there is no rule 'check:brokr'; the nearest is 'check:broker'"),
        ({"failure_rat": "off"}, "there is no rule 'failure_rat'; the nearest is 'failure_rate'"),
        ({"check:Bro ker": "off"}, "there is no rule 'check:Bro ker'"),
        ({"objective:1": "off"}, "there is no rule 'objective:1'"),
        ({"drops": "never"}, "'drops': 'never' is neither 'off' nor a mapping"),
        ({"drops": 3}, "'drops': 3 is neither 'off' nor a mapping"),
        ({"failure_rate": {"threshold": 20}}, "threshold 20 must be 0 to 1 share (0.2 is 20 %)"),
        ({"failure_rate": {"threshold": "20%"}}, "threshold '20%' must be 0 to 1 share"),
        ({"queue_depth": {"threshold": -1}}, "threshold -1 must be 0 to 1e+12 messages"),
        ({"queue_depth": {"threshold": True}}, "threshold True must be"),
        (
            {"queue_depth": {"treshold": 5}},
            "'queue_depth' has no 'treshold'; it has for, keep, threshold, severity",
        ),
        ({"stuck": {"threshold": 5}}, "'stuck' has no 'threshold'; it has for, keep, severity"),
        ({"stuck": {"severity": "fatal"}}, "severity 'fatal' is none; write 'warning' or 'critical'"),
        ({"stuck": {"for": float("nan")}}, "for nan must be 0 to"),
        ({"failure_rate": {"window": 60}}, "window 60 must be 300 to"),
        ({"failure_rate": {"minimum": 0}}, "minimum 0 must be 1 to"),
    ],
)
def test_what_cannot_be_is_said_with_the_way_out(given: dict[Any, Any], text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"plet_rules": given}, {})

    assert text in str(caught.value)
    assert "plet_rules" in str(caught.value)


def test_rules_come_from_the_environment_and_travel_as_json() -> None:
    settings = load_settings({}, {"PLET_RULES": '{"failure_rate": {"threshold": 0.5}, "drops": "off"}'})

    again = settings_from_json(settings_to_json(settings))

    assert again.rules == {"failure_rate": {"threshold": 0.5}, "drops": "off"}
    assert again == settings


def test_every_check_has_a_rule_and_no_other_check_has() -> None:
    assert CHECKS == checks.NAMES
    assert [one.name for one in Rulebook({f"check:{name}": "off" for name in CHECKS}).all()][-13:] == sorted(
        f"check:{name}" for name in CHECKS
    )


def test_a_whole_number_may_be_written_as_a_float() -> None:
    one = Rulebook({"failure_rate": {"minimum": 3.0}}).of("failure_rate")

    assert one is not None
    assert repr(one.minimum) == "3"


def test_what_is_nested_too_deep_in_the_environment_is_refused() -> None:
    with pytest.raises(SettingsError, match="PLET_RULES of the environment has too many"):
        load_settings({}, {"PLET_RULES": "[" * 100_000, "PLET_ENABLED": "1"})


def test_the_rulebook_is_light() -> None:
    heavy = "{'sqlalchemy', 'pydantic', 'celery'}"
    script = f"import sys, plet_celery.rulebook; print(sorted({heavy} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_every_rule_has_a_name_that_a_row_holds() -> None:
    assert all(len(name) <= 64 and name == name.lower() for name in NAMES)
