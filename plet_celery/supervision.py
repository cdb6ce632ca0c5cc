"""Keep a shipper alive beside a worker, and have the last events stored before the worker ends.

Loaded in task processes: no reading side is imported here; the shipper is a process of its own
that knows only the JSON document on its stdin. Everything happens in the worker's main process.
A forking pool is watched from the worker's own timer, so that no thread of ours lives where
children are forked; the other pools (solo blocks that timer while a task runs) from a thread.

While a worker waits for a lost broker its timer stands still, and so does the watch; the journal
keeps what is recorded, and the watch goes on with the connection.
"""

from __future__ import annotations

import enum
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from celery import Celery, bootsteps

from plet_celery import presence
from plet_celery.election import ShipLock
from plet_celery.journal_segments import plet_version
from plet_celery.spawning import Spawner

log = logging.getLogger(__name__)

LOOK_INTERVAL: Final = 2.0
# A newer app's worker gets this long to spawn its shipper before another one may.
YIELD_SECONDS: Final = 10.0
_END_LOOK: Final = 0.05
# Pools whose main process never forks task processes.
_FORKLESS: Final = ("solo", "thread", "gevent", "eventlet")

Config = Mapping[str, Any]


class Action(enum.Enum):
    """What a look at the journal calls for."""

    NOTHING = "nothing"
    SPAWN = "spawn"
    END_FROZEN = "end_frozen"
    """SIGKILL the frozen holder of the lock; the next look finds the lock free."""
    SEIZE = "seize"
    """Spawn a shipper that replaces the lock file: the frozen holder cannot be seen from here."""


def decide(
    *,
    held: bool,
    starting: bool,
    frozen: bool,
    visible: bool,
    beat: presence.Beat | None,
    key: str,
    wall: float,
) -> Action:
    """Decide by plain facts.

    Args:
        held: somebody holds `ship.lock`.
        starting: a shipper of our own was spawned and has not ended.
        frozen: the holder has shown no sign of life for `plet_lease_stale`.
        visible: exactly the process of the beat runs in our sight.
        key: what tells the shipper that we would spawn from others.
    """
    if held:
        if not frozen:
            return Action.NOTHING
        # A process that only flushes is somebody's web server or script: never killed.
        if beat is not None and beat.role == "shipper" and visible:
            return Action.END_FROZEN
        return Action.SEIZE
    if starting:
        return Action.NOTHING
    if beat is not None and beat.yields_to not in ("", key) and 0 <= wall - beat.wall < YIELD_SECONDS:
        return Action.NOTHING
    return Action.SPAWN


class Stillness:
    """Tells how long a journal's beat has not changed while we kept looking.

    Only what was seen in an unbroken row of looks counts: after a pause of our own (a stopped
    container, a blocked main process) the shipper has a full period to beat again.
    """

    def __init__(self) -> None:
        self._seen: object = None
        self._since = self._looked = float("-inf")

    def seconds(self, beat: presence.Beat | None, now: float) -> float:
        """Take note of the beat seen at `now` (monotonic); return how long it has stood still."""
        seen = beat and (beat.process, beat.mono)
        if seen != self._seen or now - self._looked > 5 * LOOK_INTERVAL:
            self._seen, self._since = seen, now
        self._looked = now
        return now - self._since


class Watch:
    """Keeps one journal served while a worker runs; at most one shipper of our own at a time."""

    def __init__(self, config: Callable[[], Config], before_drain: Callable[[], None] | None = None) -> None:
        self._config = config
        self._before_drain = before_drain
        self._spawner = Spawner()
        self._stillness = Stillness()
        self._pid = -1
        self._stopping = False

    def start(self) -> None:
        """Begin to watch in this process."""
        self._pid, self._stopping = os.getpid(), False
        self.look()

    def close(self) -> None:
        """A stopping worker spawns no shipper any more."""
        self._stopping = True

    @property
    def is_active(self) -> bool:
        """Whether looks may act: in the process that started the watch, until it stops."""
        return self._pid == os.getpid() and not self._stopping

    def look(self) -> None:
        """Check once whether the journal is served, and act: some 40 µs while it is, 1–3 ms for a spawn."""
        config = self._config()
        if not self.is_active or _mode(config) != "spawn":
            return
        journal = Path(config["journal"])
        if not journal.is_dir():
            return
        now, wall = time.monotonic(), time.time()
        held = ShipLock.held_elsewhere(journal)
        beat = presence.read_beat(journal)
        still = self._stillness.seconds(beat, now) if held else 0.0
        frozen = still > float(config["settings"]["lease_stale"])
        action = decide(
            held=held,
            starting=self._spawner.is_running(now),
            frozen=frozen,
            visible=frozen and beat is not None and presence.is_visible(beat.process),
            beat=beat,
            key=presence.shipper_key(plet_version(), str(config["fingerprint"])),
            wall=wall,
        )
        self._act(action, config, beat, now)

    def _act(self, action: Action, config: Config, beat: presence.Beat | None, now: float) -> None:
        if action is Action.SPAWN:
            self._spawner.spawn(config, now=now)
        elif action is Action.END_FROZEN and beat is not None:
            ended = presence.kill_exactly(beat.process)
            log.warning(
                "shipper is frozen: journal=%s pid=%d ended=%s", config["journal"], beat.process.pid, ended
            )
        elif action is Action.SEIZE:
            log.warning("shipper is frozen and out of sight, taking over: journal=%s", config["journal"])
            self._stillness = Stillness()
            self._spawner.spawn(config, now=now, take_over=beat, seize=True)

    def farewell(self) -> bool:
        """Have the journal's last events stored, for at most `plet_drain_timeout`; False if that failed."""
        self._stopping = True
        if self._pid != os.getpid():
            return True
        if self._before_drain is not None:
            self._before_drain()
        config = self._config()
        # Without a journal (an unusable plet_home) there is nothing to wait for.
        if _mode(config) == "off" or not Path(config["journal"]).is_dir():
            return True
        timeout = float(config["settings"]["drain_timeout"])
        drained = presence.await_drain(
            Path(config["journal"]), timeout=timeout, coming=self._is_coming, leave=True
        )
        if not drained:
            log.warning("events are left in the journal: journal=%s waited=%.1fs", config["journal"], timeout)
        self._spawner.let_go()
        return drained

    def _is_coming(self) -> bool:
        return self._spawner.is_running(time.monotonic())


