"""Takes secrets out of what is recorded: by the name before a value, and by a value's shape.

One rule for all that is written: arguments, results, log text, tracebacks, metadata, command lines.
A secret becomes `***`; doing it twice changes nothing; the time is linear in the size. In doubt
it hides; docs/redaction.md says what is found, and what is not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from plet_celery.redaction.names import is_secret_name
from plet_celery.redaction.pairs import Pairs
from plet_celery.redaction.registered import VALUE_MIN, Registered
from plet_celery.redaction.representation import LIMIT, is_asynchronous, safe_repr
from plet_celery.redaction.shapes import MASK, mask_base64_lines, mask_shapes, mask_urls, may_hold_shapes
from plet_celery.redaction.values import Walk

__all__ = ["LIMIT", "MASK", "VALUE_MIN", "Redactor", "is_asynchronous", "safe_repr"]

_PASSES_MAX: Final = 4
# No user's code runs in `text`: any other exception struck from outside.
_FAILURES: Final = (TypeError, ValueError, AttributeError, LookupError, RecursionError, MemoryError)
_ASSIGNMENT = re.compile(r"(?s)(-{0,2}[\w.\-]{1,256})=(.+)")
# Programs with a one-letter password option, its value attached or in the next argument.
_PASSWORD_OPTIONS: Final = {
    "mysql": "-p",
    "mariadb": "-p",
    "sshpass": "-p",
    "redis-cli": "-a",
    "valkey-cli": "-a",
}
_LOGIN_OPTIONS: Final = frozenset({"-u", "-U", "--user", "--proxy-user"})

Represent = Callable[[Any], str]
_Given = TypeVar("_Given")


class Redactor:
    """Redacts text, JSON-like values, arguments and command lines; immutable, shared by threads.

    No method raises for what it is given: what cannot be redacted becomes `***`.
    """

    __slots__ = ("_more", "_pairs", "_values")

    def __init__(self, names: Sequence[str] = (), values: Sequence[str] = ()) -> None:
        """Prepare the built-in names and shapes, and these.

        Args:
            names: further words; those of up to three letters count as a whole part of a name only.
            values: texts that are replaced wherever they stand, also URL-quoted or
                escaped; those shorter than VALUE_MIN are ignored.
        """
        self._more = tuple(names)
        self._pairs = Pairs(self._more, self.is_secret_name)
        self._values = Registered.prepared(values)

    def __repr__(self) -> str:
        return f"<Redactor: {len(self._more)} further names, {'with' if self._values else 'no'} values>"

    def is_secret_name(self, name: str) -> bool:
        """Say whether what stands under this name is hidden."""
        return is_secret_name(name, self._more)

    def text(self, text: str) -> str:
        """Return `text` with every secret in it replaced by `***`."""
        try:
            return self._text(text)
        except _FAILURES as error:
            if is_asynchronous(error):
                raise
            return MASK

    def value(self, value: Any) -> Any:
        """Return JSON-like `value` with its secrets replaced; objects that are no JSON stay as they are.

        What stands under a secret name is replaced whole, except None, booleans, emptiness, and
        numbers whose name is a measure's (`max_tokens`).
        """
        return self._safely(self._walk(None).value, value)

    def arguments(
        self,
        parameters: Sequence[str] | None,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        represent: Represent,
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return a call's arguments, redacted as JSON-like values.

        Args:
            parameters: the task's positional parameters, in order; an argument beyond them has no name.
            represent: turns an object that is no JSON into text; it must not raise.
        """
        names = tuple(parameters or ())
        walk = self._walk(represent)
        shown = [
            self._safely(walk.under, names[number], value)
            if number < len(names)
            else self._safely(walk.value, value)
            for number, value in enumerate(args)
        ]
        return shown, {key: self._safely(walk.under, key, value) for key, value in kwargs.items()}

    def argv(self, arguments: Iterable[str | bytes | os.PathLike[str]]) -> list[str]:
        """Return a command line, redacted: `--password x`, `--token=x`, `PGPASSWORD=x`, `-u name:x`."""
        items = [item if isinstance(item, str) else os.fsdecode(item) for item in arguments]
        # As in a text: without what was masked, an argument may be an option, whose value is the next one.
        return _repeated(self._argv, items)

    def _argv(self, items: list[str]) -> list[str]:
        option = _password_option(items)
        return [
            self._argument(item, before, option) for item, before in zip(items, ["", *items], strict=False)
        ]

    def _argument(self, item: str, before: str, option: str | None) -> str:
        assigned = _ASSIGNMENT.fullmatch(item)
        if assigned is not None and self.is_secret_name(assigned[1]):
            return f"{assigned[1]}={MASK}"
        if option is not None and before == option:
            return MASK
        if option is not None and item.startswith(option) and item != option:
            return option + MASK
        if not item.startswith("-") and self._takes_secret(before, item):
            return MASK
        return self.text(item)

    def _takes_secret(self, option: str, value: str) -> bool:
        if option in _LOGIN_OPTIONS:
            return ":" in value and not value.replace(":", "").isdigit()
        return (
            len(option) > 3 and option.startswith("-") and "=" not in option and self.is_secret_name(option)
        )

    def _text(self, text: str) -> str:
        # What was masked may join its neighbours to a new shape; ordinary text stops after one pass.
        return _repeated(self._pass, text)

    def _pass(self, text: str) -> str:
        if self._values is not None:
            text = self._values.mask(text)
        low = text.lower()
        if "://" in low:
            text = mask_urls(text)
        if may_hold_shapes(text, low):
            text = mask_shapes(text)
        text = mask_base64_lines(text)
        if self._pairs.may_be_in(low):
            text = self._pairs.mask(text)
        if "--" in low or " -" in low:
            text = self._pairs.mask_options(text)
        return text

    def _walk(self, represent: Represent | None) -> Walk:
        return Walk(self._text, self.is_secret_name, represent)

    def _safely(self, redact: Callable[..., Any], *values: Any) -> Any:
        try:
            return redact(*values)
        except BaseException as error:
            if is_asynchronous(error):
                raise
            return MASK


def _repeated(step: Callable[[_Given], _Given], given: _Given) -> _Given:
    """Take a step until it changes nothing more."""
    for _ in range(_PASSES_MAX):
        shown = step(given)
        if shown == given:
            break
        given = shown
    return given


def _password_option(items: Sequence[str]) -> str | None:
    program = items[0].rpartition("/")[2] if items else ""
    return next((option for name, option in _PASSWORD_OPTIONS.items() if program.startswith(name)), None)
