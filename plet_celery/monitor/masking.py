"""Takes out of a text whatever is a secret of the project, whoever wrote it: drivers quote URLs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr
from sqlalchemy.engine import URL

from plet_celery.monitor.channelsecrets import channel_secrets
from plet_celery.redaction import Redactor
from plet_celery.settings import Settings

_OF_CHANNELS: Final = frozenset({"channel_secret_urls", "channel_secret_keys", "ping_secret_url"})


def masking(settings: Settings, store_url: URL, conf: Any) -> Callable[[str], str]:
    """Return a function that gives a text without the project's secrets.

    These are passwords of the store, the broker and the result backend, and all of the secret settings.

    Args:
        conf: an app's, asked by attribute: what the environment says of its broker is no key of it.
    """
    values = [] if not store_url.password else [str(store_url.password)]
    for name in ("broker_url", "broker_read_url", "broker_write_url", "result_backend"):
        given = getattr(conf, name, None)
        for url in given if isinstance(given, list | tuple) else str(given or "").split(";"):
            values += _passwords(str(url))
    values += channel_secrets(settings)
    for field in type(settings).model_fields.keys() - _OF_CHANNELS:
        value = getattr(settings, field)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, SecretStr):
                secret = one.get_secret_value()
                values += _passwords(secret) if "://" in secret else [secret]
    redactor = Redactor(settings.redact_names, [value for value in values if value])
    return redactor.text


def _passwords(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        found = parts.password
    except ValueError:
        return [url]
    query = [value for _, _, value in (pair.partition("=") for pair in parts.query.split("&")) if value]
    return [*([found, unquote(found)] if found else []), *query]