class SupervisionStep(bootsteps.StartStopStep):
    """Worker step: watches from the worker's timer, or from a thread where the pool never forks."""

    requires = ("celery.worker.components:Timer", "celery.worker.components:Pool")
    label = "plet shipper"

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._watch = watch_of(parent.app)
        self._entry: Any = None

    def start(self, parent: Any) -> None:
        """Start after the pool has forked its first children."""
        if self._watch is None:
            return
        _safely(self._watch.start)
        if any(word in parent.pool_cls.__module__ for word in _FORKLESS):
            threading.Thread(target=self._run, name="plet-supervision", daemon=True).start()
        else:
            self._entry = parent.timer.call_repeatedly(LOOK_INTERVAL, _safely, (self._watch.look,))

    def _run(self) -> None:
        assert self._watch is not None
        while self._watch.is_active:
            time.sleep(LOOK_INTERVAL)
            _safely(self._watch.look)

    def close(self, parent: Any) -> None:
        """First notice of a stop."""
        if self._watch is not None:
            self._watch.close()

    def stop(self, parent: Any) -> None:
        """Stop looking; running tasks may still write for a long time, so nothing is drained yet."""
        self.close(parent)
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    terminate = stop


class FarewellStep(bootsteps.StartStopStep):
    """Consumer step: its `shutdown` is the last hook of a worker, warm or cold, after the pool has ended."""

    label = "plet farewell"

    def shutdown(self, parent: Any) -> None:
        """Wait until the last events are stored."""
        watch = watch_of(parent.app)
        if watch is not None:
            _safely(watch.farewell)


def configure(
    app: Celery, shipper_config: Callable[[], Config], *, before_drain: Callable[[], None] | None = None
) -> Watch:
    """Have every worker of `app` keep a shipper alive.

    Args:
        shipper_config: returns what `plet.shipper_config()` does; called at each look, and only
            in the worker's main process.
        before_drain: called once, right before a stopping worker waits for the drain: the place to
            write its last event.

    Calling it again for an app replaces what was given before.
    """
    watch = _watches[_real(app)] = Watch(shipper_config, before_drain)
    app.steps["worker"].add(SupervisionStep)
    app.steps["consumer"].add(FarewellStep)
    return watch


def watch_of(app: Celery) -> Watch | None:
    """Return the watch of an app, or None if it was not configured."""
    return _watches.get(_real(app))


def end_shipper(journal: Path, *, timeout: float) -> bool:
    """Ask the shipper of a journal to drain and end (SIGTERM), and wait; True once nobody serves it."""
    import signal

    deadline = time.monotonic() + timeout
    asked: presence.Process | None = None
    while ShipLock.held_elsewhere(journal):
        beat = presence.read_beat(journal)
        if beat is not None and beat.role == "shipper" and beat.process != asked:
            if presence.is_visible(beat.process):
                os.kill(beat.process.pid, signal.SIGTERM)
            asked = beat.process
        if time.monotonic() > deadline:
            return False
        time.sleep(_END_LOOK)
    return True


_watches: WeakKeyDictionary[Celery, Watch] = WeakKeyDictionary()


def _real(app: Celery) -> Celery:
    # The command line hands over a proxy; a weak key must be the app itself.
    current = getattr(app, "_get_current_object", None)
    return current() if current is not None else app


def _mode(config: Config) -> str:
    settings = config["settings"]
    return str(settings["shipper"]) if settings["enabled"] else "off"


_failures: Counter[str] = Counter()


def _safely(act: Callable[[], object]) -> None:
    """Contain our own failures: a worker goes on without a shipper. One line per incident, then a count."""
    name = getattr(act, "__qualname__", repr(act))
    try:
        act()
    except Exception as error:
        _failures[name] += 1
        if _failures[name] % 100 == 1:
            log.error("supervision failed: act=%s failures=%d", name, _failures[name], exc_info=error)
    else:
        _failures[name] = 0
