"""Values that the app registered: hidden wherever they stand, however they are written."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final, Self
from urllib.parse import quote, quote_plus

from plet_celery.redaction.shapes import MASK

VALUE_MIN: Final = 6
"""Registered values shorter than this are ignored: a one-letter password would mask every text."""

_CUT: Final = "…[cut]"


class Registered:
    """The search for the registered values in all their written forms."""

    __slots__ = ("_forms", "_pattern")

    def __init__(self, forms: Sequence[str]) -> None:
        # The longest first, so that none is left half when one begins like another.
        self._forms = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._forms)))

    @classmethod
    def prepared(cls, values: Sequence[str]) -> Self | None:
        """Return the search for these values; None if there is none to look for."""
        forms = {form for value in values if len(value) >= VALUE_MIN for form in _forms(value)}
        return cls(tuple(forms)) if forms else None

    def mask(self, text: str) -> str:
        """Return `text` with every registered value replaced, also half a one before a cut."""
        text = self._pattern.sub(MASK, text)
        if not text.endswith(_CUT):
            return text
        stem = text[: -len(_CUT)]
        for form in self._forms:
            for size in range(min(len(form) - 1, len(stem)), VALUE_MIN - 1, -1):
                if stem.endswith(form[:size]):
                    return stem[:-size] + MASK + _CUT
        return text


def _forms(value: str) -> set[str]:
    """Return the ways a value is written: plain, in URLs, in JSON, in a repr."""
    try:
        quoted = {quote(value, safe=""), quote(value), quote_plus(value)}
    except UnicodeEncodeError:
        quoted = set()
    return {
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        *quoted,
    }
