"""The full-text index of the census, an SQLite file. Knows no Celery."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

_SCHEMA = """
CREATE TABLE symbol (path TEXT, name TEXT, kind TEXT, line INTEGER, lines INTEGER, documented INTEGER);
CREATE VIRTUAL TABLE words USING fts5 (name, path, content='symbol');
"""

Row = Sequence[object]
"""path, name, kind, line, lines, documented"""


@contextmanager
def new_index(path: Path) -> Iterator[sqlite3.Connection]:
    """Make an empty index and commit it when the block ends well."""
    with closing(sqlite3.connect(path)) as index:
        index.executescript(_SCHEMA)
        yield index
        index.commit()


def add(index: sqlite3.Connection, rows: Iterable[Row]) -> None:
    index.executemany("INSERT INTO symbol VALUES (?, ?, ?, ?, ?, ?)", rows)


def build_words(index: sqlite3.Connection) -> None:
    """Index the words of all names and paths."""
    index.execute("INSERT INTO words(words) VALUES ('rebuild')")


def optimise(index: sqlite3.Connection) -> None:
    index.execute("INSERT INTO words(words) VALUES ('optimize')")


def search(path: Path, words: str, limit: int = 20) -> list[tuple[str, int, str]]:
    """Return (path, line, name) of the symbols whose name or path holds all `words`, best first."""
    query = " ".join(f'"{word}"' for word in words.replace('"', " ").split())
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as index:
        return index.execute(
            "SELECT s.path, s.line, s.name FROM words JOIN symbol s ON s.rowid = words.rowid"
            " WHERE words MATCH ? ORDER BY rank LIMIT ?",
            (query, limit),
        ).fetchall()


def totals(path: Path) -> dict[str, int]:
    """Return how many symbols there are of each kind, and how many are documented."""
    with closing(sqlite3.connect(path)) as index:
        kinds = dict(index.execute("SELECT kind, count(*) FROM symbol GROUP BY kind"))
        documented = index.execute("SELECT coalesce(sum(documented), 0) FROM symbol").fetchone()[0]
    functions, classes = kinds.get("function", 0), kinds.get("class", 0)
    return {
        "symbols": functions + classes,
        "functions": functions,
        "classes": classes,
        "documented": documented,
    }


def tops(path: Path, limit: int = 20) -> dict[str, list[tuple[object, ...]]]:
    """Return the tables of the report: title → rows, largest first."""
    queries = {
        "Longest functions": "SELECT name, path, lines FROM symbol WHERE kind = 'function'"
        " ORDER BY lines DESC, path, name LIMIT ?",
        "Files with most symbols": "SELECT path, count(*) AS n, sum(documented) FROM symbol"
        " GROUP BY path ORDER BY n DESC, path LIMIT ?",
    }
    with closing(sqlite3.connect(path)) as index:
        return {title: index.execute(query, (limit,)).fetchall() for title, query in queries.items()}
