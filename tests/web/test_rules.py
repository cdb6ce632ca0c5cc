"""The project's rules: asked once for a few seconds, and never letting anybody in by mistake."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flowers import running_flower

from plet_celery.settings import Settings
from plet_celery.web.access import RIGHTS, Viewer
from plet_celery.web.pool import Busy
from plet_celery.web.rules import KEPT_SECONDS, Refused, Rules


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def rules_of(rights_for: Any = None, tenants_for: Any = None, *, clock: Callable[[], float]) -> Rules:
    settings = Settings(rights_for=rights_for, tenants_for=tenants_for)
    return Rules(lambda: settings, clock=clock)


def test_an_answer_holds_for_a_few_seconds_for_its_user_alone() -> None:
    asked: list[str | None] = []

    def rights(user: str | None) -> set[str]:
        asked.append(user)
        return {"runs"}

    async def scenario() -> None:
        clock = Clock()
        rules = rules_of(rights, clock=clock)
        await asyncio.gather(*(rules.viewer("ada") for _ in range(10)))
        await rules.viewer("bob")
        clock.now = KEPT_SECONDS - 0.1
        await rules.viewer("ada")
        assert asked == ["ada", "bob"]

        clock.now = KEPT_SECONDS
        found = await rules.viewer("ada")

        assert asked == ["ada", "bob", "ada"]
        assert found == Viewer("ada", frozenset({"runs"}), None)

    asyncio.run(scenario())


def test_without_rules_nobody_is_asked() -> None:
    found = asyncio.run(rules_of(clock=Clock()).viewer("ada"))

    assert found == Viewer("ada", RIGHTS, None)


def test_a_right_that_is_taken_away_is_gone_when_the_answer_is_over() -> None:
    granted = {"runs", "logs"}

    async def scenario() -> None:
        clock = Clock()
        rules = rules_of(lambda user: granted, clock=clock)
        await rules.viewer("ada")
        granted.clear()
        clock.now = KEPT_SECONDS

        assert await rules.viewer("ada") == Viewer("ada", frozenset(), None)

    asyncio.run(scenario())


@pytest.mark.parametrize("rule", ["no_such_module:rights", "plet_celery:nothing", "no dots"])
def test_a_rule_that_cannot_be_imported_is_told_once(rule: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        clock = Clock()
        rules = rules_of(rule, clock=clock)
        for clock.now in (0.0, 10.0, 20.0):
            found = await rules.viewer("ada")
            assert isinstance(found, Refused)
            assert found.why.startswith("plet_rights_for of this project cannot be used")

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())

    assert len([one for one in caplog.records if "nobody is let in" in one.message]) == 1


def test_a_rule_that_takes_too_long_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    go_on = threading.Event()

    def rights(user: str | None) -> set[str]:
        asked.append(user)
        if len(asked) == 1:
            go_on.wait(60)
        return {"runs"}

    async def scenario() -> None:
        rules = rules_of(rights, clock=Clock())
        run = rules._threads.run
        monkeypatch.setattr(rules._threads, "run", lambda job: run(job, seconds=0.2))
        with pytest.raises(Busy):
            await rules.viewer("ada")
        monkeypatch.undo()

        assert isinstance(await rules.viewer("ada"), Viewer)
        go_on.set()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "module", ["import no_such_thing", "raise RuntimeError('canary-' + __file__)", "def rights(: pass"]
)
def test_a_broken_module_of_rules_is_a_page_that_says_what_to_do(shop: Any, module: str) -> None:
    shop.write("app.conf.plet_rights_for = 'shop_broken:rights'")
    Path(shop.folder / "shop_broken.py").write_text(module + "\n")
    with running_flower(shop.folder) as flower:
        answers = [flower.get(path) for path in ("plet/", "plet/?region=runs", "plet/workers")]
        log = flower.log.read_text()

    assert [one.status for one in answers] == [403, 403, 403]
    page = answers[0].text
    assert "plet_rights_for of this project cannot be used, so nobody is let in" in page
    for secret in ("Traceback", "canary", str(shop.folder), "shop_broken", "no_such_thing"):
        assert secret not in page
    assert log.count("nobody is let in") == 1
    assert "Traceback" not in log
