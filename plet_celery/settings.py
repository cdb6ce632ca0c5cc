"""Every option of plet_celery: name, type, default, unit. Durations are seconds.

Where a value comes from is the subject of `settings_sources.py`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, SecretStr

from plet_celery.settings_channels import ChannelSettings
from plet_celery.settings_watch import WatchSettings

PREFIX = "plet_"

MIB = 1 << 20


def _checked_url(secret: SecretStr) -> SecretStr:
    """Refuse what is no URL, so that a worker does not start with it; the store knows the rest."""
    url = secret.get_secret_value()
    if not re.match("[a-z][a-z0-9+]*://", url):
        raise ValueError("it is no database URL; write it as postgresql+psycopg://user@host:5432/plet")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        # What stands where the port should be may be a part of the password.
        raise ValueError("its port is no number; quote @ : / in user and password as %40 %3A %2F") from None
    if parts.netloc.count("@") > 1:
        raise ValueError("it has an @ too many; quote one in user or password as %40")
    return secret


class AllTenants(Enum):
    """The type of `ALL_TENANTS`: no text, so that no tenant's name is it."""

    ALL = "every tenant"


ALL_TENANTS: Final = AllTenants.ALL
"""What a project's `plet_tenants_for` returns for somebody who may see every tenant."""


Rule = Callable[[str | None], Any]
_ASIDE: Final = frozenset({"insecure_open", "rights_for", "tenants_for", "objectives"})
"""What a shipper need not step down for: only the pages ask for it (and a function is no JSON), or it is
handed over by itself."""


