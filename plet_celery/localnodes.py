"""Which workers run on this host, known without broker and store: for a probe that asks one of them.

A worker's main process leaves `<journal>/nodes/<pid>-<hash>` with its node name and who it is; a file whose
process is gone means nothing, and goes when the next worker starts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from plet_celery import presence

FOLDER: Final = "nodes"
_MAX: Final = 1000
_BYTES_MAX: Final = 4096


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A worker of this host and user."""

    name: str
    """Its node name: `celery@atlas`."""
    pool: str
    process: presence.Process


def announce(journal: Path, name: str, pool: str) -> None:
    """Say that this process is a worker's main process.

    Raises:
        OSError: it cannot be written.
    """
    folder = journal / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    for file, node in _files(journal):
        if node is None or presence.is_gone(node.process):
            with suppress(OSError):
                file.unlink()
    mine = presence.this_process()
    fresh = folder / f"{presence.place_name(mine)}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, msgspec.json.encode(Node(name=name, pool=pool, process=mine)))
    finally:
        os.close(descriptor)
    fresh.replace(folder / presence.place_name(mine))


def nodes(journal: Path) -> list[Node]:
    """Return the workers that live in our sight, by name; of what cannot be read nothing is known."""
    living = [
        node
        for _, node in _files(journal)
        if node is not None and presence.process_of(node.process.pid) == node.process
    ]
    return sorted(living, key=lambda one: one.name)


def _files(journal: Path) -> Iterator[tuple[Path, Node | None]]:
    try:
        files = sorted((journal / FOLDER).iterdir())[:_MAX]
    except OSError:
        return
    for file in files:
        try:
            yield file, msgspec.json.decode(file.read_bytes()[:_BYTES_MAX], type=Node)
        except (OSError, msgspec.MsgspecError):
            yield file, None
