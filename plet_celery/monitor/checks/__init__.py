"""The questions that the monitor asks: each with a time-out, each answered, if only by silence.

| check | subject | asks |
|---|---|---|
| `store` | `schema`, `writing`, `size` | does it answer, how fast, can it be written, are its tables right |
| `broker` | | does it answer |
| `queue` | queue | how much waits for how long, does anybody consume it |
| `workers` | node name | does it answer, consume, and have room |
| `beat` | | when did it last tick |
| `results` | | does the result backend answer |
| `shipper` | host and journal | is it heard of, how far behind, what was lost |
| `stuck` | task | do its runs tell anything, else what are they doing |
| `disk`, `clock` | host and journal | is there room; is it right |
| `retention` | | is what has expired removed |
| `monitor` | | do passes come in time |
| `channel` | channel | does it take what it is sent |
"""

from __future__ import annotations

from plet_celery.monitor.checks.running import NAMES, UnknownCheck, cleaned, run_check, run_checks

__all__ = ["NAMES", "UnknownCheck", "cleaned", "run_check", "run_checks"]
