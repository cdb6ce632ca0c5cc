"""Reading Python sources: which files there are, and which symbols a file defines. Knows no Celery."""

from __future__ import annotations

import ast
import hashlib
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NOT_THE_STANDARD_LIBRARY = {"site-packages", "dist-packages", "__pycache__"}

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Symbol:
    """A function or class."""

    name: str
    """Qualified within its file: `Celery.send_task`."""
    kind: str
    line: int
    lines: int
    documented: bool


def standard_library() -> Path:
    """Return the folder of the running interpreter's own sources."""
    return Path(sysconfig.get_paths()["stdlib"])


def find_sources(root: Path) -> Iterator[Path]:
    """Yield the Python files under `root` in a stable order, without installed packages."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - _NOT_THE_STANDARD_LIBRARY)
        for name in sorted(names):
            if name.endswith(".py"):
                yield Path(folder, name)


def digest(path: Path) -> str:
    """Return 64 hex digits that change with the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_symbols(path: Path) -> list[Symbol]:
    """Return every function and class that the file defines, nested ones too, in no particular order.

    Raises:
        SyntaxError: it is not Python of this interpreter's version.
        ValueError: it holds a NUL byte.
        RecursionError: it is nested deeper than the parser goes.
    """
    tree = ast.parse(path.read_bytes(), str(path))
    symbols = []
    inside: list[tuple[ast.AST, str]] = [(tree, "")]
    while inside:
        node, prefix = inside.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _Definition):
                symbols.append(_symbol(child, prefix))
                inside.append((child, f"{prefix}{child.name}."))
            else:
                inside.append((child, prefix))
    return symbols


def _symbol(node: _Definition, prefix: str) -> Symbol:
    return Symbol(
        name=prefix + node.name,
        kind="class" if isinstance(node, ast.ClassDef) else "function",
        line=node.lineno,
        lines=(node.end_lineno or node.lineno) - node.lineno + 1,
        documented=ast.get_docstring(node, clean=False) is not None,
    )
