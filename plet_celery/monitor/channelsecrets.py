"""Which texts of the channels' addresses and keys are secrets: an error may repeat one of them alone."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import unquote

from plet_celery.redaction.names import is_secret_name
from plet_celery.settings import Settings
from plet_celery.settings_channels import named_secrets

_TOKEN_MIN: Final = 8
"""Characters of a part with a digit in it: a word has none, a token mostly has."""
_LONG_MIN: Final = 12
"""Characters of a part that is one whatever it is made of; a shorter one may be a word like `services`."""
_SEPARATORS: Final = re.compile("[/?&=:@#]")
_WEB: Final = frozenset({"http", "https"})


def channel_secrets(settings: Settings) -> list[str]:
    """Return every text of the channels' and the ping's addresses and keys that nobody else may see."""
    urls = [url for found in named_secrets(settings.channel_secret_urls).values() for url in found]
    keys = [key for found in named_secrets(settings.channel_secret_keys).values() for key in found]
    if settings.ping_secret_url is not None:
        urls.append(settings.ping_secret_url.get_secret_value())
    return [*urls, *keys, *(part for url in urls for part in secret_parts(url, settings.redact_names))]


def secret_parts(url: str, names: Sequence[str] = ()) -> list[str]:
    """Return the parts of an address that are secrets, as they stand there and unquoted.

    That is the password of the user information always; of the rest, what looks like a token. Of an
    Apprise URL also the host may be one (`tgram://TOKEN/1`).

    Args:
        names: further words that say of a part of the query that it is secret.
    """
    scheme, _, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    info, _, host = authority.rpartition("@")
    # A password with an unquoted slash ends the authority too early; Apprise takes it all the same.
    user, _, password = (info or rest.partition("@")[0] if "@" in rest else "").partition(":")
    rest = rest[len(authority) :]
    pairs = [pair.partition("=") for pair in rest.partition("?")[2].partition("#")[0].split("&")]
    # A host, or a user, with a dot is a name of the web.
    names_there = [part for part in (user, *host.split(":")) if "." not in part]
    found = [password, *(value for name, _, value in pairs if is_secret_name(name, names))]
    found += _tokens([*_SEPARATORS.split(rest), *(value for _, _, value in pairs)], least=_LONG_MIN)
    found += _tokens(names_there, least=math.inf if scheme.lower() in _WEB else _LONG_MIN)
    return [form for part in found if part for form in dict.fromkeys((part, unquote(part)))]


def _tokens(parts: Iterable[str], *, least: float) -> list[str]:
    return [
        part for part in parts if len(part) >= least or (len(part) >= _TOKEN_MIN and re.search(r"\d", part))
    ]
