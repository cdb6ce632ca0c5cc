"""A disk that fills within a write: it takes the first half, and the next write is told."""

from __future__ import annotations

import errno
import os

import pytest


def fill_within_a_write(patch: pytest.MonkeyPatch) -> None:
    """Have every file take half of what is written at its beginning, and no more."""
    really = os.pwrite

    def filling(descriptor: int, content: bytes, offset: int) -> int:
        if offset:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(descriptor, content[: len(content) // 2], offset)

    patch.setattr(os, "pwrite", filling)
