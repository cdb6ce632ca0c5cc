"""What is loaded by whom: a task process never carries the reading side."""

from __future__ import annotations

import subprocess
import sys

import pytest

READING = ("sqlalchemy", "tornado", "flower", "alembic", "pydantic_settings", "rich", "psutil")


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=240
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "from plet_celery import TrackedTask",
        "from plet_celery import Plet, current_run, stage, track",
        "from celery import Celery\nfrom plet_celery import Plet\nPlet(Celery('x'))",
    ],
)
def test_recording_names_load_no_reading_library(code: str) -> None:
    plain = loaded_by("import celery.app.task, celery.worker.request, celery.bootsteps")

    ours = loaded_by(code) - plain

    assert not {name.partition(".")[0] for name in ours} & set(READING)


def test_the_package_itself_loads_nothing() -> None:
    ours = {name for name in loaded_by("import plet_celery") if name.startswith("plet_celery")}

    assert ours == {"plet_celery"}


def test_public_names_are_what_they_say() -> None:
    import plet_celery

    for name in plet_celery.__all__:
        assert getattr(plet_celery, name) is not None
    assert type(plet_celery.stage).__name__ == type(plet_celery.track).__name__ == "function"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        plet_celery.nothing  # noqa: B018
