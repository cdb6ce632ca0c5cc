"""The timeline as a page has it: a table that says what its bars draw, links that filter, nothing inline."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

from timelines import T0, make_attempt, make_child, make_run, make_stage, render

from plet_celery.web.drawing.timeline import timeline

HOSTILE = "<script>alert(1)</script>\"'&\u202e"


def shown(*args: Any, **options: Any) -> str:
    return render("timeline.html", timeline=timeline(*args, **{"now": T0 + 20, **options}))


def cells(html: str, kind: str) -> list[str]:
    """The words in the cells of the first row of this kind."""
    row = re.search(f'<tr class="plet-tl-{kind} .*?</tr>', html, re.S)
    assert row
    parts: list[str] = re.findall(r"<t[hd].*?</t[hd]>", row[0], re.S)
    return [" ".join(unescape(re.sub("<[^>]*>", " ", part)).split()) for part in parts]


def test_a_row_says_name_state_progress_duration_and_what_the_bar_draws() -> None:
    stage = make_stage(1, "load", 3, None, current=412, total=1200, unit="rows", message="sheet 3")

    html = shown(make_run("running"), [make_attempt(state="running")], [stage])

    assert cells(html, "stage") == [
        "load sheet 3", "◐ running", "412/1200 rows", "9 s", "starts at 2 s, still running",
    ]  # fmt: skip
    assert cells(html, "queue") == ["In the queue", "", "", "1.0 s", "starts at −1 s, takes 1.0 s"]


def test_a_stage_links_to_its_part_of_the_log() -> None:
    html = shown(make_run(), [make_attempt(2)], [make_stage(7, "load", 1, 1, attempt_id="a2")])

    assert 'href="?log_stage=7&amp;log_attempt=2#log"' in html


def test_layout_and_filter_are_links_that_tell_which_one_holds() -> None:
    html = shown(make_run(), [make_attempt()], [], layout="order", only="failed")

    links = re.findall(r'<a href="([^"]*)"[^>]*?( aria-current="true")?>(\w+)</a>', html)
    assert [
        (url, bool(current), word) for url, current, word in links if "tl" in url or word in "TimeAll"
    ] == [
        ("?#region-stages", False, "Time"),
        ("?tl=order#region-stages", True, "Order"),
        ("?#region-stages", False, "All"),
        ("?tl_only=unfinished#region-stages", False, "Unfinished"),
        ("?tl_only=failed#region-stages", True, "Failed"),
    ]


def test_folded_children_are_counts_and_words() -> None:
    children = [make_child(n, state="failed" if n == 3 else "succeeded", took=1.0 + n) for n in range(30)]

    html = shown(make_run(), [make_attempt()], [], children)

    assert cells(html, "runs")[:4] == [
        "shop.parse × 30", "29 ✔ succeeded 1 ✖ failed", "", "p50 15.5 s max 30.0 s",
    ]  # fmt: skip
    assert '<a href="/plet/runs/c3">shop.parse</a>' in html


def test_text_of_a_task_stays_text() -> None:
    stage = make_stage(
        1, HOSTILE, 1, 1, "failed", message=HOSTILE, unit=HOSTILE, current=1, error={"type": HOSTILE}
    )
    attempt = make_attempt(
        state="retrying", error={"type": "E", "message": HOSTILE}, worker=HOSTILE, runtime=1.0
    )
    child = make_child(1, task=HOSTILE)
    child.id = HOSTILE

    html = shown(make_run(state=HOSTILE, queue=HOSTILE), [attempt], [stage], [child])

    assert "<script" not in html
    assert "\u202e" not in html


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.found: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.attributes |= {name for name, _ in attrs}
        self.found[tag] = self.found.get(tag, 0) + 1
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_markup_is_sound_and_has_no_inline_style_or_script() -> None:
    stages = [make_stage(n, f"s{n}", n, 1, parent=n - 1 or None) for n in range(1, 20)]
    tags = Tags()

    tags.feed(shown(make_run("running"), [make_attempt(state="running", percent=50.0)], stages))

    assert tags.open == []
    assert not {name for name in tags.attributes if name == "style" or name.startswith("on")}
    assert (tags.found["table"], tags.found["caption"], tags.found["tr"]) == (1, 1, 22)
    assert tags.found["title"] == 21
