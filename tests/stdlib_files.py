"""An independent pass over the standard library: what the census has to find."""

from __future__ import annotations

import os
import sysconfig
import tokenize
import warnings
from dataclasses import dataclass
from pathlib import Path

_INSTALLED = ("site-packages", "dist-packages", "__pycache__")


def standard_library_files() -> list[Path]:
    """All Python files of the interpreter itself, in the order of their paths."""
    files: list[Path] = []
    for folder, folders, names in os.walk(sysconfig.get_paths()["stdlib"]):
        folders[:] = [name for name in folders if name not in _INSTALLED]
        files += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(files)


@dataclass
class Counts:
    """What is in some files."""

    files: int = 0
    functions: int = 0
    classes: int = 0


def count_keywords(files: list[Path]) -> Counts:
    """Count definitions by their keywords; a file that does not compile has none."""
    counts = Counts(files=len(files))
    for path in files:
        try:
            with warnings.catch_warnings(action="ignore"):
                compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError):
            continue
        with path.open("rb") as file:
            for token in tokenize.tokenize(file.readline):
                if token.type == tokenize.NAME:
                    counts.functions += token.string == "def"
                    counts.classes += token.string == "class"
    return counts
