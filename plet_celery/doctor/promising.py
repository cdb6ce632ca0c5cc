"""Promises of `plet_objectives` that nothing stands behind."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from plet_celery.declarations import is_pattern
from plet_celery.doctor.finding import Finding, Level

_DOCS: Final = "docs/objectives.md"
_LIKE: Final = 0.7


def decide_unmatched(unmatched: Sequence[str], tasks: Collection[str]) -> Iterator[Finding]:
    """Say which names in `plet_objectives` stand for no task.

    Args:
        unmatched: of `declarations.unmatched`.
        tasks: names of the app's tasks.
    """
    patterns = [name for name in unmatched if is_pattern(name)]
    names = [name for name in unmatched if not is_pattern(name)]
    if patterns:
        text = f"{_listed(patterns)} in plet_objectives promises nothing: no task of this app matches"
        fix = _fix("correct the pattern, or remove it", patterns, tasks)
        yield _finding("patterns", Level.WARNING, text, fix, patterns)
    if names:
        text = f"plet_objectives promises for {_listed(names)}, which this app does not have"
        fix = _fix("nothing, if other processes have the task; else correct the name", names, tasks)
        yield _finding("names", Level.NOTE, text, fix, names)


def _finding(kind: str, level: Level, text: str, fix: str, found: Sequence[str]) -> Finding:
    return Finding(
        check=f"objectives.{kind}", level=level, text=text, fix=fix, docs=_DOCS, data={kind: found}
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _fix(fix: str, names: Sequence[str], tasks: Collection[str]) -> str:
    near = dict.fromkeys(
        one for name in names for one in difflib.get_close_matches(name, sorted(tasks), n=1, cutoff=_LIKE)
    )
    return f"{fix}; there is {_listed([*near])}" if near else fix
