"""The shipper's own log file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys, logging
from pathlib import Path
from plet_celery.shipper.output import Output, set_up_logging
output = Output(Path(sys.argv[1]), max_bytes=2000)
output.open()
set_up_logging()
for number in range(200):
    logging.getLogger("x").info("line %d", number)
    print("printed", number, flush=True)
    output.rotate_if_large()
"""


def test_the_log_is_bounded_and_its_end_is_kept(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", SCRIPT, tmp_path], check=True)

    files = {path.name: path for path in tmp_path.iterdir()}
    assert set(files) == {"shipper.log", "shipper.log.1"}
    assert sum(path.stat().st_size for path in files.values()) < 2 * 2000 + 200
    assert "printed 199" in files["shipper.log"].read_text()
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files.values())


def test_the_log_is_never_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    os.symlink(tmp_path / "elsewhere", tmp_path / "shipper.log")  # noqa: PTH211

    found = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path], check=False, capture_output=True)

    assert found.returncode != 0
    assert (tmp_path / "elsewhere").stat().st_size == 0
