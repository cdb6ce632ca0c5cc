"""What an ingest keeps, as plain numbers: the store's part of the settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from plet_celery.settings import Settings
from plet_celery.store.settle import DAY, Retention


@dataclass(frozen=True)
class IngestLimits:
    """Caps of one ingest; see the table of limits in the docs of each setting."""

    log_head_bytes: int = 64 << 10
    log_tail_bytes: int = 192 << 10
    run_max_events: int = 1000
    measure_max_points: int = 1000
    rollup_tenants_max: int = 200
    retention: Retention = field(default_factory=Retention)

    @classmethod
    def of(cls, settings: Settings) -> IngestLimits:
        """Return the limits that the settings give."""
        return cls(
            log_head_bytes=settings.store_log_head_bytes,
            log_tail_bytes=settings.store_log_tail_bytes,
            run_max_events=settings.run_max_events,
            measure_max_points=settings.measure_max_points,
            rollup_tenants_max=settings.rollup_tenants_max,
            retention=Retention(
                succeeded=settings.retention_days * DAY, others=settings.retention_failed_days * DAY
            ),
        )