class Settings(WatchSettings):
    """The options; a field `x` is `plet_x` in Celery's conf and `PLET_X` in the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    # What is recorded
    enabled: bool = Field(default=True, description="Record at all. PLET_ENABLED=0 wins over Celery's conf.")
    record_tasks: tuple[str, ...] = Field(
        default=("*",), description="Name patterns of the tasks whose runs are recorded."
    )
    ignore_tasks: tuple[str, ...] = Field(
        default=("celery.*",),
        description="Name patterns of tasks that are not recorded; wins over plet_record_tasks.",
    )
    capture_logging: bool = Field(
        default=True, description="Record `logging` of a run (root and celery.task loggers)."
    )
    capture_print: bool = Field(default=True, description="Record what a run prints, one record a line.")
    capture_warnings: bool = Field(default=True, description="Record Python warnings of a run.")
    follow_threads: bool = Field(
        default=True,
        description="Threads and ThreadPoolExecutor jobs that a task starts belong to its run.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        default="INFO",
        description="Lowest level of captured `logging` records (the worker's own -l still filters first).",
    )
    arguments: bool = Field(
        default=True, description="Record redacted, capped previews of arguments and results."
    )
    sample: dict[Annotated[str, Field(min_length=1)], Annotated[float, Field(ge=0, le=1)]] = Field(
        default={},
        description="Share of runs that is recorded, by name pattern (the first that fits); others: all.",
    )
    sample_keep_after: float = Field(
        default=10.0, ge=0, description="Seconds after which a run is recorded whatever plet_sample says."
    )
    redact_names: tuple[str, ...] = Field(
        default=(),
        description="Further name parts whose values are never recorded (password, token, … are built in).",
    )
    redact_values_secret: tuple[Annotated[SecretStr, Field(min_length=6)], ...] = Field(
        default=(),
        description="Values that are replaced by *** wherever they appear; at least 6 characters each.",
    )
    tenants_allowed: tuple[str, ...] = Field(
        default=(),
        description="Tenant paths that this worker may record; others are recorded under ''. Empty: all.",
    )

    # Where things live
    home: str | None = Field(
        default=None, description="Folder of journal, run logs and SQLite; default .plet beside the app."
    )
    database_url: Annotated[SecretStr, AfterValidator(_checked_url)] | None = Field(
        default=None, description="SQLAlchemy URL of the store; default SQLite in plet_home."
    )

    # Journal (the task's side)
    segment_max_bytes: int = Field(
        default=8 * MIB, ge=64 << 10, le=1 << 30, description="A journal file rotates at this size."
    )
    journal_max_bytes: int = Field(
        default=1 << 30, ge=MIB, description="Journal size at which recording sheds by kind."
    )
    journal_keep: float = Field(
        default=3600.0, ge=0, description="Seconds a shipped segment is kept for replay."
    )
    min_free_bytes: int = Field(
        default=1 << 30, ge=0, description="Free disk space below which recording sheds by kind."
    )
    min_free_percent: float = Field(
        default=5.0, ge=0, le=90, description="The same as a share; the larger one holds."
    )
    durability: Literal["none", "terminal"] = Field(
        default="none", description="terminal: the task process syncs its end event to disk."
    )
    log_rate: float = Field(default=5000.0, gt=0, description="Log lines a run may write per second.")
    log_burst: int = Field(
        default=20_000, ge=1, description="Log lines a run may write at once above plet_log_rate."
    )
    progress_rate: float = Field(
        default=10.0, gt=0, le=1000, description="Progress events per second and stage."
    )
    meta_rate: float = Field(
        default=1.0, gt=0, le=100, description="Result meta updates per second, after the first second."
    )

    # Bounds per run
    run_max_log_bytes: int = Field(
        default=64 * MIB, ge=64 << 10, description="Log file size per attempt; head and tail kept."
    )
    store_log_head_bytes: int = Field(
        default=64 << 10, ge=0, description="Log text kept in the store, from the start."
    )
    store_log_tail_bytes: int = Field(
        default=192 << 10, ge=0, description="Log text kept in the store, from the end."
    )
    run_max_events: int = Field(default=1000, ge=10, description="Event rows in the store per attempt.")
    stage_max: int = Field(
        default=1000, ge=1, description="Stages per attempt; further ones fold into 'other'."
    )
    stage_max_files: int = Field(default=100, ge=0, description="Stage log files per attempt.")
    measure_max_points: int = Field(
        default=1000, ge=10, description="Points kept per measure and attempt, thinned evenly."
    )

    # Shipper
    shipper: Literal["spawn", "external", "off"] = Field(
        default="spawn",
        description="spawn: workers keep one alive; external: `celery plet ship` runs elsewhere; off: none.",
    )
    producer_ships: bool = Field(
        default=False, description="Processes that only publish may spawn a shipper too."
    )
    drain_timeout: float = Field(
        default=10.0, ge=0, le=3600, description="Seconds a stopping worker waits for its last events."
    )
    shipper_linger: float = Field(
        default=60.0, ge=0, description="Seconds a shipper stays after its last writer has gone."
    )
    gather: float = Field(
        default=0.25, ge=0.01, le=60, description="Seconds between two looks at the journal."
    )
    batch_max_records: int = Field(
        default=2000, ge=1, le=100_000, description="Events per store transaction."
    )
    batch_max_bytes: int = Field(default=MIB, ge=64 << 10, description="Journal bytes per store transaction.")
    fsync_interval: float = Field(
        default=0.5, ge=0.01, description="Seconds between syncs of the writers' files."
    )
    host_beat: float = Field(default=10.0, gt=0, description="Seconds between two heartbeats of a host.")
    lease_stale: float = Field(
        default=30.0, gt=0, description="Seconds after which a shipper's lease counts as stale."
    )
    host_lost_after: float = Field(
        default=900.0,
        gt=0,
        description="Seconds a host is silent, while the store answers, until its runs are lost.",
    )
    lost_grace: float = Field(
        default=15.0, ge=0, description="Seconds a lost child's worker has to report before we do."
    )

    abandoned_after: float = Field(
        default=7 * 86_400.0,
        ge=0,
        description="Seconds after which a run that waits without a sign of it is abandoned; 0: never.",
    )

    # Store
    retention_days: float = Field(default=30.0, gt=0, description="Days a run is kept.")
    retention_failed_days: float = Field(
        default=90.0, gt=0, description="Days a run that did not succeed is kept."
    )
    rollup_days: float = Field(default=400.0, gt=0, description="Days counts and durations are kept.")
    prune_every: float = Field(
        default=3600.0,
        ge=0,
        description="Seconds between two removals of what has expired; 0: only by `celery plet prune`.",
    )
    mirror: str | None = Field(
        default=None,
        description="An existing shared folder to which shippers copy log folders. None: no copies.",
    )
    rollup_tenants_max: int = Field(
        default=200, ge=1, description="Tenants with rollups of their own; further ones fold into 'other'."
    )

    # Pages
    insecure_open: bool = Field(
        default=False,
        description="Serve pages and logs to everybody who reaches Flower, though it has no authentication.",
    )
    rights_for: Rule | str | None = Field(
        default=None,
        description="Function (or its dotted path) of a verified user: which of runs, arguments, logs, "
        "tracebacks, act they have. None: all.",
    )
    tenants_for: Rule | str | None = Field(
        default=None,
        description="Function (or its dotted path) of a verified user: the tenant paths they see, each with "
        "what is below. None: all.",
    )


def settings_to_json(settings: Settings) -> str:
    """Return the options as JSON with secrets in clear, for the shipper's inherited pipe only."""
    names = (name for name in Settings.model_fields if name not in _ASIDE)
    return json.dumps({name: _revealed(getattr(settings, name)) for name in names})


def settings_from_json(text: str | bytes) -> Settings:
    """Return what `settings_to_json` wrote."""
    return Settings.model_validate_json(text)


def fingerprint(settings: Settings) -> str:
    """Return 12 hex digits that change when any option changes; a shipper with another one steps down."""
    return hashlib.sha256(settings_to_json(settings).encode()).hexdigest()[:12]


def _revealed(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return [_revealed(item) for item in value]
    if isinstance(value, ChannelSettings):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, dict):
        return {name: _revealed(item) for name, item in value.items()}
    return value
