"""Redaction of values, arguments and command lines: what stays, what shape comes back, what never happens."""

from __future__ import annotations

import copy
from typing import Any, NoReturn

import pytest

from plet_celery.redaction import MASK, Redactor, safe_repr

redactor = Redactor()


@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            True,
            17,
            1.5,
            "text",
            b"bytes",
            [],
            {},
            (),
            [1, "a", None],
            {"a": {"b": [1, 2.5]}},
            {1: 2, None: 3},
        ),
        *((1, ("a",)), {"x"}, [["a", 1], ["b", 2]], {"name": "a", "value": 1}, {"rows": [{"id": 1}]}),
    ],
    ids=repr,
)
def test_a_value_without_secrets_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    shown = redactor.value(value)

    assert shown == value
    assert type(shown) is type(value)


def test_the_given_value_is_not_changed() -> None:
    value = {"password": "x", "a": [{"token": "y"}, "secret=z"], "pairs": [["X-Auth", "v"], ["b", "c"]]}
    before = copy.deepcopy(value)

    shown = redactor.value(value)

    assert value == before
    assert shown == {
        "password": MASK,
        "a": [{"token": MASK}, "secret=***"],
        "pairs": [["X-Auth", MASK], ["b", "c"]],
    }


def test_objects_that_are_no_json_stay_what_they_are() -> None:
    thing = object()

    assert redactor.value({"a": [thing]})["a"][0] is thing
    assert redactor.value({"secret": thing}) == {"secret": MASK}


class HostileDict(dict[str, Any]):
    """Every method raises."""

    def items(self) -> NoReturn:
        raise RuntimeError("items")

    def __contains__(self, key: object) -> NoReturn:
        raise SystemExit(1)


class HostileList(list[Any]):
    """Cannot be iterated."""

    def __iter__(self) -> NoReturn:
        raise KeyboardInterrupt

    def __getitem__(self, key: Any) -> NoReturn:
        raise ValueError("item")


@pytest.mark.parametrize("value", [HostileDict(a=1), HostileList([1, 2])], ids=["dict", "list"])
def test_what_cannot_be_redacted_is_hidden(value: Any) -> None:
    assert redactor.value(value) == MASK
    assert redactor.value([value]) == MASK
    assert redactor.arguments(("a",), [value, 5], {"k": value}, safe_repr) == ([MASK, 5], {"k": MASK})


def test_text_that_is_no_text_is_hidden() -> None:
    assert redactor.text(None) == MASK  # type: ignore[arg-type]
    assert redactor.text(b"bytes") == MASK  # type: ignore[arg-type]


def test_arguments_are_named_by_the_signature() -> None:
    shown = redactor.arguments(
        ("user", "password", "limit"),
        ["bob", "hunter2", 5, "password"],
        {"api_key": "x", "path": "/a"},
        safe_repr,
    )

    assert shown == (["bob", MASK, 5, "password"], {"api_key": MASK, "path": "/a"})


def test_arguments_that_are_objects_are_represented_and_redacted() -> None:
    class Login:
        def __repr__(self) -> str:
            return "Login(user='bob', password='hunter2')"

    class Broken:
        def __repr__(self) -> NoReturn:
            raise ValueError

    shown = redactor.arguments((), [Login(), [Broken()]], {"a": {"b": Login()}}, safe_repr)

    login = "Login(user='bob', password='***')"
    broken = f"<{Broken.__qualname__}: repr failed (ValueError)>"
    assert shown == ([login, [broken]], {"a": {"b": login}})


def test_arguments_of_nothing() -> None:
    assert redactor.arguments(None, [], {}, safe_repr) == ([], {})
    assert redactor.arguments((), (1,), {}, safe_repr) == ([1], {})


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        ([], []),
        (["ls", "-l", "/tmp"], ["ls", "-l", "/tmp"]),
        (["tool", "--password", "x y", "run"], ["tool", "--password", MASK, "run"]),
        (["tool", "--password", "--verbose"], ["tool", "--password", "--verbose"]),
        (["tool", "--password=", "a"], ["tool", "--password=", "a"]),
        (["tool", "-token", "x"], ["tool", "-token", MASK]),
        (["env", "PGPASSWORD=x=y", "A=b", "psql"], ["env", "PGPASSWORD=***", "A=b", "psql"]),
        (["curl", "-u", "bob:x", "u"], ["curl", "-u", MASK, "u"]),
        (["docker", "run", "-u", "1000:1000"], ["docker", "run", "-u", "1000:1000"]),
        (["mysql", "-pabc", "-P", "3306"], ["mysql", "-p***", "-P", "3306"]),
        (["/usr/bin/mysqldump", "-p", "shop"], ["/usr/bin/mysqldump", "-p", MASK]),
        (["mkdir", "-p", "a/b"], ["mkdir", "-p", "a/b"]),
        (["redis-cli", "-a", "x", "ping"], ["redis-cli", "-a", MASK, "ping"]),
        (["git", "clone", "https://x@h/r.git"], ["git", "clone", "https://***@h/r.git"]),
        (["author", "--author", "bob"], ["author", "--author", "bob"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_command_lines(argv: list[str], shown: list[str]) -> None:
    assert redactor.argv(argv) == shown
