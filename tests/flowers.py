"""A real Flower with our pages, as users start it: `celery -A shop flower`, and requests to it."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from stacks import environment
from waiting import wait_until

NO_ANSWER = "<p><strong>No answer.</strong>"
"""What a region says that has none."""


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    text: str


class _Direct(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object) -> None:
        """Follow nothing: a redirect is an answer, too."""
        return


_PATIENT = Path(__file__).with_name("patient_flower.py")
_ANSWER_SECONDS = 120

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Direct)


class RunningFlower:
    """One that listens; `base` ends in a slash and holds its prefix."""

    def __init__(self, base: str, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.base = base
        self.log = log
        self.process = process

    def get(
        self,
        path: str = "plet/",
        *,
        user: str | None = None,
        method: str = "GET",
        body: bytes | None = None,
        **headers: str,
    ) -> Answer:
        """Ask for a path below the prefix; `user` is `name:password`; a header's `_` is a `-`."""
        request = urllib.request.Request(self.base + path, method=method, data=body)
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        if user is not None:
            request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
        try:
            with _opener.open(request, timeout=_ANSWER_SECONDS) as answer:
                return _answer(answer)
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error)


@contextmanager
def running_flower(
    folder: Path, *options: str, app: str = "shop", patient: bool = True, **environ: str
) -> Iterator[RunningFlower]:
    """Start Flower for the app of a folder on a free port of this machine; end it then.

    Args:
        options: as on the command line; `--address=127.0.0.1` unless another one is given.
        patient: its pages wait longer for their answers than they do for users.
    """
    log = folder / "flower.log"
    where = [] if any(one.startswith("--address") for one in options) else ["--address=127.0.0.1"]
    celery = [str(_PATIENT)] if patient else ["-m", "celery"]
    command = [sys.executable, "-P", *celery, "-A", app, "flower", "--port=0", *where, *options]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(PYTHONUNBUFFERED="1", **environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        base = wait_until(lambda: _address(log, process), 60, what=lambda: log.read_text()[-3000:])
        yield RunningFlower(str(base), log, process)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(log: Path, process: subprocess.Popen[bytes]) -> str | None:
    text = log.read_text()
    assert process.poll() is None, text[-3000:]
    found = re.search(r"Visit me at (https?://)[^:/]*:(\d+)(\S*)", text)
    return f"{found[1]}127.0.0.1:{found[2]}{found[3].rstrip('/')}/" if found else None


def _answer(found: Any) -> Answer:
    headers = {name.lower(): value for name, value in found.headers.items()}
    return Answer(found.status or 0, headers, found.read().decode("utf-8", "replace"))
