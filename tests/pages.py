"""The code blocks of a documentation page, for tests that run them."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
_BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[tuple[str, str]]:
    """Return (file name or nothing, text) of the blocks of a language, in their order."""
    text = (DOCS / page).read_text()
    return [(name, block) for found, name, block in _BLOCK.findall(text) if found == language]


def block(page: str, name: str) -> str:
    """Return the one Python block of this file name."""
    (text,) = [text for found, text in blocks(page, "python") if found == name]
    return text


def lines(page: str) -> list[str]:
    """Return what is typed in the page's console blocks."""
    typed = [line for _, text in blocks(page, "console") for line in text.splitlines()]
    return [line.removeprefix("$ ") for line in typed if line.startswith("$ ")]
