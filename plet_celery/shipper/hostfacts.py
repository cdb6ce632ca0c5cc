"""What a shipper tells of its host with every beat: room on the disk, what its readers met."""

from __future__ import annotations

import os
from typing import Any, Final

from plet_celery.events import safe_text
from plet_celery.shipper.config import ShipperConfig
from plet_celery.shipper.crew import Crew

_ERROR_MAX: Final = 200


def host_facts(config: ShipperConfig, crew: Crew, *, refused_segments: int) -> dict[str, Any]:
    """Return the facts of a beat beyond its name and backlog; counters that are zero are left out.

    Args:
        refused_segments: segments that the disk did not take at an fsync.
    """
    store, logs = crew.store.facts(), crew.logs.facts()
    found: dict[str, Any] = {
        "missing_segments": store.get("missing_segments"),
        "damaged_bytes": store.get("damaged_bytes"),
        "unsupported": store.get("unsupported"),
        "refused_segments": refused_segments,
        "log_failures": logs["failures"],
        "log_error": safe_text(str(logs["error"]).partition("\n")[0], _ERROR_MAX),
    }
    return _disk(config) | {name: value for name, value in found.items() if value}


def _disk(config: ShipperConfig) -> dict[str, int]:
    try:
        disk = os.statvfs(config.journal)
    except OSError:
        return {}
    limits = config.writer_limits()
    total = disk.f_blocks * disk.f_frsize
    return {
        "disk_free_bytes": disk.f_bavail * disk.f_frsize,
        "disk_total_bytes": total,
        "disk_floor_bytes": max(limits.min_free_bytes, int(total * limits.min_free_percent / 100)),
    }
