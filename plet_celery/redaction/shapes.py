"""Secrets that show by their shape: URLs with credentials, tokens, PEM blocks, well-known keys.

Each pattern starts at a fixed text or a word's beginning, and its match is consumed, so that the time
is linear in the text; nothing here backtracks over a repeated group.
"""

from __future__ import annotations

import re
from typing import Final

from plet_celery.redaction.names import is_secret_name

MASK: Final = "***"

# Fixed texts, one of which is in every text that `mask_shapes` changes. Plain searches of one line cost
# half of what one regular expression for all of them costs.
_HINTS: Final = ("eyJ", "AKIA", "ASIA", "AIza", "SG.")
_HINTS_LOW: Final = ("bearer ", "basic ")
_HINTS_DASH: Final = ("-----BEGIN ", "xox", "sk-", "glpat-", "xapp-", "pypi-")
_HINTS_UNDERSCORE: Final = ("k_live_", "k_test_", "whsec_", "npm_", "hf_", "github_pat_")
_HINTS_GITHUB: Final = ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")

_SHAPES = re.compile(
    r"""
    (?P<pem>-----BEGIN[ ][A-Z0-9 ]{1,60}-----)(?s:.*?)(?P<pem_end>-----END[ ][A-Z0-9 ]{1,60}-----|\Z)
    | (?<![\w-]) (?:
        eyJ[\w-]{10,}+ (?:\.[\w-]++){0,4}+                 # JSON Web Tokens, also cut ones
      | (?:AKIA|ASIA)[A-Z0-9]{12,}+
      | AIza[\w-]{30,}+
      | gh[pousr]_[A-Za-z0-9]{16,}+ | github_pat_\w{16,}+ | glpat-[\w-]{16,}+
      | xox[a-z]-[\w-]{8,}+ | xapp-[\w-]{8,}+
      | [sr]k_(?:live|test)_\w{8,}+ | whsec_[\w+/=]{16,}+
      | sk-[\w-]{16,}+
      | SG\.[\w-]{12,}+\.[\w-]{12,}+
      | npm_\w{30,}+ | pypi-[\w-]{40,}+ | hf_\w{24,}+
      ) [\w-]*+
    | (?P<scheme>(?<!\w)(?i:bearer)[ ]++)
        (?!(?i:tokens?|auth\w*+|credentials?|realms?|schemes?|formats?|headers?|errors?)(?![\w~+/=-]))
        [\w.~+/=-]{6,}+
    | (?P<basic>(?<!\w)(?i:basic)[ ]++)(?=[A-Za-z+/]*+[0-9=]|[A-Za-z0-9+/]*?[a-z][A-Z])
        [A-Za-z0-9+/]{6,}+={0,2}
    """,
    re.VERBOSE,
)

# A line of a PEM block that was cut, or printed line by line; digests in hexadecimal have no capitals.
_BASE64_LINE = re.compile(
    r"(?m)^(?=[^a-z\n]*[a-z])(?=[^A-Z\n]*[A-Z])(?=[^0-9\n]*[0-9])[A-Za-z0-9+/]{60,76}={0,2}(?=\r?$)"
)
_BASE64_LINE_LENGTHS: Final = range(60, 80)

_URL = re.compile(r"""://((?:[^\s"'<>:\\]++|:(?!//)|\\++(?!["']))++)""")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*\Z")
_SCHEME_MAX: Final = 20
# Nothing, a number, * or a placeholder; further hosts may follow.
_PORT = re.compile(r"(?:\d{1,5}|\*|\$?\{.*)?(?:[,;].*)?")
# A web hook's path is its password.
_HOOK = re.compile(
    r"(hooks\.slack\.com/\w+/|discord(?:app)?\.com/api/webhooks/|api\.telegram\.org/bot)[^?#]++"
)
_PARAMETER = re.compile(r"([?&;])([^=&;#?\s]{1,100})=([^&;#]*+)")
# Web paths may hold an @ (https://example.org/@user); those of databases and brokers do not.
_WEB: Final = frozenset({"http", "https", "ws", "wss", "file", "s3", "gs", "npm"})
_IMAGES: Final = frozenset({"docker", "oci", "containers-storage", "docker-daemon"})
_QUERY_NAMES: Final = frozenset({"sig", "key", "code", "pass", "hmac", "apisig"})
_CUT: Final = "…["
# What ends a sentence or a bracket around a URL.
_CLOSERS: Final = ".,:)]}`"
_AFTER_SCHEME: Final = "://"


