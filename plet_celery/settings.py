"""Every option of plet_celery: name, type, default, unit, and where a value came from.

Order of sources: Celery's conf (`plet_*`), then the environment (`PLET_*`), then the default;
only `PLET_ENABLED=0` in the environment wins over the conf, so that an operator can switch
recording off without a release. Durations are seconds.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from plet_celery.errors import SettingsError
from plet_celery.objectives import Objective, to_plain
from plet_celery.settings_channels import ChannelSettings, function_name
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
_MAY_HOLD_SECRETS: Final = frozenset({"channels", "pages_url"})
"""Where somebody may have written an address with a token by mistake: it is refused, and not repeated."""


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


class Sourced(BaseModel):
    """One option with the place its value came from: `conf`, `environment` or `default`."""

    name: str
    value: Any
    source: str
    description: str


def load_settings(conf: Mapping[str, Any] | None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read, check and return the options.

    Args:
        conf: Celery's `app.conf`, or a plain mapping; only `plet_*` keys are read.
        environ: the environment (`os.environ` by default); only `PLET_*` is read.

    Raises:
        SettingsError: a `plet_*` name is unknown (names the nearest known one), or a value
            does not fit (names the setting, what is wrong, where it was set; never a secret's value).
    """
    given, sources = _gather(conf, os.environ if environ is None else environ)
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise SettingsError(_explain(error, given, sources)) from None


def describe_settings(
    conf: Mapping[str, Any] | None, environ: Mapping[str, str] | None = None
) -> list[Sourced]:
    """Return every option with value (secrets masked) and source, in the model's order."""
    environ = os.environ if environ is None else environ
    settings = load_settings(conf, environ)
    _, sources = _gather(conf, environ)
    return [
        Sourced(
            name=PREFIX + name,
            value=_masked(getattr(settings, name)),
            source=sources.get(name, "default"),
            description=field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]


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


def _gather(
    conf: Mapping[str, Any] | None, environ: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    given: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, value in _from_environment(environ).items():
        given[name], sources[name] = value, "environment"
    for name, value in _from_conf(conf or {}).items():
        if name == "enabled" and sources.get("enabled") == "environment" and _is_off(given["enabled"]):
            continue
        given[name], sources[name] = value, "conf"
    return given, sources


def _from_conf(conf: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for key in _plet_keys(conf):
        name = key.lower().removeprefix(PREFIX)
        if name not in Settings.model_fields:
            raise SettingsError(_unknown(key))
        given[name] = conf[PREFIX + name] if PREFIX + name in conf else conf[key]
    return given


def _plet_keys(conf: Mapping[str, Any]) -> Iterable[str]:
    # With config_from_object(…, namespace="CELERY") the conf holds CELERY_PLET_X but answers plet_x.
    namespace = (getattr(conf, "prefix", None) or "").lower()
    upper = {(PREFIX + name).upper() for name in Settings.model_fields}
    for key in dict.fromkeys(map(str, conf)):
        if key.startswith(PREFIX):
            yield key
        elif not namespace and key in upper:
            raise SettingsError(
                f"{key!r} in Celery's conf is not read; write {key.lower()!r} (Celery reads upper case "
                "only with a namespace: config_from_object(…, namespace='CELERY') and CELERY_PLET_…)"
            )
        elif namespace and key.lower().startswith(namespace + PREFIX):
            yield key.lower().removeprefix(namespace)


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    # An empty variable counts as unset, as a compose file writes it.
    given = {key: value for key, value in environ.items() if key.startswith("PLET_") and value.strip()}
    if not given:
        return {}
    # 0.1 s: only where there is something for it to read
    from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

    class _Environment(Settings, BaseSettings):
        model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    # Unknown PLET_* names are not ours to refuse: Kubernetes sets PLET_PORT for a service named plet.
    source = EnvSettingsSource(_Environment, case_sensitive=False, env_prefix="PLET_")
    source.env_vars = {
        key.lower(): _as_json(key.lower().removeprefix(PREFIX), value.strip()) for key, value in given.items()
    }
    try:
        return dict(source())
    except ValueError as error:
        raise SettingsError(
            f'{error} of the environment: a list is given as JSON, as in \'["a", "b"]\', '
            "a mapping as in '{\"a.*\": 0.1}'"
        ) from None


def _as_json(name: str, text: str) -> str:
    """Return `a,b` as a JSON list where the option is a list of names; a secret may hold commas."""
    field = Settings.model_fields.get(name)
    if field is None or field.annotation != tuple[str, ...] or text.startswith("["):
        return text
    return json.dumps([part.strip() for part in text.split(",") if part.strip()])


def _is_off(text: str) -> bool:
    return text.strip().lower() in {"0", "false", "no", "off", "n", "f"}


def _unknown(key: str) -> str:
    known = [PREFIX + name for name in Settings.model_fields]
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    return f"unknown setting {key!r}; the nearest known one is {nearest[0]!r} (all: celery plet config)"


def _explain(error: ValidationError, given: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    lines = []
    for one in error.errors():
        name = str(one["loc"][0])
        field = Settings.model_fields[name]
        secret = "Secret" in str(field.annotation)
        shown = "***" if secret or name in _MAY_HOLD_SECRETS else repr(given.get(name))[:100]
        where = sources.get(name, "default")
        lines.append(
            f"{PREFIX}{name} = {shown} (from {where}): {_key(one['loc'])}{one['msg']}; "
            f"{(field.description or '').rstrip('.')}; default {_masked(field.default)!r}"
        )
    return "\n".join(lines)


def _key(place: tuple[int | str, ...]) -> str:
    """Return which entry of a mapping is wrong, and what of it; of a list, its text tells."""
    names = [one for one in place[1:] if isinstance(one, str) and one.isprintable()]
    return f"{names[0]!r}: " + "".join(f"{one}: " for one in names[1:2]) if names else ""


def _masked(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return "***"
    if isinstance(value, tuple):
        return [_masked(item) for item in value]
    if isinstance(value, ChannelSettings):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, dict):
        return {name: _masked(item) for name, item in value.items()}
    if isinstance(value, Objective):
        return to_plain(value)
    return function_name(value) if callable(value) else value


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
