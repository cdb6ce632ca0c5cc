"""How much the log files of one run may hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LogLimits:
    """The bounds of one attempt's files; the defaults are those of the settings."""

    run_max_log_bytes: int = 64 << 20
    """Log text per attempt; the first half and the newest lines are kept."""
    stage_max_files: int = 100
    """Stage log files per attempt."""
