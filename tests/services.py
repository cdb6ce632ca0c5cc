"""What a test needs from outside, and what happens when it is not there."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(service: str, install: str) -> NoReturn:
    """Skip the test and say how to install `service`; fail where `PLET_TEST_REQUIRE` demands it.

    `PLET_TEST_REQUIRE` is `all` or a comma-separated list of services (`valkey,postgres`).
    """
    required = os.environ.get("PLET_TEST_REQUIRE", "").split(",")
    reason = f"{service} is missing: {install}"
    if "all" in required or service in required:
        pytest.fail(f"{reason} (required by PLET_TEST_REQUIRE)", pytrace=False)
    pytest.skip(reason)
