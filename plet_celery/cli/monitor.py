"""`celery plet monitor`: passes of the monitor in the foreground, for cron, systemd, a pod."""

from __future__ import annotations

import importlib
import logging
import signal
import time
from typing import Any, Final

import click

from plet_celery.cli.command import BAD, View, Wrong, command
from plet_celery.errors import StoreError
from plet_celery.monitor.config import MonitorConfig
from plet_celery.monitor.output import set_up_logging
from plet_celery.monitor.passes import ENTRIES, Ended, Outcome
from plet_celery.monitor.running import config_of, pass_once
from plet_celery.paths import make_home, refuse_others_home
from plet_celery.shipper.bell import Bell
from plet_celery.store import open_store
from plet_celery.terminal.text import printable

# By this name also where the process is `__main__`.
log = logging.getLogger("plet_celery.monitor")

_INTERRUPTED: Final = 128
_ENDS: Final = {
    Ended.PASSED: "passed",
    Ended.INCOMPLETE: "not complete",
    Ended.STOPPED: "stopped in between",
    Ended.FENCED: "overtaken: it took too long, and another one passes now",
    Ended.BUSY: "another one passes now, nothing was done",
}


@command("monitor", fields=False)
@click.option("--once", is_flag=True, help="Pass once and end, as for cron.")
def monitor(view: View, *, once: bool) -> None:
    """Check health, promises and rules, and tell whom plet_channels names, every plet_monitor_interval.

    Beat and shippers do this by themselves. This is for where neither runs, or for a process of its own
    beside them: of all that ask, one passes at a time. A signal (TERM or INT) ends it between two steps; a
    second one at once. Exit codes: 0 passed, or another one passes now; 1 not complete; 69 the store
    cannot be used.
    """
    if not view.project.places.has_plet:
        raise Wrong(
            "this app has no promises and no settings to watch by: write `plet = Plet(app)` below "
            "`app = Celery(…)` (from plet_celery import Plet)"
        )
    # What the app promises is what its tasks promise.
    plet: Any = importlib.import_module("plet_celery.plet").plet_of(view.project.whole_app())
    config = config_of(plet.shipper_config(), plet.settings)
    if not config.is_on:
        raise Wrong("the monitor is switched off: look at plet_monitor and plet_enabled")
    if config.is_embedded_store:
        _make_store(config)
    bell = Bell(impatient=True)
    bell.install()
    set_up_logging()
    if once:
        raise SystemExit(_once(view, config, bell))
    _again_and_again(view, config, bell)


def _make_store(config: MonitorConfig) -> None:
    """Make or migrate the store of this project alone, as a worker's shipper does."""
    make_home(config.home)
    refuse_others_home(config.home, embedded_store=True)
    store = open_store(config.database_url)
    try:
        store.ensure_schema()
    finally:
        store.close()


def _once(view: View, config: MonitorConfig, bell: Bell) -> int:
    # A person asks, or cron: it is due, however recent the last one is.
    outcome = _pass(view, config, bell, spacing=0.0)
    if view.output.as_json:
        told = {name: value for name, value in outcome.doc.items() if name != ENTRIES}
        view.output.json({"ended": outcome.ended.value, **told})
    else:
        for line in lines_of(outcome):
            view.output.line(printable(line))
    if outcome.ended is Ended.STOPPED:
        return _INTERRUPTED + (bell.signal or signal.SIGINT)
    return BAD if outcome.ended in (Ended.INCOMPLETE, Ended.FENCED) else 0


def _again_and_again(view: View, config: MonitorConfig, bell: Bell) -> None:
    interval = config.settings.monitor_interval
    log.info("monitor begins: interval=%gs store=%s", interval, view.project.places.masked_url)
    while bell.asked_to_end is None:
        began = time.monotonic()
        try:
            outcome = _pass(view, config, bell)
        except StoreError as error:
            log.error("no pass: %s", error)
        except Exception:
            log.exception("no pass")
        else:
            if outcome.ended is Ended.INCOMPLETE:
                log.warning("pass is not complete: troubles=%s", "; ".join(outcome.troubles))
        # A signal wakes it.
        bell.wait(max(0.0, began + interval - time.monotonic()))
    log.info("monitor ends: asked by a signal")


def _pass(view: View, config: MonitorConfig, bell: Bell, spacing: float | None = None) -> Outcome:
    return pass_once(
        config,
        kind="command",
        app=view.project.app,
        spacing=spacing,
        stopped=lambda: bell.asked_to_end is not None,
    )


def lines_of(outcome: Outcome) -> list[str]:
    """Return what a person is told of a pass."""
    told = [_ENDS[outcome.ended]]
    doc = outcome.doc
    if "judgements" in doc:
        checks = ", ".join(f"{count} {level}" for level, count in sorted(doc["checks"].items())) or "none"
        told += [
            f"checks: {checks}",
            f"judgements: {doc['judgements']}, {doc['broken']} broken",
            f"alerts: {doc['changes']} changed",
            f"messages: {doc['delivered']} delivered, {doc['undelivered']} not",
        ]
    return told + [f"failed: {one}" for one in outcome.troubles]
