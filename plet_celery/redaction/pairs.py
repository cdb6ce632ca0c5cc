"""Secrets that show by the name before them: `key=value`, `key: value`, `"key": "value"`, `--key value`.

One search finds a secret word with a separator behind it; the name around the word decides; a
small scanner finds where the value ends. Scanning goes on behind the value, so that the whole is
linear in the text. A value without an end (cut text) is masked to the end of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import groupby
from typing import Final

from plet_celery.redaction.names import ANYWHERE, PARTS, is_measure_name, name_parts, word_pattern
from plet_celery.redaction.shapes import MASK

_NAME_MAX: Final = 64
# A part of each word that is searched for; shorter ones stand for several.
_HINTS: Final = (
    "pass", "pwd", "secret", "token", "key", "cred", "cookie", "sess", "srf", "sign", "string", "auth",
    "jwt", "card", "pin", "otp", "iban", "dsn", "bearer", "cvv", "cvc", "ssn",
)  # fmt: skip

_QUOTED: Final = {
    # A quote before a letter is inside: 'it's'. A text without its closing quote was cut.
    '"': re.compile(r'(?s)"((?:[^"\\]|\\.|"(?=\w))*+)'),
    "'": re.compile(r"(?s)'((?:[^'\\]|\\.|'(?=\w))*+)"),
}
_OPENING = re.compile(r"""[bBrRuUfF]{0,2}(\\{0,15})(["'])""")
_ESCAPED_QUOTE = re.compile(r"""(\\*+)(["'])""")
_BARE = re.compile(
    r"""(?:[^\s&;,"'()\[\]{}\\]
      | \\(?!["'])
      | ["'](?![\s,;:)\]}>]|\Z)
      | [)\]}](?=\w)
      | [,;&](?!\s|\Z|["']|[\w.\-\[\]%]{1,64}["']?[=:])
    )++""",
    re.VERBOSE,
)
_LINE: Final = {
    "": re.compile(r"[^\r\n]*+"),
    "'": re.compile(r"[^\r\n']*+"),
    '"': re.compile(r'[^\r\n"]*+'),
}
_BRACKETED = re.compile(r"""(?s)"(?:[^"\\]|\\.)*+"?|'(?:[^'\\]|\\.)*+'?|[()\[\]{}]""")
_ANGLED = re.compile(r"<[^<>\n]{1,200}>")
_HARMLESS: Final = frozenset({"", "none", "null", "nil", "true", "false", "undefined", MASK})
_NUMBER = re.compile(r"-?\d[\d.]{0,30}(?:%|[a-z]{1,2})?")
_HOST_PORT = re.compile(r"\d{2,5}(?:[/\s,;)\]'\"]|\Z)")
_ANNOTATION = re.compile(
    r"(?:str|bytes|int|float|bool|object|dict|list|tuple|Any|SecretStr)\b(?:\[[^\]\n]{0,80}\])?"
    r"(?: ?\| ?None)?[ ]{0,2}(=(?!=)|[,)]|\Z)"
)
_VALUE = re.compile(r"""(?s)"(?:[^"\\]|\\.)*+"?|'(?:[^'\\]|\\.)*+'?|[^\s,;)\]}]++""")
_ASSIGNED = re.compile(r"[ \t]{1,4}=(?!=)[ \t]{0,4}")
_FILE = re.compile(r"\.(?:py|pyx|js|ts|go|rs|rb|c|h|java|html|json|ya?ml|toml|ini|log|txt|so)\Z")
_OPTION = re.compile(r"""(?<![\w\-])-{1,2}([A-Za-z][\w\-]{0,63})(?:["'],[ \t]{1,8}|[ \t]{1,8})(?=[^\s\-])""")
_USER_PASSWORD = re.compile(r"""["']?(?!\d+:\d+\b)[^\s:/"']+:[^\s/]""")

# Names that are also those of services: auth:8080 is a host, otp:123456 is not.
_NEVER_HOSTS: Final = ("pin", "otp", "cvv", "cvc", "pass", "pwd")
# In `app.auth: text` the name is a logger's; only these are worth a wrong guess.
_STRONG: Final = ("passw", "pwd", "passphrase", "secret", "key", "credential")
_WHOLE_LINE: Final = ("authorization", "cookie")


class Pairs:
    """The search for names with values behind them, for one set of secret words."""

    __slots__ = ("_hints", "_is_secret", "_pattern")

    def __init__(self, more: tuple[str, ...], is_secret: Callable[[str], bool]) -> None:
        """Prepare for the built-in words and `more`."""
        words = sorted({word_pattern(word) for word in (*ANYWHERE, *PARTS, "pass", *more)} - {""})
        # By first letter, because the engine skips an alternative whose first letter is not there.
        by_letter = (
            f"{first}(?:{'|'.join(word[1:] for word in some)})" for first, some in groupby(words, _first)
        )
        self._pattern = re.compile(
            rf"""(?:{"|".join(by_letter)})([\w.\-]{{0,{_NAME_MAX}}})["'\]\\]{{0,16}}[ \t]{{0,8}}!?[=:]"""
        )
        self._hints = (*_HINTS, *(part for name in more for part in name_parts(name)[:1]))
        self._is_secret = is_secret

    def may_be_in(self, low: str) -> bool:
        """Say, cheaply, whether `mask` could change the text whose lower case is `low`; False is certain."""
        if "=" in low or ":" in low:
            for hint in self._hints:
                if hint in low:
                    return True
        return False

    def mask(self, text: str) -> str:
        """Return `text` with the value behind every secret name and separator replaced."""
        low = lower(text)
        parts: list[str] = []
        done = at = 0
        while (found := self._pattern.search(low, at)) is not None:
            at = found.end()
            begin = _name_begin(text, found.start(), done)
            name = text[begin : found.end(1)]
            if not self._is_secret(name) or _is_no_name(text, begin, found):
                continue
            span = _value_span(text, begin, name, at)
            if span is not None:
                parts += (text[done : span[0]], MASK)
                done = at = span[1]
        return "".join((*parts, text[done:])) if parts else text

    def mask_options(self, text: str) -> str:
        """Return `text` with the values of `--password x` and `-u name:x` replaced, also in printed lists."""
        parts: list[str] = []
        done = at = 0
        while (found := _OPTION.search(text, at)) is not None:
            at = found.end()
            name = found[1]
            is_login = name in ("u", "user") and _USER_PASSWORD.match(text, at) is not None
            if not is_login and (len(name) < 3 or not self._is_secret(name)):
                continue
            span = _span(text, at)
            if span is not None:
                parts += (text[done : span[0]], MASK)
                done = at = span[1]
        return "".join((*parts, text[done:])) if parts else text


def lower(text: str) -> str:
    """Return `text` in lower case and of the same length (only `İ` would grow)."""
    low = text.lower()
    return low if len(low) == len(text) else text.replace("İ", "I").lower()


def _first(word: str) -> str:
    return word[0]


def _name_begin(text: str, at: int, low: int) -> int:
    low = max(low, at - _NAME_MAX)
    while at > low and (text[at - 1].isalnum() or text[at - 1] in "_.-"):
        at -= 1
    # In the repr of a text, a line break is two characters: `\\npassword: x`.
    return at + 1 if at and text[at - 1] == "\\" and text[at] in "nrt" else at


def _is_no_name(text: str, begin: int, found: re.Match[str]) -> bool:
    """Say whether what looks like a name is a path, a file and line, a logger, or a host and port."""
    name = text[begin : found.end(1)]
    if _FILE.search(name):
        return True
    is_plain_colon = found.end() == found.end(1) + 1 and text[found.end(1)] == ":"
    if not is_plain_colon:
        return False
    if text.startswith("//", found.end()) or text[begin - 1 : begin] == "/":
        return True
    low = name.lower()
    if "." in name and not any(word in low for word in _STRONG):
        return True
    return _HOST_PORT.match(text, found.end()) is not None and not any(word in low for word in _NEVER_HOSTS)


def _value_span(text: str, begin: int, name: str, at: int) -> tuple[int, int] | None:
    """Return where the value behind the separator that ends at `at` begins and ends; None to keep it."""
    at = _skip(text, at)
    annotation = _ANNOTATION.match(text, at)
    if annotation is not None:
        if annotation[1] != "=":
            return None
        at = _skip(text, annotation.end())
    if name.lower().endswith(_WHOLE_LINE) and _OPENING.match(text, at) is None:
        return _line_span(text, begin, at)
    span = _span(text, at)
    if span is not None and is_measure_name(name) and _NUMBER.fullmatch(text, *span):
        return None
    return span


def _skip(text: str, at: int) -> int:
    end = min(len(text), at + 64)
    while at < end and text[at] in " \t=>":
        at += 1
    return at


def _line_span(text: str, begin: int, at: int) -> tuple[int, int] | None:
    """Return the rest of the line, or of the quoted text that the name stands in."""
    found = _LINE.get(text[begin - 1 : begin], _LINE[""]).match(text, at)
    end = found.end() if found else at
    if end == at or text[at:end].strip() == MASK:
        return None
    return at, end


def _span(text: str, at: int) -> tuple[int, int] | None:
    opening = _OPENING.match(text, at)
    if opening is not None:
        begin, end = opening.end(), _quoted_end(text, opening)
        return (begin, end) if begin < end and text[begin:end] != MASK else None
    end = _bare_end(text, at)
    return None if text[at:end].lower() in _HARMLESS else (at, end)


def _quoted_end(text: str, opening: re.Match[str]) -> int:
    if not opening[1]:
        found = _QUOTED[opening[2]].match(text, opening.start(2))
        return found.end() if found else len(text)
    # A quote in a quote in a quote: one of the same depth ends it, one with more backslashes is inside.
    for found in _ESCAPED_QUOTE.finditer(text, opening.end()):
        if found[2] == opening[2] and len(found[1]) <= len(opening[1]):
            return found.start()
    return len(text)


def _bare_end(text: str, at: int) -> int:
    begin = at
    while True:
        while (end := _piece_end(text, at)) > at:
            at = end
        while at > begin and text[at - 1] in ".:>`'\"":
            at -= 1
        # In a line of source: `password: Type = value`
        assigned = _ASSIGNED.match(text, at) if at > begin else None
        value = _VALUE.match(text, assigned.end()) if assigned else None
        if value is None:
            return at
        at = value.end()


def _piece_end(text: str, at: int) -> int:
    """Return the end of `<…>`, `(…)`, or a run of characters that do not end a value."""
    found = _ANGLED.match(text, at) or _BARE.match(text, at)
    if found is not None:
        return found.end()
    return _bracket_end(text, at) if text[at : at + 1] in ("(", "[", "{") else at


def _bracket_end(text: str, at: int) -> int:
    depth = 0
    for found in _BRACKETED.finditer(text, at):
        if found[0] in ("(", "[", "{"):
            depth += 1
        elif found[0] in (")", "]", "}"):
            depth -= 1
            if depth <= 0:
                return found.end()
    return len(text)
