"""A log sink on a fresh home; what it leaves behind is checked for private modes after every test."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from plet_celery.logfiles import LogFiles, LogLimits


class Home:
    """The folders of one host, and the sinks opened on them."""

    def __init__(self, path: Path) -> None:
        self.runs = path / "runs"
        self.journal = path / "journal"
        self.opened: list[LogFiles] = []

    def open(self, **limits: int) -> LogFiles:
        """Start a sink, as a new shipper would."""
        sink = LogFiles(self.runs, self.journal, limits=LogLimits(**limits))
        self.opened.append(sink)
        return sink

    def folder(self, run: str = "run-1") -> Path:
        """Return the run's folder."""
        name = self.opened[-1].folder(run)
        assert name is not None
        return self.runs / name

    def text(self, run: str = "run-1", name: str = "run.log") -> str:
        """Return a file of the run."""
        return (self.folder(run) / name).read_text()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """An empty home."""
    found = Home(tmp_path)
    yield found
    for sink in found.opened:
        sink.close()
    for path in [*tmp_path.glob("runs"), *tmp_path.glob("runs/**/*"), *tmp_path.glob("journal/**/*")]:
        if not path.is_symlink() and (path.is_file() or path.is_dir()):
            wanted = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == wanted, f"{path} is open to others"
