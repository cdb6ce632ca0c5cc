"""Who is told of which alert, as `plet_channels` says; and the channels themselves."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from plet_celery.monitor.channels.call import CallChannel
from plet_celery.monitor.channels.channel import Channel
from plet_celery.monitor.channels.log import LogChannel
from plet_celery.monitor.channels.notify import NotifyChannel
from plet_celery.monitor.channels.request import Rules
from plet_celery.monitor.channels.signals import SignalsChannel
from plet_celery.monitor.channels.webhook import WebhookChannel
from plet_celery.monitor.channelsecrets import channel_secrets
from plet_celery.redaction import Redactor
from plet_celery.settings import Settings
from plet_celery.settings_channels import BUILT_IN, ChannelSettings, named_secrets
from plet_celery.watchfacts import Alert, Change, Route, Severity

NEEDS_APP: Final = frozenset({"call", "signals"})
_ENDS: Final = frozenset({"resolved", "ended"})

Router = Callable[[Alert, Change], Sequence[Route]]


@dataclass(frozen=True, kw_only=True)
class Channels:
    """All that a pass needs to deliver; `repr` shows no secret."""

    by_name: Mapping[str, Channel]
    redactor: Redactor = field(default_factory=Redactor, repr=False)
    pages_url: str | None = None
    disable_after: float = 86_400.0
    stale_after: float = 3600.0


def chosen(settings: Settings) -> dict[str, ChannelSettings]:
    """Return the channels that are on, the built-in ones among them."""
    built_in = {name: ChannelSettings.model_validate({"kind": name}) for name in BUILT_IN}
    return {name: one for name, one in (built_in | settings.channels).items() if one.enabled}


def route_of(settings: Settings) -> Router:
    """Return the function that says who is told of a change."""
    channels = chosen(settings)

    def route(alert: Alert, change: Change) -> list[Route]:
        return [
            Route(channel=name, needs_app=channel.kind in NEEDS_APP)
            for name, channel in channels.items()
            if wants(channel, alert, change.kind)
        ]

    return route


def wants(channel: ChannelSettings, alert: Alert, kind: str) -> bool:
    """Tell whether a channel is told of a transition of this kind of an alert."""
    if kind in _ENDS and not channel.resolved:
        return False
    if channel.severity == "critical" and alert.severity is not Severity.CRITICAL:
        return False
    if channel.tasks and not (
        alert.task is not None and any(fnmatch.fnmatchcase(alert.task, one) for one in channel.tasks)
    ):
        return False
    return not channel.tenants or any(_covers(path, alert.tenant) for path in channel.tenants)


def channels_of(settings: Settings, *, app: Any = None) -> Channels:
    """Return the channels as they are set.

    Args:
        app: the Celery app, where this process has loaded it; None: no function is imported and no
            signal sent here.
    """
    urls = {name: found[0] for name, found in named_secrets(settings.channel_secret_urls).items()}
    keys = named_secrets(settings.channel_secret_keys)
    made = {
        name: _made(name, channel, urls.get(name, ""), keys.get(name, ()), app)
        for name, channel in chosen(settings).items()
    }
    return Channels(
        by_name=made,
        redactor=_redactor(settings),
        pages_url=settings.pages_url,
        disable_after=settings.channel_disable_after,
        stale_after=settings.channel_stale_after,
    )


def _redactor(settings: Settings) -> Redactor:
    """Return what knows every secret of the channels: an error, or a rule's words, may repeat one."""
    values = [secret.get_secret_value() for secret in settings.redact_values_secret]
    return Redactor(settings.redact_names, [*values, *channel_secrets(settings)])


def _made(name: str, channel: ChannelSettings, url: str, keys: tuple[str, ...], app: Any) -> Channel:
    match channel.kind:
        case "log":
            return LogChannel(name=name, timeout=channel.timeout)
        case "call":
            return CallChannel(name=name, function=channel.function or "", timeout=channel.timeout)
        case "signals":
            return SignalsChannel(name=name, app=app, timeout=channel.timeout)
        case "webhook":
            return WebhookChannel(
                name=name,
                url=url,
                keys=keys,
                timeout=channel.timeout,
                rules=Rules(allow_private=channel.allow_private, proxy=channel.proxy),
            )
        case "notify":
            return NotifyChannel(name=name, url=url, timeout=channel.timeout)


def _covers(path: str, tenant: str) -> bool:
    """Tell whether a tenant is this path, or lies below it; the empty path is those without one."""
    return tenant == path or (path != "" and tenant.startswith(f"{path}/"))
