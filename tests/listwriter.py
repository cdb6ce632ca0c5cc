"""A journal writer that keeps events in a list, for tests of pure recording."""

from __future__ import annotations

from typing import Any


class ListWriter:
    """Keeps events in memory: the stub of a journal writer for tests of pure recording."""

    role = "child"

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.drops: dict[str, int] = {}

    def append(self, kind: str, run: str | None, attempt: str | None, data: dict[str, Any]) -> bool:
        self.events.append((kind, data))
        return True

    def settle(self, timeout: float) -> bool:
        return True

    def drop(self, reason: str, count: int = 1) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + count

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [data for one, data in self.events if one == kind]

    def texts(self) -> list[str]:
        return [data["text"] for data in self.of("log.written")]
