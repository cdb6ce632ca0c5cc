"""The live picture: whatever is recorded, it fits its terminal and sends nothing but our own drawing."""

from __future__ import annotations

import io
import re
import unicodedata
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from plet_celery.events import RunState, StageState
from plet_celery.store.records import LogLine, Run, Stage
from plet_celery.terminal.output import Output
from plet_celery.terminal.picture import Snapshot, run_panel
from plet_celery.terminal.text import Clock

NOW = 1_795_000_000.0
SGR = re.compile(r"\x1b\[[0-9;]*m")

_text = st.text(st.characters() | st.sampled_from("\x1b\x07\n\r\t\u202e\x9b[]m"), max_size=40)
_maybe = st.none() | _text
_number = st.none() | st.floats(0, 1e12, allow_nan=False)
_share = st.none() | st.floats(0, 100)
_time = st.none() | st.floats(NOW - 1e6, NOW + 10)
_error = st.none() | st.fixed_dictionaries({}, optional={"type": _text, "message": _text})
_run = st.builds(
    Run,
    id=_text,
    short_id=st.just("1f9f7a2e"),
    task=_text,
    state=st.sampled_from([*map(str, RunState), "newer\x1b[2J"]),
    percent=_share,
    stage=_maybe,
    current=_number,
    total=_number,
    unit=_maybe,
    message=_maybe,
    started_at=_time,
    queued_at=_time,
    runtime=_number,
    attempt=st.integers(0, 5),
    error=_error,
)
_stage = st.builds(
    Stage,
    run_id=st.just("r"),
    attempt_id=st.just("a"),
    number=st.integers(1, 30),
    name=_text,
    state=st.sampled_from([*map(str, StageState), "newer"]),
    parent=st.none() | st.integers(0, 30),
    current=_number,
    total=_number,
    unit=_maybe,
    message=_maybe,
    started_at=_time,
    elapsed=_number,
)
_line = st.builds(
    LogLine,
    attempt=st.just(1),
    line=st.integers(1, 99),
    at=st.floats(allow_nan=True),
    level=st.integers(0, 60),
    stage=st.none() | st.integers(1, 30),
    text=_text,
)


class _Tty(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def _drawn(snapshot: Snapshot, columns: int, rows: int) -> str:
    stream: Any = _Tty()
    size = {"COLUMNS": str(columns), "LINES": str(rows), "TERM": "xterm-256color", "NO_COLOR": ""}
    with mock.patch.dict("os.environ", size):
        output = Output(stream)
        output.draw(run_panel(snapshot, Clock(NOW), output, hint="Ctrl-C leaves"))
    return str(stream.getvalue())


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    run=_run,
    stages=st.lists(_stage, max_size=30, unique_by=lambda stage: stage.number),
    children=st.lists(_run, max_size=10),
    lines=st.lists(_line, max_size=10),
    trouble=st.just("") | _text,
    columns=st.sampled_from([20, 40, 60, 80, 200]),
    rows=st.sampled_from([10, 24, 60]),
)
def test_any_run_is_drawn_within_its_terminal(
    run: Run,
    stages: list[Stage],
    children: list[Run],
    lines: list[LogLine],
    trouble: str,
    columns: int,
    rows: int,
) -> None:
    snapshot = Snapshot(run, stages, children, lines=lines, as_of=NOW - 60, trouble=trouble)

    text = SGR.sub("", _drawn(snapshot, columns, rows))

    for character in text.replace("\n", ""):
        assert unicodedata.category(character) not in ("Cc", "Cs"), repr(character)
    assert all(cell_len(line) <= columns for line in text.splitlines())


def _run_of(state: str, **facts: Any) -> Run:
    return Run(id="r", short_id="1f9f7a2e", task="shop.census", state=state, **facts)


def test_the_picture_of_a_running_run() -> None:
    run = _run_of("running", percent=62.4, started_at=NOW - 12, message="reading ast.py")
    stages = [
        Stage(
            run_id="r",
            attempt_id="a",
            number=1,
            name="scan",
            state="succeeded",
            current=668,
            total=668,
            elapsed=1.1,
        ),
        Stage(
            run_id="r",
            attempt_id="a",
            number=2,
            name="parse",
            state="running",
            current=412,
            total=668,
            started_at=NOW - 9,
        ),
        Stage(run_id="r", attempt_id="a", number=3, name="index", state="planned"),
    ]
    lines = [LogLine(attempt=1, line=1, at=NOW - 2, level=30, stage=2, text="poison.py: invalid syntax")]

    drawn = SGR.sub("", _drawn(Snapshot(run, stages, lines=lines, as_of=NOW), 80, 24)).splitlines()

    assert "shop.census 1f9f7a2e · ◐ running 12 s" in drawn[0]
    assert "62 %" in drawn[1]
    assert "reading ast.py" in drawn[1]
    assert re.search(r"✔ scan +━+ +668/668 +1\.1 s", drawn[3])
    assert re.search(r"◐ parse +━+╸?╺?━+ +412/668 +9 s", drawn[4])
    assert "○ index" in drawn[5]
    assert "WARN  parse: poison.py: invalid syntax" in drawn[7]
    assert "Ctrl-C leaves" in drawn[-1]


def test_a_picture_that_is_old_says_so() -> None:
    run = _run_of("running", started_at=NOW - 120)

    late = _drawn(Snapshot(run, as_of=NOW - 41), 80, 24)
    lost = _drawn(Snapshot(run, as_of=NOW, trouble="the store does not answer"), 80, 24)
    over = _drawn(Snapshot(_run_of("succeeded", runtime=19.2), as_of=NOW - 999), 80, 24)

    assert "the last news came 41 s ago" in late
    assert "the store does not answer; this is what was known" in lost
    assert "news" not in over
    assert "Ctrl-C" not in over
