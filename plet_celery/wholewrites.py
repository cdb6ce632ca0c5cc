"""Writing all of it: a disk that fills takes a part of a write, and only the next one says why."""

from __future__ import annotations

import os


def write_whole(descriptor: int, data: bytes | bytearray | memoryview, offset: int = 0) -> None:
    """Write all of `data` at `offset`.

    Raises:
        OSError: the disk is full or broken; a part may be written.
    """
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
