"""An independent pass over the standard library: what the census has to find."""

from __future__ import annotations

import functools
import shutil
import sysconfig
import tokenize
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_INSTALLED = {"site-packages", "dist-packages", "__pycache__"}


@functools.cache
def standard_library_files() -> frozenset[Path]:
    """All Python files of the interpreter itself."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = root.rglob("*.py")
    return frozenset(path for path in files if not _INSTALLED & set(path.relative_to(root).parts))


def some_sources(folder: Path, count: int) -> Path:
    """Copy a part of the standard library, `count` files with two that are no Python among them."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(standard_library_files())[: count - 2]:
        copy = folder / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    (folder / "python2.py").write_text("print 'long ago'\n")
    (folder / "nul.py").write_bytes(b"x = '\0'\n")
    return folder


@dataclass
class Counts:
    """What is in some files."""

    files: int = 0
    functions: int = 0
    classes: int = 0


def count_keywords(files: Collection[Path]) -> Counts:
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
