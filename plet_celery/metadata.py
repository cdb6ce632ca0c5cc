"""What a task says about its run, by top-level key."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any, Final, Protocol

from plet_celery import events
from plet_celery.guard import PASS_THROUGH, contain
from plet_celery.redaction import safe_repr

KEYS_MAX: Final = 200


class _Run(Protocol):
    ended: bool

    def emit(self, kind: str, data: dict[str, Any]) -> bool: ...

    def plain(self, value: Any) -> Any: ...

    def complain(self, text: str) -> None: ...


class Metadata(MutableMapping[str, Any]):
    """A run's metadata: assigning a top-level key records it; changes inside a value are not seen."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._values: dict[str, Any] = {}
        self._changes = 0

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __setitem__(self, key: str, value: Any) -> None:
        self._values[key] = value
        try:
            self._record(key, value)
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "run.metadata")

    def __delitem__(self, key: str) -> None:
        del self._values[key]
        try:
            self._record(key, None, removed=True)
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "run.metadata")

    def _record(self, key: Any, value: Any, *, removed: bool = False) -> None:
        if self._run.ended:
            return
        if len(self._values) > KEYS_MAX:
            self._run.complain(f"metadata has more than {KEYS_MAX} keys: {safe_repr(key, 50)} is not kept")
            return
        self._changes += 1
        text = events.safe_text(key if type(key) is str else safe_repr(key, 100), 100)
        data: dict[str, Any] = {"key": text, "i": self._changes}
        if not removed:
            # By its key's name too: metadata["token"] = … must not reach the disk.
            data["value"] = self._run.plain({text: value})[text]
        self._run.emit(events.METADATA_SET, data)
