"""A log-bucket histogram of durations: each bin is `GAMMA` times wider than the one before.

A value is known to 2 %. Bins of many hosts, tasks and hours are merged by adding counts, which SQL can do.

Source: DDSketch (Masson, Rim, Lee 2019), its logarithmic mapping.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

ERROR: Final = 0.02
GAMMA: Final = (1 + ERROR) / (1 - ERROR)
SMALLEST: Final = 1e-6
"""Seconds; what is shorter falls into the bin of zero."""
_LOG: Final = math.log(GAMMA)
ZERO_BIN: Final = math.ceil(math.log(SMALLEST) / _LOG) - 1


def bin_of(seconds: float) -> int:
    """Return the bin of a duration."""
    return math.ceil(math.log(seconds) / _LOG) if seconds > SMALLEST else ZERO_BIN


def value_of(bin_number: int) -> float:
    """Return the duration that a bin stands for: within 2 % of each value in it."""
    return 2 * GAMMA**bin_number / (GAMMA + 1) if bin_number > ZERO_BIN else 0.0


def quantile(bins: Mapping[int, int], q: float) -> float | None:
    """Return the value below which a share `q` (0..1) of all lies, or None without any."""
    total = sum(bins.values())
    if total <= 0:
        return None
    rank = q * (total - 1)
    seen = 0
    for bin_number in sorted(bins):
        seen += bins[bin_number]
        if seen > rank:
            return value_of(bin_number)
    return value_of(max(bins))
