"""Reading sources and searching the index, without Celery."""

from __future__ import annotations

from pathlib import Path

import pytest
from stdlib_files import standard_library_files

from example_project import index
from example_project.sources import Symbol, digest, find_sources, read_symbols, standard_library

SOURCE = '''
class Shelf:
    """Holds books."""

    async def add(self, book):
        def check():
            pass
        if book:
            class Local: ...

def empty(): "documented"
'''


def test_symbols_are_functions_and_classes_at_any_depth(tmp_path: Path) -> None:
    path = tmp_path / "shelf.py"
    path.write_text(SOURCE)

    found = {symbol.name: symbol for symbol in read_symbols(path)}

    assert set(found) == {"Shelf", "Shelf.add", "Shelf.add.check", "Shelf.add.Local", "empty"}
    assert found["Shelf"] == Symbol("Shelf", "class", line=2, lines=8, documented=True)
    assert found["Shelf.add"] == Symbol("Shelf.add", "function", line=5, lines=5, documented=False)
    assert found["empty"].documented


@pytest.mark.parametrize("source", [b"def broken(:\n", b"x = '\0'\n", b"(" * 5000 + b")" * 5000])
def test_what_is_no_python_raises_what_the_parse_task_expects(tmp_path: Path, source: bytes) -> None:
    path = tmp_path / "poison.py"
    path.write_bytes(source)

    with pytest.raises((SyntaxError, ValueError, RecursionError)):
        read_symbols(path)


def test_all_files_of_the_standard_library_are_found_and_no_other() -> None:
    found = list(find_sources(standard_library()))

    assert set(found) == standard_library_files()
    assert len(found) == len(set(found)) > 500
    assert found == list(find_sources(standard_library()))


def test_a_digest_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("a = 1\n")
    before = digest(path)

    path.write_text("a = 2\n")

    assert digest(path) != before
    assert len(before) == 64


def test_an_index_finds_symbols_by_words_and_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    with index.new_index(path) as connection:
        index.add(connection, [("lib/net.py", "Server.listen", "function", 3, 40, 1)])
        index.add(connection, [("lib/net.py", "Server", "class", 1, 90, 0)])
        index.add(connection, [("lib/a.py", "f", "function", 1, 2, 0)])
        index.build_words(connection)
        index.optimise(connection)

    assert index.search(path, "listen server") == [("lib/net.py", 3, "Server.listen")]
    assert index.search(path, 'no "such thing') == []
    assert index.totals(path) == {"symbols": 3, "functions": 2, "classes": 1, "documented": 1}
    assert index.tops(path)["Longest functions"][0] == ("Server.listen", "lib/net.py", 40)
    assert index.tops(path)["Files with most symbols"] == [("lib/net.py", 2, 1), ("lib/a.py", 1, 0)]
