"""A WSGI app that publishes at its import (before the fork, with --preload) and in every request."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from calling import add

FIRST = add.delay(0, 0).id


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    run_id = add.apply_async((1, 2), headers={"plet_trigger": "api", "plet_user": "bob"}).id
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"first": FIRST, "run": run_id, "pid": os.getpid()}).encode()]
