"""A canary in each secret setting is found nowhere: files, outputs, command lines, environments."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from waiting import wait_until

MakeLive = Callable[[], Any]
SECRETS = {
    "PLET_DATABASE_URL": "postgresql+psycopg://bob:canary-password@127.0.0.1:1/nowhere?sslpassword=canary-query",
    "PLET_REDACT_VALUES_SECRET": '["canary-registered"]',
}


def shippers(journal: Path) -> list[Path]:
    """The /proc folders of shippers of this journal."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if "plet_celery.shipper" in (process / "cmdline").read_text() and str(journal) in str(
                (process / "fd" / "1").readlink()
            ):
                found.append(process)
        except OSError:
            continue
    return found


def test_secret_settings_are_found_nowhere(make_live: MakeLive) -> None:
    live = make_live()
    live.env.update(SECRETS, PLET_DRAIN_TIMEOUT="1")
    worker = live.worker("-c", "1", "-l", "debug")
    app = live.app()
    journal = app.plet.journal
    app.say.delay("here is canary-registered in the open", key="canary-registered").get(timeout=20)
    serving = wait_until(lambda: shippers(journal), 20)
    wait_until(lambda: "postgresql" in (journal / "shipper.log").read_text(), 20)

    told = [(serving[0] / name).read_bytes() for name in ("cmdline", "environ")]
    for command in (["plet", "config"], ["plet", "config", "--json"], ["report"], ["plet", "runs"]):
        done = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "liveapp", *command],
            env=live.env,
            cwd=live.folder,
            capture_output=True,
            timeout=60,
        )
        told += [done.stdout, done.stderr]
    live.stop(worker)
    # What the task itself logs is on the worker's own output, as it would be without plet.
    told += [line for line in live.output().splitlines() if b"here is canary-registered" not in line]
    told += live.written()

    assert not any(b"canary" in one for one in told), [one[:200] for one in told if b"canary" in one]
    assert b"here is *** in the open" in b"".join(told)
    assert json.loads(SECRETS["PLET_REDACT_VALUES_SECRET"]) == ["canary-registered"]
