"""docs/alerts.md: its tables say what holds, and its examples run."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from storing import new_store

from plet_celery.rulebook import NAMES, Rulebook
from plet_celery.settings_sources import load_settings
from plet_celery.store import alerting

PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()
RULES, KEYS, TRANSITIONS = (
    [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE)
)
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SECONDS = {"–": 0, "60 s": 60, "2 min": 120, "5 min": 300}


def test_the_page_names_every_rule() -> None:
    names = [row[0].strip("`").split("`")[0] for row in RULES]

    assert sorted(names) == sorted([*NAMES, "objective:ID"])


@pytest.mark.parametrize("row", [row for row in RULES if "objective" not in row[0]], ids=lambda row: row[0])
def test_a_rules_row_has_its_numbers(row: list[str]) -> None:
    name, when, for_, keep, severity, _ = row
    rule = Rulebook().of(name.strip("`").split("`")[0])

    assert rule is not None
    assert (SECONDS[for_], SECONDS[keep]) == (rule.pending_for, rule.keep_firing_for)
    assert severity == (rule.severity or "as the check says")
    if rule.threshold:
        shown = f"{rule.threshold:.0%}".replace("%", " %") if rule.unit == "share" else f"{rule.threshold:g}"
        assert f"more than {shown}" in when
    assert ("an hour" in when) == (rule.window == 3600) or name in ("`run_lost`", "`host_lost`", "`drops`")
    assert (f"at least {rule.minimum}" in when) == (rule.minimum is not None)


@pytest.mark.parametrize("row", KEYS, ids=lambda row: row[0])
def test_a_key_is_taken_by_the_rules_that_the_page_says(row: list[str]) -> None:
    values = {"threshold": 0.5, "for": 5, "keep": 5, "severity": "critical", "window": 600, "minimum": 5}
    for key in re.findall(r"`(\w+)`", row[0]):
        takers = []
        for name in NAMES:
            try:
                Rulebook({name: {key: values[key]}})
            except ValueError:
                continue
            takers.append(name)

        said = re.findall(r"`(\w+)`", row[2])
        assert takers == (said if said else list(NAMES))


def test_the_page_names_every_transition() -> None:
    said = {name for row in TRANSITIONS for name in re.findall(r"`(\w+)`", row[0])}

    assert said == {
        *("pending", "fired", "worse", "resolved", "ended", "flapping", "steady"),
        *("no_data", "has_data", "unsilenced", "acknowledged"),
    }


def test_the_rules_of_the_page_are_taken() -> None:
    conf = SimpleNamespace()
    exec(EXAMPLES[0], {"app": SimpleNamespace(conf=conf)})

    rules = Rulebook(load_settings({"plet_rules": conf.plet_rules}, {}).rules)

    assert [one.name for one in rules.all() if not one.is_on] == ["drops", "check:disk"]


def test_the_silence_of_the_page_is_made_and_ended(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    code = EXAMPLES[1].replace('open_store("sqlite:///.plet/plet.db")', "made")
    now = time.time()

    exec(code.replace("from plet_celery.store import alerting, open_store", ""), {
        "alerting": alerting, "made": store,
    })  # fmt: skip

    (silence,) = alerting.silences(store, now=now + 601, ended=True)
    assert (silence.subject, silence.reason, silence.ended_by) == ("shop.*", "deployment", "kim")
    store.close()
