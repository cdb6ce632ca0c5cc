"""Which workers run on this host, known without broker and store: for a probe that asks one of them.

A worker's main process leaves `<journal>/nodes/<pid>` with its node name and who it is; a file whose process
is gone means nothing, and goes when the next worker starts.
"""

from __future__ import annotations

import os
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
    living = {one.process.pid for one in nodes(journal)}
    for file in folder.iterdir():
        if not file.name.isdecimal() or int(file.name) not in living:
            with suppress(OSError):
                file.unlink()
    fresh = folder / f"{os.getpid()}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        node = Node(name=name, pool=pool, process=presence.this_process())
        os.write(descriptor, msgspec.json.encode(node))
    finally:
        os.close(descriptor)
    fresh.replace(folder / str(os.getpid()))


def nodes(journal: Path) -> list[Node]:
    """Return the workers that live, by name; of what cannot be read nothing is known."""
    found: list[Node] = []
    try:
        files = sorted((journal / FOLDER).iterdir())[:_MAX]
    except OSError:
        return []
    for file in files:
        with suppress(OSError, msgspec.MsgspecError):
            node = msgspec.json.decode(file.read_bytes()[:_BYTES_MAX], type=Node)
            if presence.process_of(node.process.pid) == node.process:
                found.append(node)
    return sorted(found, key=lambda one: one.name)
