"""What is lost, and what comes with two keys, when the monitor is killed again and again.

    python benchmarks/killed_passes.py [--kills 300] [--control-kills 60]

Tasks break their promises and keep them again, one after the other. A process passes, is killed with SIGKILL
at a random point of its pass, and the next one takes over. A webhook on loopback counts what arrives. In the
end each alert that has fired, or was resolved, must have been told, and no transition came with two keys.
Beside that the same with a monitor that tells without an outbox, right before it writes what it tells: there
the same transition comes again with another key. That shows that the kills strike.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import secrets
import signal
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from webhooks import Receiver, receiving

from plet_celery import paths
from plet_celery.monitor import alarms
from plet_celery.monitor.config import MonitorConfig
from plet_celery.monitor.passes import Caller, Steps, run_pass
from plet_celery.monitor.steps import Equipment
from plet_celery.settings import fingerprint, settings_to_json
from plet_celery.settings_sources import load_settings
from plet_celery.store import Store, open_store
from plet_celery.watchfacts import Change, Judgement, Verdict, WatchLease

_RULE: Final = "objective:kills"
_START: Final = 1_800_000_000.0


def config_of(url: str, folder: Path, receiver: Receiver) -> MonitorConfig:
    """Return the settings of a project with one webhook."""
    chosen = load_settings(
        {
            "plet_channels": {"hook": {"kind": "webhook", "allow_private": True, "allow_http": True}},
            "plet_channel_secret_urls": [f"hook={receiver.url}"],
            "plet_channel_secret_keys": ["hook=0123456789abcdef"],
            # What is over meanwhile is told all the same: each message is counted.
            "plet_channel_stale_after": 1e9,
        },
        {},
    )
    document = {
        "settings": json.loads(settings_to_json(chosen)),
        "home": str(folder),
        "journal": str(paths.journal_directory(folder)),
        "database_url": url,
        "fingerprint": fingerprint(chosen),
    }
    return MonitorConfig.from_document(document)


def judgements(task: int) -> list[Judgement]:
    """Return what is so while the `task`-th breaks its promise: those before it have kept theirs again."""
    broken = Judgement(rule=_RULE, subject=f"task{task}", verdict=Verdict.BROKEN, title="late")
    kept = [Judgement(rule=_RULE, subject=f"task{one}", verdict=Verdict.KEPT) for one in range(task)]
    return [*kept[-3:], broken]


def steps_of(equipment: Equipment, store: Store, task: int, url: str, *, careless: bool) -> Steps:
    """Return the real steps, except that what is so is given; careless: without an outbox."""
    steps = equipment.steps()

    def tell_and_write(
        lease: WatchLease, found: Sequence[Judgement], failed: Sequence[str], now: float
    ) -> Sequence[Change]:
        # What an outbox is for: told first, and by a key that nobody remembers.
        seen = {row.subject for row in _alerts(store) if row.state == "firing"}
        for one in found:
            is_news = (one.verdict is Verdict.BROKEN) != (one.subject in seen)
            if is_news:
                kind = "fired" if one.verdict is Verdict.BROKEN else "resolved"
                body = json.dumps({"subject": one.subject, "kind": kind, "id": secrets.token_hex(16)})
                urllib.request.urlopen(urllib.request.Request(url, body.encode()), timeout=5).close()
        return alarms.settle(store, lease, found, route=lambda alert, change: (), now=now)

    return replace(
        steps,
        check=lambda now, seconds: (),
        keep_checks=lambda lease, results, now: None,
        promise=lambda lease, now: judgements(task),
        rule=lambda results, now: (),
        alert=tell_and_write if careless else steps.alert,
        keep=lambda lease, now: None,
    )


def one_pass(config: MonitorConfig, task: int, now: float, url: str, *, careless: bool) -> None:
    """Pass once; the next one does not wait until the lease of a dead one has run out."""
    store = open_store(config.database_url)
    with store.writing() as connection:
        watch, delivery = store.tables.watching.watch, store.tables.watching.delivery
        connection.execute(watch.update().values(held_until=0.0))
        connection.execute(delivery.update().where(delivery.c.state == "waiting").values(held_until=0.0))
    with Equipment(config, store, owner="bench") as equipment:
        steps = steps_of(equipment, store, task, url, careless=careless)
        run_pass(store, steps, Caller(owner="bench", kind="command", has_app=False), now=now)
    store.close()


def killed(config: MonitorConfig, task: int, now: float, url: str, after: float, *, careless: bool) -> bool:
    """Pass in a process that is killed after so many seconds; False where it was done before."""
    child = os.fork()
    if not child:
        code = 1
        try:
            logging.disable()
            one_pass(config, task, now, url, careless=careless)
            code = 0
        finally:
            os._exit(code)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _alerts(store: Store) -> list[Any]:
    table = store.tables.watching.alert
    with store.reading() as connection:
        return list(connection.execute(sa.select(table).order_by(table.c.pending_at)).all())


def _is_written(store: Store, task: int) -> bool:
    """Tell whether the `task`-th fires, and those before it are over."""
    states = {row.subject: row.state for row in _alerts(store)}
    before = states.get(f"task{task - 1}", "resolved")
    return states.get(f"task{task}") == "firing" and before == "resolved"


def attack(kills: int, *, careless: bool, seed: int = 1) -> None:
    """Kill passes until so many were killed; print what became of transitions."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="plet-bench-") as made, receiving() as receiver:
        folder, url = Path(made), f"sqlite:///{made}/plet.db"
        store = open_store(url)
        store.ensure_schema()
        config = config_of(url, folder, receiver)
        began = time.perf_counter()
        one_pass(config, 0, _START, receiver.url, careless=careless)
        took = time.perf_counter() - began
        task, passes, struck = 1, 1, 0
        while struck < kills:
            now = _START + 30 * passes
            passes += 1
            store.close()
            struck += killed(config, task, now, receiver.url, dice.uniform(0, 2.5 * took), careless=careless)
            task += _is_written(store, task)
        # What was left behind is done by those that live.
        # Its last tries may have to wait for their turn.
        for _ in range(20):
            passes += 10
            one_pass(config, task, _START + 30 * passes, receiver.url, careless=careless)
        report(store, receiver, struck, passes)
        store.close()


def report(store: Store, receiver: Receiver, kills: int, passes: int) -> None:
    """Print the figures."""
    keys: dict[tuple[str, str], set[str]] = defaultdict(set)
    for request in receiver.requests:
        body = json.loads(request.body)
        keys[body["subject"], body["kind"]].add(body["id"])
    alerts = _alerts(store)
    wanted = {(row.subject, "fired") for row in alerts if row.fired_at is not None}
    wanted |= {(row.subject, "resolved") for row in alerts if row.resolved_at is not None}
    episodes = {row.subject for row in alerts}
    two = sum(len(found) > 1 for found in keys.values())
    print(
        f"  {kills} kills in {passes} passes, {len(wanted)} transitions of {len(alerts)} alerts: "
        f"lost {len(wanted - keys.keys())}, with two keys {two}, "
        f"repeated {len(receiver.requests) - sum(map(len, keys.values()))}, "
        f"alerts of one subject beyond one {len(alerts) - len(episodes)}"
    )


def main() -> None:
    """Attack both monitors."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--control-kills", type=int, default=100)
    given = parser.parse_args()
    logging.disable()
    print("with its outbox:")
    attack(given.kills, careless=False)
    print("the control, which tells without one:")
    attack(given.control_kills, careless=True)


if __name__ == "__main__":
    main()
