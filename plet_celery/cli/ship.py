"""`celery plet ship`: the shipper in the foreground, for systemd, a sidecar container, a pod.

This process only finds out what to ship and where, then becomes the shipper (exec, same pid): the user's
app, its imports and its environment are gone by then. The configuration goes along in memory.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, Final

import click
from celery.bin.base import CeleryOption

from plet_celery.cli.command import Command, Wrong
from plet_celery.cli.options import Number
from plet_celery.cli.project import Project
from plet_celery.journal_place import open_journal
from plet_celery.paths import default_database_url, journal_directory, make_home, refuse_others_home
from plet_celery.places import Places
from plet_celery.settings import fingerprint, settings_to_json
from plet_celery.settings_sources import load_settings
from plet_celery.spawning import shipper_environment
from plet_celery.terminal.text import printable

_SERVICE_MANAGER: Final = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


@click.command("ship", cls=Command)
@click.option(
    "--replace", is_flag=True, cls=CeleryOption, help="Ask whoever serves the journal to drain and end."
)
@click.option(
    "--until-drained",
    is_flag=True,
    cls=CeleryOption,
    help="End once all that lies in the journal now is stored, by us or by whoever serves it.",
)
@click.option(
    "--timeout",
    type=Number(min=0),
    metavar="SECONDS",
    cls=CeleryOption,
    help="Give --until-drained no more time than this; then exit 1.",
)
@click.pass_context
def ship(ctx: click.Context, *, replace: bool, until_drained: bool, timeout: float | None) -> None:
    """Run the shipper in the foreground, for plet_shipper = "external".

    It stays until a signal asks it to drain and end (TERM or INT; a second one ends it at once), and
    waits for its turn while another shipper serves the journal. -A is not needed where PLET_HOME,
    PLET_DATABASE_URL and the like say everything. Exit codes: 0 nothing is left, 1 events are left
    in the journal.
    """
    if timeout is not None and not until_drained:
        raise Wrong("--timeout goes with --until-drained; a signal's drain is bounded by plet_drain_timeout")
    app, places = _places(ctx)
    make_home(places.home)
    refuse_others_home(places.home, embedded_store=places.database_url == default_database_url(places.home))
    open_journal(places.journal)
    if places.settings.shipper == "spawn" and not until_drained:
        click.echo(
            "note: plet_shipper is 'spawn', so workers spawn a shipper where none serves; "
            "set plet_shipper = 'external' where this one runs",
            err=True,
        )
    click.echo(
        f"ships {printable(places.journal)} to {printable(places.masked_url)}; "
        "Ctrl-C drains and ends, twice ends at once",
        err=True,
    )
    wish = {"replace": replace, "until_drained": until_drained, "timeout": timeout}
    become_shipper(document_of(places, app) | {"foreground": wish})


def document_of(places: Places, app: Any = None) -> dict[str, Any]:
    """Return what a shipper needs to know, as `plet.shipper_config()` does; it holds secrets.

    Args:
        app: the project's app, where it is named: without it neither broker nor promises are known, and no
            pass of the monitor is done from there.
    """
    plet: Any = None if app is None else importlib.import_module("plet_celery.plet").plet_of(app)
    if plet is not None:
        found: dict[str, Any] = plet.shipper_config()
        return found
    return {
        "settings": json.loads(settings_to_json(places.settings)),
        "journal": str(places.journal),
        "home": str(places.home),
        "database_url": places.database_url,
        "fingerprint": fingerprint(places.settings),
    }


def become_shipper(document: dict[str, Any]) -> None:
    """Replace this process by the shipper.

    Raises:
        OSError: the interpreter cannot be run.
    """
    os.dup2(_in_memory(json.dumps(document).encode()), 0)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    logging.shutdown()
    os.chdir("/")
    os.execve(
        sys.executable,
        [sys.executable, "-P", "-m", "plet_celery.shipper"],
        shipper_environment(*_SERVICE_MANAGER),
    )


def _places(ctx: click.Context) -> tuple[Any, Places]:
    """Return the app, where one is named, and where its things live."""
    root = ctx.find_root()
    if ctx.obj is not None and ("app" not in root.params or root.params.get("app") is not None):
        project = Project.of(ctx)
        return project.whole_app(), project.places
    settings = load_settings({})
    if settings.home is None:
        raise Wrong(
            f"which journal? Name the Celery app ({Project.call_of(ctx)}), "
            "or set PLET_HOME, and PLET_DATABASE_URL where the store is elsewhere"
        )
    home = Path(settings.home).expanduser().absolute()
    secret = settings.database_url
    url = secret.get_secret_value() if secret else default_database_url(home)
    return None, Places(settings, home, journal_directory(home), url, False)


def _in_memory(content: bytes) -> int:
    """Return a descriptor from which `content` can be read; it is never on a disk."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("plet-shipper")
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor
    reading, writing = os.pipe()
    # A pipe takes 64 KiB (16 on some systems) without a reader; settings are a few.
    os.set_blocking(writing, False)
    if os.write(writing, content) < len(content):
        raise Wrong("the settings are too large for a pipe; shorten plet_redact_values_secret")
    os.close(writing)
    return reading
