"""Answers are given again while they are true, and for no longer."""

from __future__ import annotations

import time
from typing import Any

import pytest
from flowers import running_flower
from recorded_runs import Story
from waiting import wait_until

from plet_celery.store import queries
from plet_celery.web.answers import COSTLY_SECONDS, KEPT_SECONDS, Answers, Costly, Shared

MARK, OTHER = (1.0, 2.0), (1.0, 3.0)
RULES = """
def tenants(user):
    return {"ada": ["acme"], "bob": ["other"]}[user]

app.conf.plet_tenants_for = tenants
"""


def test_an_answer_is_given_again_while_nothing_has_changed() -> None:
    answers = Answers()
    answers.keep("list", "<p>one</p>", 100.0, MARK)

    assert answers.again("list", MARK, 100.0 + KEPT_SECONDS / 2) == "<p>one</p>"


def test_an_answer_is_not_given_again_after_a_change() -> None:
    answers = Answers()
    answers.keep("list", "<p>one</p>", 100.0, MARK)

    assert answers.again("list", OTHER, 100.0) is None


def test_an_answer_grows_old_without_a_change() -> None:
    answers = Answers()
    answers.keep("list", "<p>one</p>", 100.0, MARK)

    assert answers.again("list", MARK, 100.0 + KEPT_SECONDS) is None
    assert answers.again("list", MARK, 99.0) is None  # a clock was set back


def test_an_answer_that_may_be_old_is_given_again_whatever_changed() -> None:
    answers = Answers()
    answers.keep("figures", "<p>one</p>", 100.0, MARK)

    assert answers.recent("figures", 2.0, 101.9) == "<p>one</p>"
    assert answers.recent("figures", 2.0, 102.0) is None
    assert answers.recent("figures", 2.0, 99.0) is None  # a clock was set back
    assert answers.recent("figures", 0.0, 100.0) is None
    assert answers.recent("others", 2.0, 100.0) is None


def test_an_answer_without_a_mark_is_shown_in_trouble_alone() -> None:
    answers = Answers()
    answers.keep("list", "<p>one</p>", 100.0)

    assert answers.again("list", None, 100.0) is None
    assert "<p>one</p>" in answers.with_trouble("list", "the store is down")


def test_what_was_made_is_shared_under_one_mark() -> None:
    shared: Shared[object] = Shared(most=2)
    first = shared.ask("run", MARK, object)

    assert shared.ask("run", MARK, object) is first
    assert shared.ask("run", OTHER, object) is not first
    assert shared.ask("another", MARK, object) is not first


def test_few_are_shared() -> None:
    shared: Shared[object] = Shared(most=2)
    first, _, _ = (shared.ask(key, MARK, object) for key in (1, 2, 3))

    assert shared.ask(1, MARK, object) is not first


@pytest.mark.parametrize(("cost", "seconds"), [(0.001, 1.0), (0.02, 20.0), (5.0, COSTLY_SECONDS)])
def test_a_costly_answer_is_kept_as_long_as_its_cost_says(cost: float, seconds: float) -> None:
    now, asked = [100.0], list[str]()
    costly = Costly(clock=lambda: now[0])

    def sums(name: str) -> str:
        asked.append(name)
        now[0] += cost
        return name

    def ask(name: str) -> str:
        return costly.ask(name, lambda: sums(name))

    assert [ask(name) for name in ("acme", "other", "acme")] == ["acme", "other", "acme"]
    assert asked == ["acme", "other"]
    now[0] += seconds
    assert (ask("acme"), asked[2:]) == ("acme", ["acme"])


def test_the_mark_differs_once_something_was_shipped(database_url: str) -> None:
    story = Story(database_url)
    before = queries.change_mark(story.store)
    same = queries.change_mark(story.store)

    story.run("shop.index", started=time.time())
    story.ship()

    assert before == same
    assert queries.change_mark(story.store) not in (before, None)
    story.close()


def test_a_list_that_was_asked_for_a_moment_ago_shows_what_came_since(shop: Any) -> None:
    with running_flower(shop.folder) as flower:
        flower.get()
        run = shop.story.run("shop.later", started=shop.now)
        shop.story.ship()
        page, region = flower.get(), flower.get("plet/?region=runs")
        running = flower.get(f"plet/runs/{run.id}?region=head")
        run.succeed()
        shop.story.ship()
        ended = flower.get(f"plet/runs/{run.id}?region=head")

    assert "shop.later" in page.text and "shop.later" in region.text
    assert "succeeded" not in running.text and "succeeded" in ended.text


def test_an_unchanged_list_grows_old(shop: Any) -> None:
    run = shop.story.run("shop.removed", started=shop.now)
    run.succeed()
    shop.story.ship()
    store = shop.story.store
    with running_flower(shop.folder) as flower:
        before = flower.get("plet/?region=runs").text
        with store.writing() as connection:
            connection.execute(store.tables.run.delete().where(store.tables.run.c.id == run.id))
        # Nothing tells of what is removed: to ask again and again must not keep the answer young.
        wait_until(lambda: run.id not in flower.get("plet/?region=runs").text, timeout=60)

    assert run.id in before


def test_a_kept_region_is_its_viewers_alone(shop: Any) -> None:
    shop.write(RULES)
    mine = shop.story.run("shop.mine", started=shop.now, tenant="acme")
    mine.succeed()
    shop.story.ship()
    with running_flower(shop.folder, "--basic-auth=ada:pw,bob:pw") as flower:
        shown = [flower.get("plet/?region=runs", user=user).text for user in ("ada:pw", "bob:pw", "ada:pw")]
        pages = [flower.get(f"plet/runs/{mine.id}", user=user).status for user in ("ada:pw", "bob:pw")]

    assert ["shop.mine" in text for text in shown] == [True, False, True]
    assert pages == [200, 404]
    shop.write()
