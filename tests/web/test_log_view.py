"""The viewer opens where one looks first, says where it is, and renders what a task wrote as text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest
import tornado.template
from removing import Host
from runs_told import Story
from storing import new_store

import plet_celery.web
from plet_celery import events
from plet_celery.logsources.windows import LogWindows
from plet_celery.store import IngestLimits, Store, queries
from plet_celery.store.records import LogLine
from plet_celery.web.logs import text as logtext
from plet_celery.web.logs import view as logview
from plet_celery.web.logs.query import LogQuery
from plet_celery.web.logs.rows import RowMaker, rows_html
from plet_celery.web.logs.view import LogView

TEMPLATES = Path(plet_celery.web.__file__).parent / "templates"
NASTY = "<script>alert(1)</script>\"'&\x1b]8;;javascript:x\x07\u202e"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = new_store(tmp_path)
    yield made
    made.close()


@pytest.fixture
def host(store: Store, tmp_path: Path) -> Iterator[Host]:
    made = Host(store, tmp_path / "a", name="atlas")
    yield made
    made.close()


def told(host: Host, lines: int, *, end: str | None = None, errors: tuple[int, ...] = ()) -> LogWindows:
    """Tell a run of so many lines; return its log."""
    story = Story()
    found = [story.start(host)]
    for number in range(1, lines + 1):
        level = 40 if number in errors else 20
        stream = "stdout" if number % 10 == 0 else "log"
        found.append(story.log(host, f"line {number}", level=level, stream=stream))
    host.tell(found + ([story.end(host, end)] if end else []))
    return LogWindows(host.runs, host.store, queries.get_run(host.store, story.run))


def look(windows: LogWindows, address: str = "?") -> LogView:
    return logview.view(windows, LogQuery.parse(parse_qs(urlsplit(address).query)), seconds=60.0)


def shown(view: LogView) -> list[int]:
    return [int(number) for number in re.findall(r'id="a\d+L(\d+)"', view.rows_html)]


def render(view: LogView) -> str:
    return tornado.template.Loader(str(TEMPLATES)).load("plet/log.html").generate(log=view).decode()


def rows_of(lines: list[LogLine], **look: Any) -> str:
    return rows_html(RowMaker(lambda attempt, stage: f"s{stage}" if stage else "", **look).rows(lines))


def line(number: int, text: str, **facts: Any) -> LogLine:
    known: dict[str, Any] = {"attempt": 1, "line": number, "at": 1_700_000_000.0 + number, "level": 20}
    return LogLine(**known | {"text": text} | facts)


# Where it opens


def test_a_run_that_goes_on_is_shown_at_its_end(host: Host) -> None:
    view = look(told(host, 1500), "?log_n=100")

    assert shown(view) == list(range(1401, 1501))
    assert view.said == "lines 1 401–1 500 of 1 500"
    assert view.is_open
    assert view.position
    assert (view.later, view.end) == ("", "")
    assert shown(look(told(host, 1500), view.earlier)) == list(range(1301, 1401))


def test_a_failed_run_is_shown_around_its_first_error(host: Host) -> None:
    view = look(told(host, 3000, end=events.RUN_FAILED, errors=(1700, 2000)))

    assert shown(view)[0] <= 1201
    assert shown(view)[-1] == 2199
    assert (view.current, view.current_line) == ("?log_attempt=1&log_at=a1L1700#a1L1700", "1 700")
    assert '<div class="plet-log-row plet-log-error plet-log-current" id="a1L1700">' in view.rows_html


def test_a_run_that_succeeded_is_shown_from_its_beginning(host: Host) -> None:
    windows = told(host, 1500, end=events.RUN_SUCCEEDED)
    view = look(windows)

    assert shown(view) == list(range(1, 1001))
    assert (view.earlier, view.start, view.position) == ("", "", "")
    assert shown(look(windows, view.later)) == list(range(1001, 1501))
    assert shown(look(windows, view.end))[-1] == 1500


def test_each_line_has_an_address_of_its_own(host: Host) -> None:
    windows = told(host, 3000)

    view = look(windows, "?log_at=a1L700&log_n=10#a1L700")

    assert 700 in shown(view)
    assert '<a class="plet-log-n" href="?log_at=a1L700#a1L700">700</a>' in view.rows_html


def test_the_next_error_and_none(host: Host) -> None:
    windows = told(host, 3000, errors=(100, 2500))

    first = look(windows, "?log_error=first&log_n=50")
    assert first.current.endswith("#a1L100")
    assert look(windows, first.next_error).current.endswith("#a1L2500")
    none = look(windows, "?log_error=a1L2500")
    assert none.notes == ["no line tells of an error behind line 2500"]
    assert shown(none)[-1] == 3000


def test_attempts_lead_to_each_other(host: Host, store: Store) -> None:
    story = Story()
    for number in (1, 2):
        host.tell([story.start(host), *(story.log(host, f"try {number}") for _ in range(5))])
        host.tell([story.end(host, events.RUN_RETRIED if number == 1 else events.RUN_SUCCEEDED)])
    windows = LogWindows(host.runs, store, queries.get_run(store, story.run))

    view = look(windows)

    assert [(one.label, one.is_chosen) for one in view.attempts] == [
        ("attempt 1", False),
        ("attempt 2", True),
    ]
    assert 'id="a2L5"' in view.rows_html
    earlier = look(windows, view.earlier)
    assert 'id="a1L5"' in earlier.rows_html
    assert look(windows, earlier.later).attempt == 2
    assert look(windows, "?log_attempt=9").notes == ["there is no attempt 9; the newest is shown"]
    assert look(windows, "?log_at=a1L2&log_attempt=2").attempt == 1


# Search and filters


def test_a_search_goes_from_hit_to_hit(host: Host) -> None:
    windows = told(host, 2500, end=events.RUN_SUCCEEDED)

    view = look(windows, "?log_q=LINE+24")
    assert view.search.said == "1 of 111"
    assert view.current.endswith("#a1L24")
    assert view.search.previous == ""
    steps, following = 1, view
    while following.search.next:
        following = look(windows, following.search.next)
        steps += 1
    assert (steps, following.search.said) == (111, "111 of 111")
    assert following.current.endswith("log_hit=a1L2499#a1L2499")
    assert look(windows, following.search.previous).current.endswith("#a1L2498")
    assert look(windows, "?log_q=line+24&log_hit=a1L500").search.said == "111 hits"
    assert look(windows, "?log_q=nowhere").search.said == "no hit"
    assert '<mark class="plet-log-mark">line 24</mark>' in view.rows_html


def test_a_search_that_ran_out_of_time_goes_on(host: Host) -> None:
    windows = told(host, 500)
    query = LogQuery.parse({"log_q": ["line"]})

    view = logview.view(windows, query, seconds=0.0)

    assert view.search.said == "no hit yet"
    assert "log_after=a1L" in view.search.on
    assert look(windows, view.search.on).search.said.endswith(" of 500")


def test_filters_say_what_they_leave_out(host: Host) -> None:
    windows = told(host, 300, errors=(100, 200))

    view = look(windows, "?log_level=error")
    assert shown(view) == [100, 200]
    assert view.said == "2 lines that pass the filter, lines 100–200 of 300"
    assert (view.earlier, view.later, bool(view.position)) == ("", "", True)
    assert [one.label for one in view.levels if one.is_chosen] == ["error and above"]
    assert shown(look(windows, view.clear)) == list(range(1, 301))
    assert look(windows, "?log_level=critical").empty == "No line here passes the filter."
    assert [one.label for one in look(windows, "?log_level=critical").levels if one.is_chosen] == [
        "critical and above"
    ]
    assert len(shown(look(windows, "?log_stream=stdout"))) == 30


def test_what_comes_is_told_as_rows(host: Host, store: Store) -> None:
    story = Story()
    host.tell([story.start(host), story.log(host, "one")])

    def windows() -> LogWindows:
        return LogWindows(host.runs, store, queries.get_run(store, story.run))

    position = look(windows()).position
    assert followed(windows(), position)["lines"] == 0
    host.tell([story.log(host, NASTY), story.log(host, "bad", level=40), story.end(host)])

    answer = followed(windows(), position, LogQuery(level=30))

    assert (answer["lines"], answer["total"], answer["open"], answer["state"]) == (1, 3, False, "succeeded")
    assert 'id="a1L3"' in answer["html"]
    assert followed(windows(), answer["position"])["lines"] == 0


def test_last_words_are_waited_for_where_the_file_is_behind_the_store(host: Host, store: Store) -> None:
    story = Story()
    host.tell([story.start(host), story.log(host, "one")])

    def windows() -> LogWindows:
        return LogWindows(host.runs, store, queries.get_run(store, story.run))

    position = look(windows()).position
    last = [story.log(host, "last words"), story.end(host)]
    host.tell_store(last)
    ended = queries.get_run(store, story.run).ended_at or 0.0

    early, late = (followed(windows(), position, now=ended + seconds) for seconds in (50, 70))
    assert (early["lines"], early["state"], early["open"], late["open"]) == (0, "succeeded", True, False)

    host.tell_files(last)
    answer = followed(windows(), early["position"], now=ended + 50)
    assert (answer["lines"] > 0, "last words" in answer["html"], answer["open"]) == (True, True, False)


def followed(
    windows: LogWindows, position: str, query: LogQuery | None = None, *, now: float = 0.0
) -> dict[str, Any]:
    return logview.follow_answer(windows, query or LogQuery(), position, now=now)


def test_why_there_is_nothing(host: Host, store: Store) -> None:
    story = Story()
    host.tell([story.start(host)])
    assert look(LogWindows(host.runs, store, queries.get_run(store, story.run))).empty == (
        "Nothing has been logged or printed yet."
    )
    host.tell([story.log(host, "x")], limits=IngestLimits(log_head_bytes=0, log_tail_bytes=0))
    elsewhere = LogWindows(host.home / "none", store, queries.get_run(store, story.run))
    assert look(elsewhere).said == "none of 1 line"
    assert "not kept here" in look(elsewhere).rows_html


# Rows


def test_a_group_is_folded() -> None:
    html = rows_of(
        [line(1, "a"), line(2, "::group::<Install>"), line(3, "b"), line(4, "::endgroup::"), line(5, "c")]
    )

    assert html.count("<details") == html.count("</details>") == 1
    fold = html[html.index("<details") : html.index("</details>")]
    assert "&lt;Install&gt;" in fold
    assert [f'id="a1L{number}"' in fold for number in range(1, 6)] == [False, True, True, True, False]
    assert '<details class="plet-log-group">' in html  # closed


def test_groups_that_are_not_balanced() -> None:
    html = rows_of(
        [line(1, "::endgroup::"), line(2, "::group::one"), line(3, "::group::two"), line(4, "x", level=40)]
    )

    assert html.count("<details") == html.count("</details>") == 2
    assert '<details class="plet-log-group" open data-unended>' in html  # an error lies in it
    assert [f'id="a1L{number}"' in html for number in range(1, 5)] == [True] * 4


def test_blocks_of_200() -> None:
    html = rows_of([line(number, "x") for number in range(1, 451)])

    assert html.count('<div class="plet-log-block plet-log-full">') == 2
    assert html.count('<div class="plet-log-block">') == 1
    assert html.count('<div class="plet-log-row"') == 450


def test_where_no_line_was_written_the_address_of_the_error_is_its_note(host: Host) -> None:
    view = look(told(host, 0, end=events.RUN_FAILED))

    assert view.current.endswith("#a1L0")
    assert re.findall(r'class="([^"]*)" id="a1L0"', view.rows_html) == [
        "plet-log-row plet-log-error plet-log-note plet-log-current"
    ]


def test_notes_and_gaps_are_lines_without_a_number() -> None:
    html = rows_of(
        [
            line(0, "attempt 1 started", stream="plet"),
            line(1, "x"),
            line(1, "— 1 203 lines dropped by the rate limit —", stream="plet", level=30),
            line(2, "— 7 lines are not kept here —", stream="gap", level=0),
        ]
    )

    assert re.findall(r'id="(\w+)"', html) == ["a1L1"]
    assert html.count("plet-log-gap") == 2
    assert html.count("plet-log-note") == 1


def test_another_day_is_a_row() -> None:
    html = rows_of([line(1, "x", at=1_700_000_000.0), line(2, "x", at=1_700_006_400.0)])

    assert '<span class="plet-log-text">2023-11-15</span>' in html
    assert 'datetime="2023-11-14T22:13:20.000Z">22:13:20.000<' in html


def test_what_a_task_wrote_is_only_text() -> None:
    lines = [
        line(1, NASTY, logger=NASTY, context={NASTY: NASTY, "deep": {"x": [NASTY, "\ud800"]}}),
        line(2, "::group::" + NASTY, stream=NASTY),
        line(3, NASTY, stream="plet", at=float("nan")),
        line(4, NASTY, at=1e300, level=-5),
    ]

    html = rows_html(RowMaker(lambda attempt, stage: NASTY, needle="script").rows(lines))

    tags = set(re.findall(r"<(/?\w+)", html))
    assert tags <= {*("div", "a", "time", "span", "mark", "details", "summary")} | {
        *("/div", "/a", "/time", "/span", "/mark", "/details", "/summary")
    }
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800]", html)
    assert not re.search(r"\son\w+=|style=|javascript:", re.sub(r">[^<]*<", "><", html))


# The template


def test_the_template_shows_all_of_it_without_inline_code(host: Host) -> None:
    view = look(told(host, 3000, end=events.RUN_FAILED, errors=(1700,)), "?log_q=line&log_level=info&log_n=5")

    html = render(view)

    assert not re.search(r"<script|<style|\sstyle=|\son\w+=", html)
    for link in (view.earlier, view.later, view.start, view.end, view.search.next, view.raw, view.clear):
        assert link.replace("&", "&amp;") in html
    assert view.said in html
    assert view.rows_html in html
    for name in ("log_q", "log_level", "log_stream"):
        assert f'name="{name}"' in html


def test_the_template_escapes_what_is_asked_for(host: Host) -> None:
    for address in ("?log_q=", "?log_stage=", "?log_n=", "?log_stream="):
        view = look(told(host, 3), address + "%3Cscript%3E%22x%22")
        assert "<script" not in render(view)


def test_the_template_has_a_view_for_every_field() -> None:
    source = (TEMPLATES / "plet" / "log.html").read_text()
    unused = {one.name for one in fields(LogView)} - set(re.findall(r"log\.(\w+)", source))

    assert unused == {"source"}  # for pages that say it in their own words


# Downloads


def test_the_whole_log_is_what_the_file_has(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logtext, "_PIECE", 1000)
    windows = told(host, 300, end=events.RUN_SUCCEEDED)
    (log,) = host.runs.rglob("run.log")

    pieces = list(logtext.download(windows, LogQuery(level=40), raw=True))

    assert b"".join(pieces) == log.read_bytes()
    assert max(map(len, pieces)) <= 1000


def test_a_filtered_log_and_one_from_the_store_have_the_same_form(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logtext, "_PAGE", 7)
    windows = told(host, 300, errors=(100, 200))
    (log,) = host.runs.rglob("run.log")
    of_task = [one for one in log.read_bytes().splitlines(keepends=True) if b"] line " in one]

    filtered = b"".join(logtext.download(windows, LogQuery(level=40), raw=False))
    assert filtered.splitlines(keepends=True) == [of_task[99], of_task[199]]
    stored = LogWindows(host.home / "none", host.store, windows.run)
    assert b"".join(logtext.download(stored, LogQuery(), raw=True)).splitlines(keepends=True) == of_task


def test_the_name_of_a_download(host: Host, store: Store) -> None:
    story = Story('"; filename=/etc/x\r\n\u202e')
    host.tell([story.start(host), story.log(host, "x")])
    windows = LogWindows(host.runs, store, queries.get_run(store, story.run))

    name = logtext.file_name(windows, LogQuery(level=30))

    assert re.fullmatch(r"run-[0-9a-f]{8}-attempt-1-filtered\.log", name)


def test_times_are_of_the_zone_asked_for() -> None:
    html = rows_of(
        [line(1, "x", at=datetime(2026, 7, 1, 22, tzinfo=UTC).timestamp())], zone=ZoneInfo("Europe/Berlin")
    )

    assert 'datetime="2026-07-01T22:00:00.000Z">00:00:00.000<' in html


@pytest.mark.parametrize("is_started", [False, True])
def test_a_log_that_has_not_begun_is_followed_from_its_first_line(
    host: Host, store: Store, is_started: bool
) -> None:
    story = Story()
    started = story.start(host)
    queued = host.event(events.RUN_QUEUED, story.now, story.run, None, task="shop.load")
    host.tell([queued, *([started] if is_started else [])])

    def windows() -> LogWindows:
        return LogWindows(host.runs, store, queries.get_run(store, story.run))

    view = look(windows())
    assert "data-log-follow" in render(view)
    nothing = followed(windows(), view.position)
    assert (nothing["lines"], bool(nothing["position"])) == (0, True)

    host.tell([*([] if is_started else [started]), story.log(host, "first")])

    assert "first" in followed(windows(), nothing["position"])["html"]
