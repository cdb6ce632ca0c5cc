"""A sink that is killed anywhere continues as if nothing had happened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROUNDS = Path(__file__).with_name("crash_rounds.py")


def crash(home: Path, seed: int, kills: int, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROUNDS), str(home), str(seed), str(kills), *options],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_call_no_byte_is_lost_or_doubled(tmp_path: Path, seed: int) -> None:
    found = crash(tmp_path, seed, 40)

    assert found["killed"] == 40
    assert found["wrong"] == []
    assert found["same"]


def test_without_the_undo_record_a_crash_shows(tmp_path: Path) -> None:
    """The comparison above can fail: this is what it sees when nothing is cut back."""
    found = crash(tmp_path, 1, 25, "--no-undo")

    assert found["wrong"] != []
