"""Redacted, bounded previews of arguments and results, as an event carries them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from plet_celery import events
from plet_celery.redaction import Redactor, safe_repr

# A preview larger than this is shown as text of its parts, so that a start event stays small.
_PREVIEW_MAX: Final = 16 << 10


def preview_arguments(
    redactor: Redactor, parameters: tuple[str, ...] | None, args: Any, kwargs: Any
) -> dict[str, Any]:
    """Return `args` and `kwargs` as an event's fields; positional ones are redacted by parameter."""
    shown: dict[str, Any] = {}
    plain_args = events.plain(list(args or ()), safe_repr)
    plain_kwargs = events.plain(dict(kwargs or {}), safe_repr)
    named, by_name = redactor.arguments(parameters, plain_args, plain_kwargs, safe_repr)
    if named:
        shown["args"] = preview(named)
    if by_name:
        shown["kwargs"] = preview(by_name)
    return shown


def preview(value: Any) -> Any:
    """Return `value`, or a short text for each of its parts when it is too large to keep as it is."""
    if value is None or len(msgspec.json.encode(value)) <= _PREVIEW_MAX:
        return value
    if isinstance(value, dict):
        return {key: safe_repr(item, 200) for key, item in list(value.items())[:50]}
    if isinstance(value, list):
        return [safe_repr(item, 200) for item in value[:50]]
    return safe_repr(value, 2000)
