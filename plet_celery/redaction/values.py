"""Redaction of JSON-like values: by the name above a value, and by each text's own shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from plet_celery.redaction.names import is_measure_name
from plet_celery.redaction.shapes import MASK

_DEPTH_MAX: Final = 32
_NODES_MAX: Final = 20_000
_CUT: Final = "…[cut]"


class Walk:
    """One pass over a value; bounded in depth and nodes, so that cycles end.

    Args:
        text: redacts a text.
        is_secret: decides about a name.
        represent: turns an object that is no JSON into text; None keeps the object.
    """

    def __init__(
        self,
        text: Callable[[str], str],
        is_secret: Callable[[str], bool],
        represent: Callable[[Any], str] | None,
    ) -> None:
        self._text = text
        self._is_secret = is_secret
        self._represent = represent
        self._left = _NODES_MAX

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return `value` redacted; containers are new, of the same built-in type."""
        kind = type(value)
        if value is None or kind in (bool, int, float):
            return value
        if kind is str:
            return self._text(value)
        self._left -= 1
        if depth >= _DEPTH_MAX or self._left <= 0:
            return _CUT
        if issubclass(kind, dict):
            return self._dict(value, depth)
        if issubclass(kind, (list, tuple)):
            items = self._items(value, depth) if not hasattr(kind, "_fields") else self._fields(value, depth)
            return items if issubclass(kind, list) else tuple(items)
        if issubclass(kind, (set, frozenset)):
            return {item if _is_plain(item) else self.value(item, depth + 1) for item in value}
        if issubclass(kind, str):
            return self._text(str.__str__(value))
        if issubclass(kind, (bytes, bytearray)):
            return self._text(bytes(value).decode("utf-8", "surrogateescape")).encode(
                "utf-8", "surrogateescape"
            )
        return value if self._represent is None else self._text(self._represent(value))

    def under(self, name: str, value: Any, depth: int = 0) -> Any:
        """Return `value` redacted as what stands under `name`."""
        if self._is_secret(name) and not is_harmless(name, value):
            return MASK
        return self.value(value, depth)

    def _dict(self, value: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
        shown: dict[Any, Any] = {}
        # {"name": "DB_PASSWORD", "value": "x"}: the shape of form fields and of container environments.
        label = value.get("name", value.get("key")) if "value" in value else None
        for key, item in list(value.items()):
            self._left -= 1
            if self._left <= 0:
                shown[_CUT] = len(value) - len(shown)
                break
            name = label if key == "value" and type(label) is str else _name(key)
            shown[self._text(key) if type(key) is str else key] = self.under(name, item, depth + 1)
        return shown

    def _fields(self, value: tuple[Any, ...], depth: int) -> list[Any]:
        """Return a named tuple's values, redacted by their names."""
        names = [name for name in getattr(type(value), "_fields", ()) if type(name) is str]
        return [self.under(name, item, depth + 1) for name, item in zip(names, value, strict=False)]

    def _items(self, value: list[Any] | tuple[Any, ...], depth: int) -> list[Any]:
        shown: list[Any] = []
        # [("X-Api-Key", "x"), …]: the shape of headers and of parsed queries.
        pairs = all(
            type(item) in (list, tuple) and len(item) == 2 and type(item[0]) is str for item in value[:200]
        )
        for item in list(value):
            if self._left <= 0:
                shown.append(_CUT)
                break
            if pairs and type(item) in (list, tuple) and len(item) == 2 and type(item[0]) is str:
                self._left -= 1
                shown.append(type(item)((self._text(item[0]), self.under(item[0], item[1], depth + 2))))
            else:
                shown.append(self.value(item, depth + 1))
        return shown


def is_harmless(name: str, value: Any) -> bool:
    """Say whether this value under a secret name tells no secret: nothing, a truth value, a measure."""
    kind = type(value)
    if value is None or kind is bool:
        return True
    if kind in (int, float):
        return is_measure_name(name)
    return kind in (str, bytes, list, tuple, dict) and not value


def _name(key: Any) -> str:
    if type(key) is str:
        return key
    if type(key) is bytes:
        return key.decode("latin-1")
    return str.__str__(key) if issubclass(type(key), str) else ""


def _is_plain(value: Any) -> bool:
    return type(value) in (int, float, bool)
