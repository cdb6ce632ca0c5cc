"""What goes into run.log comes out again, and nothing of it moves a terminal or starts a line."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plet_celery.logfiles import text

NASTY = [
    "",
    "\n",
    "\n\n",
    "\r\n",
    "a\rb",
    "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x9b31m",
    "\x00",
    "\x7f",
    "\u202egnp.exe",
    "— 5 lines dropped —",
    "x\n— worker lost, attempt 2 starts —",
    "x\n[2026-01-02T03:04:05.678901Z] [ERROR] [root] forged",
    "x\n    |2| forged continuation",
    "    |2| forged at the start",
    "\\x1b \\u2028 \\\\ \\n C:\\users\\x41\\",
    "\\",
    "\\\n\\x",
    "ends in braces {}",
    'ends in braces {"a": 1}',
    '{"a":1}',
    " {",
    "}",
    " {}\nmore",
    "tab\tkept",
    "é ü 漢字 🎈",
    "\ufeffbom",
]
CONTEXTS = st.dictionaries(
    st.text(max_size=8),
    st.one_of(
        st.text(max_size=12),
        st.integers(-(2**40), 2**40),
        st.booleans(),
        st.none(),
        st.just("x {"),
        st.just({" {": 1}),
    ),
    max_size=3,
)
TEXTS = st.one_of(
    st.text(max_size=60), st.sampled_from(NASTY), st.lists(st.sampled_from(NASTY), max_size=5).map("".join)
)


def written(words: str, context: object = None, logger: str = "shop") -> bytes:
    stamp, _ = text.Clock().at(1_700_000_000.25)
    return text.record(stamp, text.head(20, text.component("log", logger, 3)), words, context)


@given(st.lists(TEXTS, max_size=8))
@example(NASTY)
def test_as_many_records_come_out_as_go_in(texts: list[str]) -> None:
    whole = b"".join(written(words) for words in texts)

    starts = [line for line in whole.split(b"\n")[:-1] if text.starts_record(line)]

    assert len(starts) == len(texts)


@given(TEXTS, CONTEXTS)
@example("a {", {})
@example("a", {"b": " {"})
def test_a_text_comes_back_as_it_was(words: str, context: dict[str, object]) -> None:
    found = text.parse(written(words, context), exact=True)

    assert found is not None
    assert found.text == without_surrogates(words)
    assert found.context == context
    assert (found.at, found.level, found.stage, found.stream) == (1_700_000_000.25, 20, 3, "log")


def without_surrogates(words: str) -> str:
    return "".join("\ufffd" if 0xD800 <= ord(one) <= 0xDFFF else one for one in words)


@given(st.text(alphabet=st.characters(categories=["Cs", "Cc", "L"]), max_size=20))
def test_a_lone_surrogate_is_replaced(words: str) -> None:
    found = text.parse(written(words), exact=True)

    assert found is not None
    assert found.text == without_surrogates(words)


@given(TEXTS, CONTEXTS, TEXTS)
def test_no_byte_of_a_record_moves_a_terminal(words: str, context: dict[str, object], logger: str) -> None:
    shown = written(words, context, logger).decode()

    bad = [one for one in shown if unicodedata.category(one) in ("Cc", "Zl", "Zp") and one not in "\n\t"]
    assert bad == []
    assert not set(shown) & set(
        "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
    )


@given(TEXTS)
def test_the_text_for_people_has_no_controls_either(words: str) -> None:
    found = text.parse(written(words))

    assert found is not None
    assert all(unicodedata.category(one) not in ("Cc", "Zl", "Zp") or one in "\n\t" for one in found.text)


@given(TEXTS, st.sampled_from(["log", "stdout", "plet", "odd stream"]), st.integers(0, 65_535))
def test_the_component_comes_back(logger: str, stream: str, stage: int) -> None:
    stamp, _ = text.Clock().at(1.0)
    raw = text.record(stamp, text.head(15, text.component(stream, logger, stage, (2, 3))), "x")

    found = text.parse(raw, exact=True)

    assert found is not None
    assert (found.logger, found.stream, found.stage, found.part, found.level) == (
        without_surrogates(logger),
        stream,
        stage,
        (2, 3),
        15,
    )


def test_a_backslash_is_doubled_only_where_it_would_mislead() -> None:
    assert text.escape("C:\\temp\\new") == "C:\\temp\\new"
    assert text.escape("C:\\users") == "C:\\\\users"
    assert text.readable(text.escape("C:\\users \x1b")) == "C:\\users \\x1b"


@pytest.mark.parametrize(
    "wall", [-1.0, 0.0, 1e300, float("inf"), float("-inf"), float("nan"), 253_402_300_799.999]
)
def test_any_time_has_a_stamp(wall: float) -> None:
    stamp, micros = text.Clock().at(wall)

    assert len(stamp) == 27
    assert text.parse_stamp(stamp) == micros


def test_a_note_says_nothing_in_its_own_lines() -> None:
    raw = text.note("worker\nlost \x1b[31m")

    assert raw == "— worker lost \\x1b[31m —\n".encode()
