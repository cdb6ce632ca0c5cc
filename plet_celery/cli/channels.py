"""`celery plet alerts test CHANNEL`: does a channel work? One that was disabled is enabled by that."""

from __future__ import annotations

import difflib
from dataclasses import asdict
from typing import Any

import click

from plet_celery.cli.command import BAD, NotFound, View, command
from plet_celery.cli.removing import writable_store
from plet_celery.monitor.routing import channels_of
from plet_celery.monitor.trying import Tried, try_out
from plet_celery.terminal.text import printable


@command("test", fields=False)
@click.argument("channel")
def channel_test(view: View, *, channel: str) -> None:
    """Send a test message to a channel now, and say what became of it.

    A channel that was disabled, as it failed for long, is enabled again when it takes the message.
    """
    channels = channels_of(view.project.places.settings, app=view.project.app)
    if channel not in channels.by_name:
        raise NotFound(_unknown(channel, sorted(channels.by_name)))
    tried = try_out(writable_store(view), channels, channel, now=view.clock.now)
    if view.output.as_json:
        view.output.json(asdict(tried))
    else:
        view.output.line(printable(line_of(tried)))
    if not tried.ok:
        raise SystemExit(BAD)


def line_of(tried: Tried) -> str:
    """Return what a person is told."""
    where = f"{tried.channel} ({tried.target})"
    if not tried.ok:
        remains = "; it remains disabled" if tried.was_disabled else ""
        return f"{where} did not take the test message: {tried.status}{remains}"
    enabled = "; it was disabled and is enabled again" if tried.was_disabled else ""
    return f"{where} took the test message: {tried.status}{enabled}"


def _unknown(name: str, known: list[Any]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    meant = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"there is no channel {name!r}; plet_channels has {', '.join(known) or 'none'}{meant}"
