"""Nothing stands in the README that is not run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flowers import running_flower
from stacks import environment, processes_of

from plet_celery.settings import Settings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    """(file name or nothing, text) of the code blocks of a language, in their order."""
    return [(name, text) for found, name, text in BLOCK.findall(README) if found == language]


@dataclass(frozen=True)
class Reader:
    """Somebody who does what the README says, in a folder of their own."""

    folder: Path
    outputs: dict[str, subprocess.CompletedProcess[str]]

    def python(self, code: str) -> str:
        done = run([sys.executable, "-c", code], self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout


def run(argv: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        argv, cwd=folder, env=environment(PATH=path), capture_output=True, text=True, timeout=120, check=False
    )


def serves(line: str) -> bool:
    """It goes on until somebody ends it."""
    return " flower " in line


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Writes the Python files, then types every command line."""
    folder = tmp_path_factory.mktemp("readme")
    for name, text in blocks("python"):
        (folder / name).write_text(text)
    lines = [line.removeprefix("$ ") for _, text in blocks("console") for line in text.splitlines()]
    yield Reader(folder, {line: run(["bash", "-c", line], folder) for line in lines if not serves(line)})
    assert processes_of(folder) == []


def test_the_first_lines_say_what_show_how_and_let_try() -> None:
    lines = README.splitlines()

    assert lines[0].startswith("See what your Celery tasks are doing")
    assert "self.metadata" in "\n".join(lines[:15])
    above = "\n".join(lines[:30])
    assert "docs/pictures/run-light.png" in above
    assert "`make demo`" in above
    assert "`make test`" in above


def test_every_command_line_works(reader: Reader) -> None:
    assert len(reader.outputs) >= 6

    for line, done in reader.outputs.items():
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


def test_the_commands_show_what_the_task_did(reader: Reader) -> None:
    said = {line.split(" plet ")[1].split()[0]: done.stdout for line, done in reader.outputs.items()}

    assert "succeeded" in said["up"]
    assert "shop.import_catalogue" in said["runs"]
    assert "rows" in said["show"]
    assert "loaded" in said["logs"]
    assert "succeeded" in said["watch"]
    assert "plet_home" in said["config"]


def test_flower_shows_what_the_task_did(reader: Reader) -> None:
    (line,) = [line for _, text in blocks("console") for line in text.splitlines() if serves(line)]
    _, _, app, _, *options = line.partition("#")[0].removeprefix("$ ").split()

    with running_flower(reader.folder, *options, app=app) as flower:
        page = flower.get()

    assert "shop.import_catalogue" in page.text
    assert "succeeded" in page.text


def test_a_program_reads_the_run(reader: Reader) -> None:
    runs = run(["celery", "-A", "shop", "plet", "runs", "--json"], reader.folder)
    run_id = json.loads(runs.stdout.splitlines()[-1])["id"]

    found = reader.python(f"import look; look.tell({run_id!r})")

    assert "100.0 ['read', 'load']" in found
    assert "{'rows': " in found


def test_the_free_functions_work_below_a_task_and_outside(reader: Reader) -> None:
    found = reader.python(
        "from shop import app, plet\n"
        "import parts\n"
        "from plet_celery import TrackedResult\n"
        "parts.load([1, 2])\n"
        "app.conf.task_always_eager = True\n"
        "@app.task(name='shop.eager')\n"
        "def eager(): parts.load([1, 2, 3])\n"
        "run_id = eager.delay().id\n"
        "assert plet.flush(30)\n"
        "result = TrackedResult(run_id, app=app)\n"
        "print([(stage.name, stage.state, stage.current) for stage in result.stages])\n"
        "print([line.text for line in result.logs(tail=9)])\n"
    )

    assert "[('check', 'succeeded', 3.0), ('store', 'succeeded', 3.0)]" in found.replace(" 3)", " 3.0)")
    assert "stored" in found


def test_the_commands_without_make_are_those_of_make() -> None:
    makefile = (ROOT / "Makefile").read_text()
    prepare, install = blocks("sh")[0][1].splitlines()

    assert "celery -A example_project plet up --call example_project.census" in makefile
    assert "celery -A example_project plet up --call example_project.census" in README
    assert prepare == "python3 -m venv .venv"
    named = set(install.split("[")[1].split("]")[0].split(","))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert named <= extras.keys()


def test_the_settings_table_gives_names_and_defaults_that_are_real() -> None:
    rows = re.findall(r"^\| (`plet_.*?) \| (.*?) \|", README, re.MULTILINE)
    assert len(rows) >= 6

    for names, defaults in rows:
        fields = [name.removeprefix("plet_") for name in re.findall(r"`(\w+)`", names)]
        values = [Settings.model_fields[field].default for field in fields]
        if any(value is not None for value in values):
            shown = ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)
            assert defaults.replace("`", "").replace('"', "'") == shown


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r"`(docs/\S+|docker-compose.yml)`", README)

    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_documentation_names_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    links = re.findall(r"\]\(([^)#]+)\)", index)

    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"} <= set(links)


def test_the_picture_needs_no_other_host() -> None:
    picture = (ROOT / "docs" / "pictures" / "census.svg").read_text()
    hosts = set(re.findall(r"https?://[^\s\"']+", picture))

    assert hosts == {"http://www.w3.org/2000/svg"}
    assert "@font-face" not in picture
    assert {target[0] for target in re.findall(r"url\(([^)]*)\)", picture)} == {"#"}


def test_every_picture_is_there_and_used_and_made_by_a_script() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    named = {
        Path(name).name
        for page in pages
        for name in re.findall(r"pictures/([\w-]+\.(?:png|svg))", page.read_text())
    }
    there = {file.name for file in (ROOT / "docs" / "pictures").iterdir() if file.suffix in (".png", ".svg")}
    made = {f"{picture.name}.png" for picture in pictures_script().pictures()}

    assert named == there
    assert {name for name in there if name.endswith(".png")} == made


def pictures_script() -> Any:
    """The script that takes the pictures of the pages."""
    spec = importlib.util.spec_from_file_location(
        "pictures_of_pages", ROOT / "docs" / "pictures" / "pages.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
