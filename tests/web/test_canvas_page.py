"""The tree of a canvas as a page has it: lists in lists, folds, links, and nothing inline."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from canvases import Member, chain, group, run
from timelines import render

from plet_celery.web.drawing.canvas import canvas

HOSTILE = "<script>alert(1)</script>\"'&\u202e"


def shown(runs: list[Member], here: str = "") -> str:
    return render("canvas.html", canvas=canvas(runs, here=here))


def words(html: str) -> str:
    return " ".join(re.sub("<[^>]*>", " ", html).split())


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.attributes: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.attributes |= {name for name, _ in attrs}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_lists_are_sound_and_have_no_inline_style_or_script() -> None:
    header = group("g", *[f"m{n}" for n in range(30)], chord="body", parent_id="top")
    header[3].state = "failed"
    runs = [run("top"), *chain("a", "b", to_come=1), *header]
    tags = Tags()

    tags.feed(shown(runs, here="m7"))

    assert tags.open == []
    assert not {name for name in tags.attributes if name == "style" or name.startswith("on")}


def test_the_run_that_is_looked_at_is_marked_once_and_says_why_it_waits() -> None:
    header = group("g", "a", "b", chord="body")
    header[0].state = "running"
    body = run("body", "queued", at=2, parent_id="b", group_id="g")

    html = shown([*header, body], here="body")

    assert html.count('aria-current="true"') == 1
    assert "This run waits for 1 of 2 header runs (1 running)." in words(html)
    assert '<a href="/plet/runs/body">shop.parse</a>' in html


def test_a_chord_says_how_its_header_is_doing_and_why_the_body_will_not_run() -> None:
    header = group("g", "a", "b", chord="body")
    header[1].state, header[1].error = "failed", {"type": "ValueError", "message": "no\nmore"}

    text = words(shown(header))

    assert "chord of 2 1 ✔ succeeded 1 ✖ failed" in text
    assert "will not run: header member shop.parse b failed" in text
    assert "ValueError: no" in text


def test_text_of_a_task_stays_text() -> None:
    runs = [run(HOSTILE, HOSTILE, task=HOSTILE, error=HOSTILE), run("b", "failed", at=1, error=HOSTILE)]

    html = shown(runs, here=HOSTILE)

    assert "<script" not in html
    assert "\u202e" not in html


def test_a_percentage_says_what_it_is_of() -> None:
    header = group("g", "a", "b", chord="body")
    header[0].state, header[0].percent = "running", 50.0

    chord = words(shown(header)).replace("&#8239;", " ")
    steps = words(shown(chain("x", "y", to_come=2))).replace("&#8239;", " ")

    assert "75 % of its members" in chord
    assert "37 % done · 2 runs so far:" in chord
    assert "50 % of its steps" in steps
    assert "what has ended counts as done, failed or not" in steps


def test_a_canvas_that_is_done_needs_no_explanation() -> None:
    assert "counts as done" not in words(shown([run("a"), run("b", parent_id="a")]))
