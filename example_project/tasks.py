"""The tasks of the census.

    census ─► scan ─► parse × n ─► merge ─► compile_check ─► report
                └──► poison, a child that fails by design

`census` hands its own id on to the chain, so whoever called it gets the report.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from celery import chain, chord

from example_project import index
from example_project.celery import app, plet
from example_project.sources import digest, find_sources, read_symbols, standard_library
from plet_celery import TrackedTask

_UNPARSABLE = (SyntaxError, ValueError, RecursionError)
_LEFT_BEHIND = 3600.0  # seconds after which the work folder of a census that never ended goes
_COMPILED_FILES = 400  # compiling all takes as long as the rest of the census


def census_folder() -> Path:
    """Return where the newest index and report are: `<plet_home>/census/`."""
    return plet.home / "census"


@app.task(base=TrackedTask, bind=True, name="example_project.census")
def census(
    self: TrackedTask, root: str | None = None, limit: int | None = None, batch_size: int = 60
) -> None:
    """Count and index the functions and classes of the standard library.

    Args:
        root: another folder of Python sources.
        limit: read this many files at most.
        batch_size: files per `parse` task.
    """
    work = census_folder() / "work" / str(self.request.id)
    _remove_left_behind(work.parent)
    work.mkdir(parents=True, exist_ok=True)
    self.metadata["python"] = platform.python_version()
    steps = chain(
        scan.s(root or str(standard_library()), str(work), limit, batch_size),
        compile_check.s(str(work)),
        report.s(str(work)),
    )
    self.replace(steps)


@app.task(base=TrackedTask, bind=True, name="example_project.scan", stages={"walk": 1, "hash": 4})
def scan(self: TrackedTask, root: str, work: str, limit: int | None, batch_size: int) -> None:
    """List and hash the sources, and continue as one `parse` per batch with `merge` behind."""
    with self.stage("walk", unit="files") as walk:
        paths = []
        for found in find_sources(Path(root)):
            paths.append(str(found))
            walk.advance()
            if len(paths) == limit:
                break
    total = sha256()
    for path in self.track(paths, "hash", unit="files"):
        total.update(digest(Path(path)).encode())
    self.metadata["root_hash"] = total.hexdigest()[:12]

    # Not in the work folder, which is gone when a busy worker comes to it late.
    poisoned = census_folder() / "poison.py"
    poisoned.write_text("# Planted by the census.\n\ndef broken(:\n    pass\n")
    # Outside the chord: a failing member would fail what comes after it.
    poison.delay(str(poisoned))

    Path(work, "sources.json").write_text(json.dumps(paths))
    batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)] or [[]]
    self.log("info", "sources found", files=len(paths), batches=len(batches), root=root)
    header = [parse.s(batch, work, number, flaky=number == 0) for number, batch in enumerate(batches)]
    self.replace(chord(header, merge.s(work)))


@app.task(
    base=TrackedTask,
    bind=True,
    name="example_project.parse",
    autoretry_for=(ConnectionError,),
    retry_backoff=1,
    retry_jitter=False,
    max_retries=3,
)
def parse(self: TrackedTask, paths: list[str], work: str, number: int, flaky: bool = False) -> dict[str, Any]:
    """Read the symbols of one batch; a flaky one loses its connection half-way, the first time."""
    rows: list[index.Row] = []
    unparsable = []
    started = time.perf_counter()
    for done, path in enumerate(self.track(paths, "parse", unit="files")):
        if flaky and self.request.retries == 0 and done == len(paths) // 2:
            raise ConnectionError(f"simulated: lost the file server at {path}")
        try:
            symbols = read_symbols(Path(path))
        except _UNPARSABLE as error:
            unparsable.append(path)
            self.log("warning", f"not parsable: {error}", path=path)
            continue
        rows.extend((path, s.name, s.kind, s.line, s.lines, s.documented) for s in symbols)
    self.measure(files_per_second=len(paths) / max(1e-6, time.perf_counter() - started))
    Path(work, f"batch-{number}.json").write_text(json.dumps(rows))
    return {"number": number, "files": len(paths), "symbols": len(rows), "unparsable": unparsable}


@app.task(base=TrackedTask, bind=True, name="example_project.poison")
def poison(self: TrackedTask, path: str) -> None:
    """Parse the planted file, and fail as planned: this is what a failed run looks like."""
    self.metadata["expected"] = "this file is planted: the example shows what a failure looks like"
    with self.stage("parse", total=1, unit="files") as stage:
        read_symbols(Path(path))
        stage.advance()


@app.task(base=TrackedTask, bind=True, name="example_project.merge")
def merge(self: TrackedTask, batches: list[dict[str, Any]], work: str) -> dict[str, Any]:
    """Write the rows of all batches into one full-text index."""
    with self.stage("merge"), index.new_index(Path(work, "index.db")) as connection:
        for batch in self.track(batches, "load", unit="batches"):
            index.add(connection, json.loads(Path(work, f"batch-{batch['number']}.json").read_text()))
        with self.stage("build", total=2) as build:
            index.build_words(connection)
            build.advance()
            index.optimise(connection)
            build.advance()
    unparsable = sorted(path for batch in batches for path in batch["unparsable"])
    return {"files": sum(batch["files"] for batch in batches), "unparsable": unparsable}


@app.task(base=TrackedTask, bind=True, name="example_project.compile_check")
def compile_check(self: TrackedTask, found: dict[str, Any], work: str) -> dict[str, Any]:
    """Let another process compile a part of the sources; it has to stumble over the planted file."""
    poisoned = str(census_folder() / "poison.py")
    files = [*json.loads(Path(work, "sources.json").read_text())[: _COMPILED_FILES - 1], poisoned]
    errors = []
    with (
        self.stage("compile", total=len(files), unit="files") as stage,
        _compiler(files, Path(work)) as compiler,
    ):
        assert compiler.stdout is not None
        for line in compiler.stdout:
            if line.startswith("Compiling "):
                stage.advance()
            elif line.startswith("*** "):
                errors.append(line)
                print(line.rstrip())
    self.metadata["compiler_exit"] = compiler.returncode
    if not any(poisoned in line for line in errors):
        raise RuntimeError(f"compileall ended with {compiler.returncode} and did not notice {poisoned}")
    return {**found, "compiled": len(files), "compile_errors": len(errors)}


@app.task(base=TrackedTask, bind=True, name="example_project.report", stages=("count", "write"))
def report(self: TrackedTask, found: dict[str, Any], work: str) -> dict[str, Any]:
    """Write the tables, publish the index, and return the totals."""
    with self.stage("count"):
        totals = {"files": found["files"], **index.totals(Path(work, "index.db"))}
        tables = index.tops(Path(work, "index.db"))
    with self.stage("write") as stage:
        Path(work, "report.json").write_text(json.dumps({"totals": totals, "tables": tables}, indent=1))
        Path(work, "report.md").write_text(_markdown(totals, tables))
        for name in ("index.db", "report.json", "report.md"):
            Path(work, name).replace(census_folder() / name)
        stage.result = {"report": str(census_folder() / "report.md")}
    shutil.rmtree(work)
    self.metadata["symbols"] = totals["symbols"]
    return {**totals, "unparsable": len(found["unparsable"]), "compile_errors": found["compile_errors"]}


@app.task(base=TrackedTask, bind=True, name="example_project.freshness")
def freshness(self: TrackedTask) -> float | None:
    """Record how old the index is, in seconds; beat asks every 15 s."""
    try:
        age = time.time() - (census_folder() / "index.db").stat().st_mtime
    except FileNotFoundError:
        return None
    self.measure(index_age=age)
    return age


def _compiler(files: list[str], work: Path) -> subprocess.Popen[str]:
    listed = work / "compile.txt"
    listed.write_text("\n".join(files))
    # Away from the sources: they may be read-only, and are not ours to write beside.
    environ = {**os.environ, "PYTHONPYCACHEPREFIX": str(work / "pyc")}
    command = [sys.executable, "-W", "ignore", "-m", "compileall", "-f", "-i", str(listed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ)


def _markdown(totals: dict[str, int], tables: dict[str, list[tuple[object, ...]]]) -> str:
    lines = ["# Census of the standard library", ""]
    lines += [f"* {name}: {count}" for name, count in totals.items()]
    for title, rows in tables.items():
        lines += ["", f"## {title}", "", *("| " + " | ".join(map(str, row)) + " |" for row in rows)]
    return "\n".join(lines) + "\n"


def _remove_left_behind(folder: Path) -> None:
    for work in folder.glob("*"):
        if work.stat().st_mtime < time.time() - _LEFT_BEHIND:
            shutil.rmtree(work, ignore_errors=True)
