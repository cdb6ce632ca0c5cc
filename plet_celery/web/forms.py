"""Forms that change something: a request is one of ours only where all of this says so.

1. It comes from a page of the same origin: the browser says so itself (`Sec-Fetch-Site`; over plain HTTP,
   where there is none, `Origin`). A request that says neither comes from no browser's page.
2. It is a form as browsers send it, and no other kind of body.
3. It carries a token that only our own page can hold: signed for this user and for this browser, which has a
   cookie that is not sent along from other sites.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

COOKIE: Final = "plet_form"
FIELD: Final = "plet_token"
BODY_MAX: Final = 64 << 10
"""Bytes of a form; more is refused."""
_KIND: Final = "application/x-www-form-urlencoded"
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{22}")


def new_nonce() -> str:
    """Return what names a browser in its cookie."""
    return secrets.token_urlsafe(16)


def is_nonce(text: str | None) -> bool:
    """Tell whether a cookie holds one of ours, whoever made it."""
    return text is not None and _NONCE.fullmatch(text) is not None


def token(secret: str | bytes, *, nonce: str, user: str) -> str:
    """Return what a form carries: nobody can make it up without the secret of Flower's cookies."""
    key = secret if isinstance(secret, bytes) else secret.encode()
    # Neither has a NUL in it: no other pair gives the same text.
    said = f"plet form\0{nonce}\0{user}".encode("utf-8", "surrogatepass")
    return hmac.new(key, said, hashlib.sha256).hexdigest()


def fits(given: str, wanted: str) -> bool:
    """Compare two tokens in a time that tells nothing."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def refusal(headers: Mapping[str, str], *, host: str) -> str | None:
    """Return why a request is not a form that our own page has sent, or None.

    Args:
        headers: whose names are looked up in any case.
        host: the name by which we were asked (the Host header).
    """
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    if site is not None and site != "same-origin":
        return "the form was sent from another site"
    if site is None and origin is None:
        return "the browser does not say which page sent the form (neither Sec-Fetch-Site nor Origin)"
    # Behind a proxy the host may have another name here: the browser's own word comes first.
    if site is None and not _is_ours(origin or "", host):
        return "the form was sent from another origin"
    if headers.get("Content-Type", "").partition(";")[0].strip().lower() != _KIND:
        return f"the request is no form ({_KIND})"
    return None


def _is_ours(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(host) and parts.netloc.lower() == host.lower()