def may_hold_shapes(text: str, low: str) -> bool:
    """Say, cheaply, whether `mask_shapes` could change `text`; False is certain.

    Args:
        low: `text` in lower case.
    """
    for hint in _HINTS:
        if hint in text:
            return True
    for hint in _HINTS_LOW:
        if hint in low:
            return True
    if "-" in text:
        for hint in _HINTS_DASH:
            if hint in text:
                return True
    if "_" in text:
        for hint in _HINTS_UNDERSCORE:
            if hint in text:
                return True
        return "gh" in text and any(hint in text for hint in _HINTS_GITHUB)
    return False


def mask_shapes(text: str) -> str:
    """Return `text` with every token, key and PEM block replaced."""
    return _SHAPES.sub(_mask_shape, text)


def mask_base64_lines(text: str) -> str:
    """Return `text` without the lines of a PEM block whose beginning is missing."""
    if "-----END " in text or (len(text) in _BASE64_LINE_LENGTHS and " " not in text):
        return _BASE64_LINE.sub(MASK, text)
    return text


def mask_urls(text: str) -> str:
    """Return `text` with user information and sensitive query parameters of each URL replaced.

    Lists of URLs and of hosts are fine; a URL that cannot be taken apart keeps its scheme only.
    """
    return _URL.sub(_mask_url, text)


def _mask_shape(found: re.Match[str]) -> str:
    if found["pem"]:
        return found["pem"] + MASK + found["pem_end"]
    return (found["scheme"] or found["basic"] or "") + MASK


def _mask_url(found: re.Match[str]) -> str:
    before = _SCHEME.search(found.string[max(0, found.start() - _SCHEME_MAX) : found.start()])
    scheme, rest = before[0].lower() if before else "", found[1]
    first = re.split("[/?#]", rest, maxsplit=1)[0]
    at = _userinfo_end(scheme, rest, first)
    if at >= 0:
        rest = MASK + rest[at:]
    elif _looks_cut(scheme, first, rest, found):
        return _AFTER_SCHEME + MASK
    rest = _HOOK.sub(_mask_hook, rest)
    if "=" in rest:
        rest = _PARAMETER.sub(_mask_parameter, rest)
    return _AFTER_SCHEME + rest


def _userinfo_end(scheme: str, rest: str, first: str) -> int:
    """Return where the host begins (at the `@`), or -1 without user information."""
    if "@" not in rest or first.startswith("["):
        return -1
    if "@" not in first:
        # A password with a raw / ? or #: what stands behind the colon is no port.
        _, colon, port = first.partition(":")
        if scheme in _WEB and (not colon or _PORT.fullmatch(port)):
            return -1
        return rest.rfind("@") if colon else -1
    if scheme in _WEB and ":" not in first.partition("@")[0]:
        return first.rfind("@")
    return rest.partition("?")[0].rfind("@") if "@" in rest.partition("?")[0] else rest.rfind("@")


def _looks_cut(scheme: str, first: str, rest: str, found: re.Match[str]) -> bool:
    """Say whether a `user:password` was cut before its `@`."""
    name, colon, port = first.partition(":")
    if not colon or name.startswith("[") or scheme in _IMAGES or _PORT.fullmatch(port) or MASK in rest:
        return False
    return _CUT in rest or found.end() == len(found.string)


def _mask_hook(found: re.Match[str]) -> str:
    return found[1] + MASK


def _mask_parameter(found: re.Match[str]) -> str:
    mark, name, value = found.groups()
    behind = value[len(value.rstrip(_CLOSERS)) :]
    secret = is_secret_name(name) or name.casefold() in _QUERY_NAMES
    return f"{mark}{name}={MASK}{behind}" if secret and value != behind else found[0]
