"""What the bars show: the tree of stages, what is folded away, and groups of child runs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plet_celery.store.records import Run, Stage
from plet_celery.terminal.bars import Fold, StageBar, amount, count, fit, groups, stage_bars


def _stage(number: int, name: str, *, parent: int | None = None, state: str = "succeeded") -> Stage:
    return Stage(run_id="r", attempt_id="a", number=number, name=name, state=state, parent=parent)


def _child(task: str, state: str, percent: float | None = None) -> Run:
    return Run(id=task, short_id=task, task=task, state=state, percent=percent)


def test_a_stage_stands_under_the_one_that_encloses_it() -> None:
    bars = stage_bars(
        [_stage(1, "scan"), _stage(2, "merge"), _stage(3, "build", parent=2), _stage(4, "load", parent=2)],
        now=0.0,
    )

    assert [(bar.name, bar.depth) for bar in bars] == [("scan", 0), ("merge", 0), ("build", 1), ("load", 1)]


def test_a_later_stage_of_an_earlier_parent_joins_it() -> None:
    bars = stage_bars([_stage(1, "a"), _stage(2, "b"), _stage(3, "in a", parent=1)], now=0.0)

    assert [bar.name for bar in bars] == ["a", "in a", "b"]


@given(st.lists(st.integers(min_value=-5, max_value=40), max_size=30))
def test_damaged_parents_lose_no_stage(parents: list[int]) -> None:
    stages = [_stage(n, f"s{n}", parent=parent) for n, parent in enumerate(parents, 1)]

    assert sorted(bar.number for bar in stage_bars(stages, now=0.0)) == list(range(1, len(parents) + 1))


def test_a_stage_without_a_number_holds_nothing_up() -> None:
    bars = stage_bars([_stage(0, "unnamed"), _stage(1, "scan")], now=0.0)

    assert [bar.name for bar in bars] == ["unnamed", "scan"]


def test_a_thousand_levels_stay_on_the_screen() -> None:
    bars = stage_bars([_stage(n, "deep", parent=n - 1 or None) for n in range(1, 1001)], now=0.0)

    assert len(bars) == 1000
    assert max(bar.depth for bar in bars) <= 6


def test_a_running_stage_counts_to_now() -> None:
    stage = _stage(1, "parse", state="running")
    stage.started_at = 100.0

    assert stage_bars([stage], now=109.8)[0].elapsed == 109.8 - 100.0


def test_many_stages_fold_around_what_runs() -> None:
    bars = [StageBar(f"s{n}", "succeeded" if n < 50 else "planned") for n in range(100)]
    bars[50] = StageBar("s50", "running")

    rows = fit(bars, 9)

    assert len(rows) <= 9
    assert isinstance(rows[0], Fold)
    assert rows[0].text == "… 47 succeeded"
    assert bars[50] in rows
    assert sum(sum(row.states.values()) if isinstance(row, Fold) else 1 for row in rows) == 100


def test_few_stages_are_all_shown() -> None:
    bars = [StageBar("a", "succeeded"), StageBar("b", "failed")]

    assert fit(bars, 2) == bars


def test_child_runs_are_grouped_by_task() -> None:
    found = groups(
        [
            _child("parse", "succeeded"),
            _child("parse", "running", 50.0),
            _child("poison", "failed"),
            _child("parse", "failed"),
        ]
    )

    assert [(group.task, group.size, group.state) for group in found] == [
        ("parse", 3, "running"),
        ("poison", 1, "failed"),
    ]
    assert found[0].fraction == (1 + 0.5 + 1) / 3


def test_counts_are_grouped_for_people() -> None:
    assert count(412) == "412"
    assert count(48_112.0) == "48 112"
    assert count(3.5) == "3.5"
    assert count(float("nan")) == "?"
    assert amount(412, 668, "files") == "412/668 files"
    assert amount(12, None, "rows") == "12 rows"
    assert amount(None, None, "rows") == ""
