"""Keep a shipper alive beside a worker, and have the last events stored before the worker ends.

Loaded in task processes: no reading side is imported here; the shipper is a process of its own
that knows only the JSON document on its stdin. Everything happens in the worker's main process.
A forking pool is watched from the worker's own timer, so that no thread of ours lives where
children are forked; the other pools (solo blocks that timer while a task runs) from a thread.

While a worker waits for its broker, that timer stands still, and no child is forked either: for as
long as that lasts a forking pool is watched from a thread, too.
"""

from __future__ import annotations

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
from plet_celery.holder import LOOK_INTERVAL, Action, Stillness, Strangers, decide
from plet_celery.journal_segments import plet_version
from plet_celery.spawning import Spawner

log = logging.getLogger(__name__)

_END_LOOK: Final = 0.05
# How long a worker that has its broker back waits for a look that is still under way.
_LAST_LOOK: Final = 5.0
# Pools whose main process never forks task processes.
_FORKLESS: Final = ("solo", "thread", "gevent", "eventlet")

Config = Mapping[str, Any]


class Aside:
    """Looks from a thread, again and again, until it is told to stop."""

    def __init__(self, look: Callable[[], None], interval: float = LOOK_INTERVAL) -> None:
        self._look = look
        self._interval = interval
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._thread is not None:
            return
        over = self._over = threading.Event()
        # Daemon: a look that hangs must not keep a worker that has ended.
        self._thread = threading.Thread(target=self._run, args=(over,), name="plet-supervision", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it, and wait a moment for a look that is under way."""
        thread, self._thread = self._thread, None
        self._over.set()
        if thread is not None:
            thread.join(_LAST_LOOK)

    def _run(self, over: threading.Event) -> None:
        while not over.wait(self._interval):
            _safely(self._look)


class Watch:
    """Keeps one journal served while a worker runs; at most one shipper of our own at a time."""

    def __init__(self, config: Callable[[], Config], before_drain: Callable[[], None] | None = None) -> None:
        self._config = config
        self._before_drain = before_drain
        self._spawner = Spawner()
        self._stillness = Stillness()
        self._pid = -1
        self._stopping = False
        self._forks = False
        self._strangers = Strangers()
        self._looking = threading.Lock()
        self._aside = Aside(self.look)

    def start(self, *, forks: bool = False) -> None:
        """Begin to watch in this process.

        Args:
            forks: this process forks task processes: it has no thread of ours while its timer runs.
        """
        self._pid, self._stopping, self._forks = os.getpid(), False, forks
        self.look()

    def connected(self) -> None:
        """The worker has its broker: its own timer looks, where the pool forks."""
        if self._forks:
            self._aside.stop()

    def disconnected(self) -> None:
        """The worker waits for its broker, also for the first time: its timer stands still."""
        if self.is_active:
            self._aside.start()

    def close(self) -> None:
        """A stopping worker spawns no shipper any more."""
        self._stopping = True
        self._aside.stop()

    @property
    def is_active(self) -> bool:
        """Whether looks may act: in the process that started the watch, until it stops."""
        return self._pid == os.getpid() and not self._stopping

    def look(self) -> None:
        """Check once whether the journal is served, and act: some 40 µs while it is, 1–3 ms for a spawn."""
        if self.is_active and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looking.release()

    def _look(self) -> None:
        config = self._config()
        if _mode(config) != "spawn":
            return
        journal = Path(config["journal"])
        if not journal.is_dir():
            return
        now, wall = time.monotonic(), time.time()
        held = ShipLock.held_elsewhere(journal)
        beat = presence.read_beat(journal)
        starting = self._spawner.is_running(now)
        # Whatever else ends is its parent's to wait for.
        if beat is not None and beat.role == "shipper" and not held and not starting:
            presence.reap(beat.process)
        strange = self._strangers.seen(beat if held else None, str(config["fingerprint"]), now)
        if strange:
            log.warning(
                "the shipper of this journal has other settings than this worker: theirs=%s mine=%s; "
                "restart workers that still have old settings; two apps with different plet_ settings need "
                "two homes (plet_home)",
                strange,
                config["fingerprint"],
            )
        still = self._stillness.seconds(beat, now) if held else 0.0
        frozen = still > float(config["settings"]["lease_stale"])
        action = decide(
            held=held,
            starting=starting,
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
        forks = not any(word in parent.pool_cls.__module__ for word in _FORKLESS)
        _safely(lambda watch: watch.start(forks=forks), self._watch)
        _safely(self._watch.disconnected)
        if forks:
            self._entry = parent.timer.call_repeatedly(LOOK_INTERVAL, _safely, (self._watch.look,))

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
    """Consumer step: its `shutdown` is the last hook of a worker, warm or cold, after the pool has ended.

    It is started behind each connection to the broker, and stopped when that is lost.
    """

    requires = ("celery.worker.consumer.connection:Connection",)
    label = "plet farewell"

    def start(self, parent: Any) -> None:
        """There is a connection."""
        watch = watch_of(parent.app)
        if watch is not None:
            _safely(watch.connected)

    def stop(self, parent: Any) -> None:
        """The connection is lost, or the worker stops."""
        watch = watch_of(parent.app)
        if watch is not None:
            _safely(watch.disconnected)

    terminate = stop

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


def _safely(act: Callable[..., object], *arguments: object) -> None:
    """Contain our own failures: a worker goes on without a shipper. One line per incident, then a count."""
    name = getattr(act, "__qualname__", repr(act))
    try:
        act(*arguments)
    except Exception as error:
        _failures[name] += 1
        if _failures[name] % 100 == 1:
            log.error("supervision failed: act=%s failures=%d", name, _failures[name], exc_info=error)
    else:
        _failures[name] = 0
