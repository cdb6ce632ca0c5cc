"""Recorded text becomes HTML in which nothing acts, and from which no text is lost."""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plet_celery.web.logs.ansi import line_html, visible

CLASS = re.compile(
    r"(plet-ansi-((fg|bg)-([0-9]|1[0-5])|bold|dim|italic|underline|escape)( (?!$)|$))+|plet-log-mark"
)
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

# What hostile text is made of: whole and broken sequences, markup, controls, and words between.
PIECES = st.sampled_from(
    [
        *("\x1b", "\x1b[", "\x1b[31m", "\x1b[0m", "\x1b[1;4;38;5;200m", "\x1b[48:2::1:2:3m", "\x1b[38;2;1m"),
        *("\x1b]8;;https://example.org\x1b\\", "\x1b]52;c;YQ==\x07", "\x1b]0;", "\x1bPq", "\x1b\\", "\x9b5m"),
        *("\x9d", "\x90", "\x9c", "\x07", "\r", "\n", "\r\n", "\t", "\x08", "\x7f", "\x00", "\x85"),
        *("<", ">", "&", '"', "'", "<script>", "</span>", "&lt;", "\u202e", "\u200d", "\u2028", "\ud800"),
        *("word", " ", "é", "😀", "[31m", ";", "m", "31", "8"),
    ]
)
HOSTILE = st.one_of(st.text(), st.lists(PIECES, max_size=30).map("".join))


class Reader(HTMLParser):
    """Reads HTML, and accepts nothing but our own tags, well nested."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text = ""
        self.marked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == ("mark" if attrs == [("class", "plet-log-mark")] else "span")
        assert [name for name, _ in attrs] == ["class"]
        assert CLASS.fullmatch(attrs[0][1] or ""), attrs
        self.open.append(tag)
        if tag == "mark":
            self.marked.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "mark" in self.open:
            self.marked[-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data!r}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl!r}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data!r}")


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@settings(max_examples=300)
@given(text=HOSTILE, needle=st.one_of(st.just(""), st.text(max_size=3), PIECES), plain=st.booleans())
def test_only_our_tags_come_out_and_all_that_is_seen_is_text(text: str, needle: str, plain: bool) -> None:
    reader = read(line_html(text, needle=needle, plain=plain))

    assert reader.text == visible(text)


@settings(max_examples=300)
@given(text=HOSTILE)
def test_nothing_that_acts_remains_and_doing_it_again_changes_nothing(text: str) -> None:
    shown = visible(text)

    assert not ACTING.search(shown)
    assert visible(shown) == shown
    assert line_html(shown) == escape(shown)


WORDS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=9)
TAKEN_OUT = st.sampled_from(
    [
        *("\x1b[31m", "\x1b[m", "\x1b[2K", "\x1b[?25l", "\x1b[10;20H", "\x1b]0;title\x07", "\x1b(B", "\x1bc"),
        *(
            "\x1b]8;;http://x/\x1b\\",
            "\x1b]52;c;YQ==\x1b\\",
            "\x1bP1$r\x1b\\",
            "\x9b1m",
            "\x9d0;t\x9c",
            "\x85",
        ),
    ]
)


@given(parts=st.lists(st.tuples(WORDS, TAKEN_OUT), max_size=20))
def test_the_text_between_sequences_is_kept(parts: list[tuple[str, str]]) -> None:
    text = "".join(word + sequence for word, sequence in parts)

    assert visible(text) == "".join(word for word, _ in parts)


def test_text_without_anything_to_do_is_only_escaped() -> None:
    assert line_html("a <b> & 'c' é 😀") == "a &lt;b&gt; &amp; &#x27;c&#x27; é 😀"
    assert line_html("two\n\tlines") == "two\n\tlines"
    assert line_html("") == ""


@pytest.mark.parametrize(
    ("codes", "classes"),
    [
        ("31", "fg-1"),
        ("97;41", "bg-1 fg-15"),
        ("1;2;3;4", "bold dim italic underline"),
        ("1;22;31", "fg-1"),
        ("38;5;196", "fg-9"),
        ("38;5;244", "fg-8"),
        ("38:5:21", "fg-12"),
        ("48;2;0;128;0", "bg-2"),
        ("38:2::0:0:130", "fg-4"),
        ("38:2:255:255:255", "fg-15"),
        ("4:3", "underline"),
        ("34;44", "bg-4"),  # a text in the colour of its ground would be hidden
    ],
)
def test_colours_and_styles(codes: str, classes: str) -> None:
    names = " ".join(f"plet-ansi-{name}" for name in classes.split())

    assert line_html(f"\x1b[{codes}mx\x1b[0my") == f'<span class="{names}">x</span>y'


@pytest.mark.parametrize(
    "codes", ["0", "", "5", "8", "7", "39", "999999999999", "38;5", "38;5;256", "38;9;1", "1;0"]
)
def test_what_is_not_known_has_no_look(codes: str) -> None:
    assert line_html(f"\x1b[{codes}mx") == "x"


def test_without_colours() -> None:
    assert line_html("\x1b[1;31ma\x1b[0m\x07", plain=True) == 'a<span class="plet-ansi-escape">\\x07</span>'


def test_controls_are_written_out() -> None:
    assert (
        visible("a\x08\x7f\x1b\u202e\u200d\U000e0041\ud800")
        == "a\\x08\\x7f\\x1b\\u202e\\u200d\\U000e0041\\ud800"
    )


def test_a_progress_line_shows_its_last_state() -> None:
    assert visible("10%\r50%\r100%\r\nnext") == "100%\nnext"
    assert visible("load\r\x1b[Kdone\r\x1b[K\r") == "done"
    assert visible("\r") == ""


def test_a_string_that_is_never_closed_hides_nothing() -> None:
    assert visible("\x1b]0;the rest\nof it") == "0;the rest\nof it"


def test_a_needle_is_marked_across_colours_and_in_any_case() -> None:
    html = line_html("an \x1b[31mERR\x1b[0mor, error", needle="Error")

    reader = read(html)
    assert reader.text == "an ERRor, error"
    assert reader.marked == ["ERR", "or", "error"]


BOMBS = [
    *("\x1b[", "\x1b]", "\x1b]a", "\x9d", "\x9b", "\x1b", "\x1b ", "\x1b[1", "\x1b[31m", "\x1b[31mx"),
    *("\r", "x\r", "a\x00", "<", "\u202e", ";", "\x1bP;", "\n\r"),
]


@pytest.mark.parametrize("piece", BOMBS)
def test_bombs_of_a_megabyte_end_and_stay_small(piece: str) -> None:
    """Were one of them quadratic, this would not end within the time of a test."""
    for text in (piece * (1_000_000 // len(piece)), "\x1b[" + piece * 100_000, "\x1b]" + piece * 100_000):
        html = line_html(text, needle="x")

        assert len(html) <= 6 * len(text) + 400_000
