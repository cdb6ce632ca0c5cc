"""Which names hide a secret: of settings, arguments, dict keys, headers, query parameters, options.

Long words count anywhere in a name, with its case and separators gone (`DB_PASSWORD`, `apiKey`).
Short ones would hide too much that way (`author`, `shipping`, `pinned`, `discard`), so that they
must be a part of their own: `auth_header`, `userPin`, `X-Auth`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

ANYWHERE: Final = (
    "password", "passwd", "pwd", "passphrase", "passcode", "secret", "token", "credential", "cookie",
    "session", "sess_id", "csrf", "xsrf", "signature", "authorization", "oauth", "basic_auth", "http_auth",
    "jwt", "bearer", "connection_string", "credit_card", "card_number", "pin_code",
    "api_key", "access_key", "private_key", "signing_key", "encryption_key", "account_key", "auth_key",
    "ssh_key",
)  # fmt: skip
"""Words that make a name secret wherever they stand in it."""

PARTS: Final = frozenset(
    {"auth", "authentication", "otp", "totp", "pin", "card", "cards", "iban", "ibans", "dsn", "dsns"}
    | {"cvv", "cvc", "ssn"}
)
"""Words that make a name secret as a snake_case, kebab-case or camelCase part of it."""

# Words that hold one of ANYWHERE by accident.
_INNOCENT: Final = re.compile("tokeni[sz]|secretar|(?:pos|ob)session|coauthor|targetsession")

# `pass` counts at the end of a part (`db_pass`, `storepass`), but for these.
_NO_PASSWORDS: Final = frozenset(
    {"bypass", "compass", "encompass", "surpass", "trespass", "overpass", "underpass"}
)

# The last part of names that tell a state: `token_expired`, `InvalidPasswordError`.
_STATES: Final = frozenset(
    {
        "error", "errors", "exception", "warning", "failure", "failed", "expired", "invalid", "missing",
        "required", "denied", "mismatch", "exceeded",
    }
)  # fmt: skip

# Parts that make a *number* under a secret name a measure: `max_tokens`, `session_timeout`.
_MEASURES: Final = frozenset(
    {
        "max", "min", "total", "num", "number", "count", "n", "len", "length", "size", "limit", "left",
        "used", "unused", "usage", "active", "open", "per", "prompt", "completion", "input", "output",
        "cached", "reasoning", "remaining", "expires", "expiry", "expire", "expiration", "timeout", "ttl",
        "age", "lifetime", "seconds", "minutes", "hours", "days", "ms", "bytes", "rate", "retries",
        "attempts", "version", "index", "tokens", "sessions", "cookies",
    }
)  # fmt: skip

_NAME_MAX: Final = 256
_SHORT: Final = 3

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_SEPARATORS = re.compile(r"[\W_]+")


@lru_cache(maxsize=4096)
def is_secret_name(name: str, more: tuple[str, ...] = ()) -> bool:
    """Say whether what stands under `name` must not be recorded.

    Args:
        more: further words; those of up to three letters count as parts only.
    """
    name = name[:_NAME_MAX]
    parts = name_parts(name)
    if parts and parts[-1] in _STATES:
        return False
    if not PARTS.isdisjoint(parts) or any(
        part.endswith("pass") and part not in _NO_PASSWORDS for part in parts
    ):
        return True
    joined = _INNOCENT.sub("", _join(name))
    if any(word in joined for word in _JOINED):
        return True
    return any(word in parts if len(word) <= _SHORT else word in joined for word in map(_join, more) if word)


@lru_cache(maxsize=1024)
def is_measure_name(name: str) -> bool:
    """Say whether a number under this secret name is a count or a duration, and no secret."""
    return not _MEASURES.isdisjoint(name_parts(name[:_NAME_MAX]))


def name_parts(name: str) -> list[str]:
    """Return the words of a snake_case, kebab-case or camelCase name, case-folded."""
    return [part.casefold() for part in _WORDS.findall(name)]


def word_pattern(word: str) -> str:
    """Return a pattern for a word in lower-case text, its parts joined by any separator or none."""
    return r"[_\-. ]?".join(re.escape(part) for part in name_parts(word))


def _join(name: str) -> str:
    return _SEPARATORS.sub("", name.casefold())


_JOINED: Final = tuple(map(_join, ANYWHERE))
