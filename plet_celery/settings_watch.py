"""The options of the monitor, a part of `settings.py`: passes, promises, alerts, channels."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from plet_celery.errors import SettingsError
from plet_celery.objectives import checked_pattern, declared
from plet_celery.rulebook import checked_rules
from plet_celery.settings_channels import (
    ChannelSettings,
    check_web_url,
    checked_channels,
    checked_keys,
    checked_urls,
    no_mapping,
)


def _checked_ping(secret: SecretStr) -> SecretStr:
    _refuse(secret.get_secret_value())
    return secret


def _checked_pages(url: str) -> str:
    _refuse(url)
    return url.rstrip("/")


def _refuse(url: str) -> None:
    try:
        check_web_url(url)
    except ValueError as error:
        raise ValueError(f"it {error}") from None


def _objectives(given: dict[str, Any]) -> dict[str, Any]:
    """Return the promises by name pattern, each list as a tuple of objectives."""
    try:
        return {checked_pattern(pattern): declared(some, f"{pattern!r}") for pattern, some in given.items()}
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
    check_timeout: float = Field(
        default=5.0, gt=0, le=60, description="Seconds that a health check may take; then that is its answer."
    )
    queue_max_messages: int = Field(
        default=100, ge=0, description="Messages that may wait in a queue before health warns."
    )
    queue_max_wait: float = Field(
        default=900.0, gt=0, description="Seconds a run may wait in its queue before health warns."
    )
    store_max_bytes: int = Field(
        default=50 << 30, ge=1 << 20, description="Size of the store's tables above which health warns."
    )
    stuck_after: float = Field(
        default=600.0,
        gt=0,
        description="Seconds without progress and log after which a running run counts as stuck.",
    )
    stuck_after_tasks: dict[Annotated[str, Field(min_length=1)], Annotated[float, Field(gt=0)]] = Field(
        default={},
        description="The same by name pattern (the first that fits); others: plet_stuck_after.",
    )
    stacks: bool = Field(
        default=True,
        description="Task processes write their stack on SIGUSR2 where nobody else has it, for stuck runs.",
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

    # Channels
    channels: Annotated[dict[str, ChannelSettings], AfterValidator(checked_channels)] = Field(
        default={},
        description="Who is told of alerts, by name: see docs/channels.md. The channels log and signals are "
        "there without it.",
    )
    channel_secret_urls: tuple[SecretStr, ...] = Field(
        default=(),
        validate_default=True,
        description="Address of each webhook, and Apprise URL of each notify channel, as 'channel=address'.",
    )
    channel_secret_keys: tuple[SecretStr, ...] = Field(
        default=(),
        validate_default=True,
        description="Key that signs a webhook, as 'channel=key', at least 16 characters; several for a while "
        "to change it.",
    )
    channel_disable_after: float = Field(
        default=86_400.0,
        ge=60,
        description="Seconds without one success after which a failing channel is disabled.",
    )
    channel_stale_after: float = Field(
        default=3600.0,
        ge=0,
        description="Seconds after which a message that nobody got is dropped when its alert is over.",
    )
    pages_url: Annotated[str, AfterValidator(_checked_pages)] | None = Field(
        default=None,
        description="Where people reach the pages, such as https://flower.example.org/plet: for links in "
        "messages.",
    )
    ping_secret_url: Annotated[SecretStr, AfterValidator(_checked_ping)] | None = Field(
        default=None,
        description="Web address that is asked after every complete pass (as of Healthchecks), with /fail "
        "behind it after one that was not.",
    )
    ping_allow_private: bool = Field(
        default=False, description="plet_ping_secret_url may be in a private network, and plain http."
    )

    @field_validator("channel_secret_urls", "channel_secret_keys", mode="before")
    @classmethod
    def _is_list(cls, given: Any) -> Any:
        return no_mapping(given)

    @field_validator("channel_secret_urls")
    @classmethod
    def _urls_fit(cls, given: tuple[SecretStr, ...], info: ValidationInfo) -> tuple[SecretStr, ...]:
        return checked_urls(info.data["channels"], given) if "channels" in info.data else given

    @field_validator("channel_secret_keys")
    @classmethod
    def _keys_fit(cls, given: tuple[SecretStr, ...], info: ValidationInfo) -> tuple[SecretStr, ...]:
        return checked_keys(info.data["channels"], given) if "channels" in info.data else given
