"""Redaction of anything: it ends, in time that grows with the size, and a second time changes nothing."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plet_celery.redaction import MASK, Redactor, safe_repr

FRAGMENTS = [
    *(
        "password",
        "token",
        "api key",
        "Authorization",
        "cookie",
        "auth",
        "pin",
        "connection string",
        "name",
        "u",
    ),
    *(
        "=",
        ":",
        ": ",
        " = ",
        "==",
        "!=",
        "=>",
        ":=",
        "://",
        "@",
        "/",
        "?",
        "#",
        "&",
        ";",
        ",",
        "-",
        "--",
        " -u ",
    ),
    *(
        "'",
        '"',
        "\\",
        '\\"',
        "\\'",
        '\\\\\\"',
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "<",
        ">",
        "`",
        ".",
        "\n",
        "\r",
        " ",
        "\t",
    ),
    *(
        "https",
        "postgres",
        "http://u:p@h/x",
        "redis://",
        "?password=",
        "&sig=",
        "#access_token=",
        "…[cut]",
        "docker",
    ),
    *(
        "eyJ",
        "eyJhbGciOiJIUzI1NiJ9",
        ".",
        "_",
        "AKIA",
        "ASIAIOSFODNN7EXAMPLE",
        "ghp_",
        "sk-",
        "xoxb-",
        "SG.",
        "a" * 17,
    ),
    *(
        "Bearer ",
        "bearer",
        "Basic ",
        "dXNlcjpwYXNz",
        "-----BEGIN X-----",
        "-----END X-----",
        "hooks.slack.com/services/",
    ),
    *(
        "None",
        "true",
        "***",
        "*",
        "str",
        "| None",
        "17",
        "8080",
        "x",
        "secretx",
        "registered",
        "İ",
        "ß",
        "\u2028",
        "\udc80",
    ),
]
texts = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), max_size=24).map("".join),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=4)), max_size=16).map("".join),
    st.text(max_size=200),
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=9)), inner),
    ),
    max_leaves=12,
)

redactor = Redactor(names=("customer_no", "tan"), values=("registered", "a***b*"))


@settings(max_examples=500, deadline=None)
@given(texts)
def test_redacting_a_text_twice_changes_nothing_more(text: str) -> None:
    once = redactor.text(text)

    assert redactor.text(once) == once


@settings(max_examples=200, deadline=None)
@given(json_values)
def test_redacting_a_value_twice_changes_nothing_more(value: Any) -> None:
    once = redactor.value(value)

    assert redactor.value(once) == once


@settings(max_examples=200, deadline=None)
@given(st.lists(texts, max_size=6))
@example(["-----BEGIN X----- = -----END X-----password", ""])
def test_redacting_a_command_line_twice_changes_nothing_more(argv: list[str]) -> None:
    once = redactor.argv(argv)

    assert redactor.argv(once) == once
    assert len(once) == len(argv)


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=8, max_size=30), texts)
def test_a_registered_value_is_nowhere_in_the_text(value: str, text: str) -> None:
    mine = Redactor(values=[value])

    shown = mine.text(f"{text} {value} {json.dumps({'a': value})}")

    assert value not in shown or value.strip("* ") == ""


@settings(max_examples=500, deadline=None)
@given(
    st.text(alphabet=st.characters(codec="utf-8"), min_size=6, max_size=30),
    st.sampled_from([repr, json.dumps]),
)
def test_a_quoted_value_under_a_secret_name_is_hidden_whole(secret: str, write: Any) -> None:
    text = write({"before": 1, "password": f"<{secret}>", "after": 2})

    assert redactor.text(text).replace('"', "'") == repr({"before": 1, "password": MASK, "after": 2})


BOMBS = {
    "one letter": "a",
    "words": "password",
    "words with separators": "password=",
    "words with colons": "token: ",
    "names": "password.",
    "spaces": " ",
    "name and spaces": "password ",
    "name and many spaces": "password" + " " * 60,
    "equals": "=",
    "colons": ":",
    "dashes": "-",
    "options": "--password ",
    "options without values": " --token",
    "short options": " -u a:",
    "quotes": "'",
    "double quotes": '"',
    "backslashes": "\\",
    "escaped quotes": '\\"',
    "opening quotes": "password='",
    "escaped opening quotes": 'password=\\"',
    "brackets": "[",
    "opening brackets": "password=(",
    "closing brackets": "token=)",
    "angles": "password=<",
    "assignments": "password: A = ",
    "urls": "http://",
    "userinfo": "http://a:b@",
    "colons and slashes": ":/",
    "ats": "@",
    "url without an end": "http://a:b",
    "queries": "?a=",
    "secret queries": "http://h/?password=x&",
    "jwt": "eyJ",
    "jwt parts": "eyJhbGciOiJIUzI1NiJ9.",
    "jwt starts": " eyJhbGciOiJ",
    "pem": "-----BEGIN X-----",
    "pem of nothing": "-----BEGIN ",
    "bearers": "bearer ",
    "bearer and spaces": "bearer" + " " * 40,
    "basics": "basic ",
    "basic without digits": "basic aaaaaaaa ",
    "basic run": "basic " + "a" * 900,
    "cloud keys": "AKIA",
    "hubs": "ghp_",
    "sks": "sk-",
    "slack": "xoxb-",
    "sendgrid": "SG.",
    "hooks": "hooks.slack.com/services/",
    "cookies": "cookie: a\n",
    "cookies in quotes": "'cookie: a ",
    "commas": "password=a,",
    "comma names": "password=," + "a" * 64,
    "ampersands": "password=&" + "a" * 60,
    "annotations": "password: str[",
    "numbers": "max_tokens=1",
    "dotted I": "İpassword=",
    "registered": "registere",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_long_text_takes_time_in_proportion(bomb: str) -> None:
    """No quadratic step: sixteen times the text takes nowhere near 256 times the time."""
    small, large = ((BOMBS[bomb] * size)[:size] for size in (1 << 14, 1 << 18))

    most = 90 * max(_seconds(small), 0.005)

    # The generous factor, the floor below what a clock tick is and three tries keep a busy machine from
    # failing this.
    assert any(_seconds(large) < most for _ in range(3))


def _seconds(text: str) -> float:
    begin = time.process_time()
    redactor.text(text)
    return time.process_time() - begin


def test_values_with_cycles_and_endless_depth_end() -> None:
    cycle: dict[str, Any] = {"password": "x"}
    cycle["self"] = cycle
    cycle["twice"] = [cycle, cycle]
    deep: Any = "token=x"
    for _ in range(10_000):
        deep = [deep]

    assert "'x'" not in repr(redactor.value(cycle))
    assert "token=x" not in safe_repr(redactor.value(deep))


def test_a_huge_value_is_cut_and_marked() -> None:
    shown = redactor.value([["a"]] * 1_000_000)

    assert shown[-1] == "…[cut]"
    assert len(shown) < 30_000
