"""The options of the monitor, a part of `settings.py`: passes, promises, alerts, channels."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from plet_celery.errors import SettingsError
from plet_celery.objectives import declared
from plet_celery.rulebook import checked_rules


def _objectives(given: dict[str, Any]) -> dict[str, Any]:
    """Return the promises by name pattern, each list as a tuple of objectives."""
    try:
        return {pattern: declared(some, f"{pattern!r}") for pattern, some in given.items()}
    except SettingsError as error:
        raise ValueError(str(error)) from None


class WatchSettings(BaseModel):
    """The monitor's part of `Settings`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    # Passes
    monitor: bool = Field(default=True, description="Watch health, objectives and rules at all.")
    monitor_interval: float = Field(default=30.0, ge=1, le=3600, description="Seconds between two passes.")
    monitor_queue: str | None = Field(
        default=None, description="Queue of the beat task plet.monitor; None: the app's default queue."
    )

    # Health
    stuck_after: float = Field(
        default=600.0,
        gt=0,
        description="Seconds without progress and log after which a running run counts as stuck.",
    )

    # Promises
    objectives: Annotated[dict[str, Any], AfterValidator(_objectives)] = Field(
        default={},
        description="Promises about time and success, lists of them by name pattern of tasks "
        "(docs/objectives.md).",
    )

    # Alerts
    rules: Annotated[dict[str, dict[str, Any] | bool | str], BeforeValidator(checked_rules)] = Field(
        default={},
        description="Rules by name: 'off', or a mapping of what differs from their defaults, such as "
        "{'failure_rate': {'threshold': 0.5, 'for': 300}} (docs/alerts.md).",
    )
    alert_days: float = Field(
        default=90.0,
        gt=0,
        le=3650,
        description="Days an alert is kept after its end, with what was sent.",
    )
