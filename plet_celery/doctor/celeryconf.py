"""Celery's settings that lose runs, run them twice, or hide results and progress.

What each costs was tried on Celery 5.7; the pages it names say how.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from plet_celery.doctor.finding import Finding, Level
from plet_celery.places import mask_url
from plet_celery.terminal.text import span

if TYPE_CHECKING:
    from celery import Celery

_DOCS: Final = "docs/production.md#celerys-settings"
_LONG: Final = 300.0
"""Seconds from which on losing or repeating a run hurts."""
_VISIBILITY: Final = {"redis": 3600.0, "rediss": 3600.0, "sentinel": 3600.0, "valkey": 3600.0, "sqs": 1800.0}
"""Transports that hand a message out again when it was not acknowledged in time, with their default."""


@dataclass(frozen=True, kw_only=True)
class Conf:
    """What of Celery's conf, and of the tasks' own options, matters."""

    broker: str
    """Transport of the broker's URL; empty where none is set."""
    backend: str
    """Scheme of the result backend; `disabled` where there is none."""
    broker_url: str = ""
    """Without secrets."""
    backend_url: str = ""
    """Without secrets."""
    visibility_timeout: float | None = None
    """Seconds; None where the transport has none."""
    prefetch: int = 4
    result_expires: float | None = None
    hijacks_root: bool = True
    accepts_pickle: bool = False
    late: frozenset[str] = frozenset()
    """Names of tasks that acknowledge late."""
    tracked: frozenset[str] = frozenset()
    """Names of tasks with stages and progress."""
    ignoring: frozenset[str] = frozenset()
    """Names of tasks whose results are ignored."""
    has_plet: bool = True
    enabled: bool = True
    broken_import: str = ""
    """Why the tasks could not be imported."""


def read_conf(app: Celery, *, has_plet: bool, enabled: bool) -> Conf:
    """Return what matters of an app; imports its tasks, as a worker does."""
    broken = ""
    try:
        app.loader.import_default_modules()
    except Exception as error:
        broken = f"{type(error).__name__}: {error}"
    conf = app.conf
    broker = _urls(conf.broker_read_url or conf.broker_url)
    backend = str(conf.result_backend or "disabled://")
    transport = _scheme(str(conf.broker_transport or (broker[0] if broker else "")))
    options = dict(conf.broker_transport_options or {})
    tasks = {name: task for name, task in app.tasks.items() if not name.startswith("celery.")}
    return Conf(
        broker=transport,
        backend=_scheme(backend),
        broker_url=" or ".join(map(mask_url, broker)),
        backend_url=mask_url(backend) if "://" in backend else _scheme(backend),
        visibility_timeout=_seconds(options.get("visibility_timeout", _VISIBILITY.get(transport))),
        prefetch=int(conf.worker_prefetch_multiplier),
        result_expires=_seconds(conf.result_expires),
        hijacks_root=bool(conf.worker_hijack_root_logger),
        accepts_pickle=any("pickle" in str(one) for one in conf.accept_content or ()),
        late=frozenset(name for name, task in tasks.items() if task.acks_late),
        tracked=frozenset(name for name, task in tasks.items() if _is_tracked(task)),
        ignoring=frozenset(name for name, task in tasks.items() if task.ignore_result),
        has_plet=has_plet,
        enabled=enabled,
        broken_import=broken,
    )


def decide_conf(conf: Conf, *, longest: Mapping[str, float], retention: float) -> Iterator[Finding]:
    """Say which settings are risky for this app.

    Args:
        longest: each task's longest run on record, in seconds.
        retention: seconds that a run is kept.
    """
    yield from _recording(conf)
    yield from _broker(conf)
    yield from _backend(conf, retention)
    yield from _visibility(conf, longest)
    yield from _early(conf, longest)
    if not conf.hijacks_root:
        yield _finding(
            "celery.logging",
            Level.NOTE,
            "worker_hijack_root_logger is off: the root logger keeps its own level (WARNING unless "
            "you set one), and what is below it is not recorded either",
            "logging.getLogger().setLevel(logging.INFO) in your set-up, if INFO lines are missing",
        )
    if conf.accepts_pickle:
        yield _finding(
            "celery.pickle",
            Level.WARNING,
            "accept_content allows pickle: whoever can write to the broker can run code in the workers",
            "accept_content = ['json']",
        )


def _recording(conf: Conf) -> Iterator[Finding]:
    if conf.broken_import:
        yield _finding(
            "celery.tasks",
            Level.ERROR,
            f"the tasks cannot be imported: {conf.broken_import}",
            "mend the import; a worker would not start either",
        )
    if not conf.has_plet:
        yield _finding(
            "celery.plet",
            Level.ERROR,
            "this app has no Plet(app): nothing of it is recorded",
            "add `plet = Plet(app)` where the app is made",
            docs="README.md#install",
        )
    elif not conf.enabled:
        yield _finding(
            "celery.plet",
            Level.WARNING,
            "recording is off (plet_enabled, PLET_ENABLED)",
            "remove PLET_ENABLED=0",
        )
    else:
        count = f"{len(conf.tracked)} of them tracked" if conf.tracked else "no TrackedTask"
        yield _finding("celery.plet", Level.OK, f"runs are recorded; {count}")


def _broker(conf: Conf) -> Iterator[Finding]:
    shown = conf.broker_url or "none set"
    if not conf.broker:
        yield _finding(
            "celery.broker",
            Level.NOTE,
            "no broker is set here: Celery falls back to RabbitMQ on this host",
            "set broker_url, or use celery plet up",
        )
    elif conf.broker == "filesystem":
        yield _finding(
            "celery.broker",
            Level.ERROR,
            f"{shown}: Celery's file system broker loses messages and ends workers under load",
            "use Redis, Valkey or RabbitMQ; for development celery plet up brings a Valkey",
        )
    elif conf.broker in ("sqla", "sqlalchemy", "db"):
        yield _finding(
            "celery.broker",
            Level.WARNING,
            f"{shown}: this broker has no remote control (no cancel), "
            "and with it a lost child is noticed only after 10 s",
            "use Redis, Valkey or RabbitMQ",
        )
    else:
        yield _finding("celery.broker", Level.OK, shown)


def _backend(conf: Conf, retention: float) -> Iterator[Finding]:
    shown = conf.backend_url or conf.backend
    findings = list(_backend_trouble(conf, shown))
    yield from findings or [_finding("celery.backend", Level.OK, shown)]
    both = conf.tracked & conf.ignoring
    if both and conf.backend != "disabled":
        yield _finding(
            "celery.ignore_result",
            Level.NOTE,
            f"{_names(both)} ignore results: AsyncResult.info shows no progress of them; plet's own views do",
            "ignore_result=False where a client reads progress from the result backend",
        )
    if conf.backend not in ("disabled", "rpc") and conf.result_expires and conf.result_expires < retention:
        yield _finding(
            "celery.result_expires",
            Level.NOTE,
            f"results expire after {span(conf.result_expires)}, runs are kept for {span(retention)}: "
            "an old id is PENDING for AsyncResult while its run is still shown",
            "result_expires = plet_retention_days * 86400, if clients ask for old results",
        )


def _backend_trouble(conf: Conf, shown: str) -> Iterator[Finding]:
    if conf.backend == "rpc":
        level = Level.WARNING if conf.tracked else Level.NOTE
        yield _finding(
            "celery.backend",
            level,
            "the rpc backend answers only whoever published: nobody else reads progress, chords fail",
            "use redis:// as result backend, or read progress with TrackedResult from the store",
        )
    elif conf.backend in ("file", "filesystem"):
        yield _finding(
            "celery.backend",
            Level.WARNING,
            f"{shown}: a reader sees PENDING while a result is written, and two writers spoil the file",
            "use redis:// or db+postgresql:// as result backend",
        )
    elif conf.backend == "disabled":
        yield _finding(
            "celery.backend",
            Level.NOTE,
            "no result backend: AsyncResult knows nothing; state and progress are in plet's store",
            "set result_backend, if clients use AsyncResult or chords",
        )


def _visibility(conf: Conf, longest: Mapping[str, float]) -> Iterator[Finding]:
    limit = conf.visibility_timeout
    if limit is None:
        return
    over = {name: seconds for name, seconds in longest.items() if seconds > limit}
    late = {name: seconds for name, seconds in over.items() if name in conf.late}
    fix = f"broker_transport_options = {{'visibility_timeout': {_roomy(max(over.values(), default=limit))}}}"
    if late:
        yield _finding(
            "celery.visibility_timeout",
            Level.ERROR,
            f"{_longest(late)} runs longer than the visibility timeout ({span(limit)}) and acknowledges "
            "late: the broker hands it out again while it runs, so it runs twice",
            fix,
        )
    elif over and conf.prefetch != 1:
        yield _finding(
            "celery.visibility_timeout",
            Level.WARNING,
            f"{_longest(over)} runs longer than the visibility timeout ({span(limit)}): a message that a "
            f"worker has reserved behind it (worker_prefetch_multiplier {conf.prefetch}) is handed out "
            "again, and runs twice",
            f"{fix}, or worker_prefetch_multiplier = 1",
        )
    else:
        yield _finding(
            "celery.visibility_timeout",
            Level.OK,
            f"visibility timeout {span(limit)}, no run on record is longer",
        )


def _early(conf: Conf, longest: Mapping[str, float]) -> Iterator[Finding]:
    long = {name: seconds for name, seconds in longest.items() if seconds >= _LONG and name not in conf.late}
    if long:
        yield _finding(
            "celery.acks_early",
            Level.WARNING,
            f"{_longest(long)} acknowledges when it starts (acks_late is off): a worker that is "
            "killed or deployed in the middle loses the run, and nobody runs it again",
            "acks_late=True with reject_on_worker_lost=True, where running twice does no harm",
        )


def _finding(check: str, level: Level, text: str, fix: str = "", docs: str = "") -> Finding:
    return Finding(
        check=check,
        level=level,
        text=text,
        fix=fix if level > Level.OK else "",
        docs=docs or (_DOCS if level >= Level.NOTE else ""),
    )


def _names(names: Sequence[str] | frozenset[str]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    return ", ".join(shown[:3]) + more


def _longest(runs: Mapping[str, float]) -> str:
    name = max(runs, key=lambda one: runs[one])
    more = f" and {len(runs) - 1} more tasks" if len(runs) > 1 else ""
    return f"{name}{more} (longest run {span(runs[name])})"


def _roomy(seconds: float) -> int:
    """Return twice the time, in whole hours."""
    return max(1, -(-int(2 * seconds) // 3600)) * 3600


def _is_tracked(task: Any) -> bool:
    return any(base.__module__ == "plet_celery.task" for base in type(task).__mro__)


def _urls(value: Any) -> list[str]:
    if not value:
        return []
    parts = value if isinstance(value, list | tuple) else str(value).split(";")
    return [str(part).strip() for part in parts if str(part).strip()]


def _scheme(url: str) -> str:
    """Return the scheme without a driver: `db+postgresql://…` is `db`, `sqla+sqlite://` is `sqla`."""
    return url.partition("://")[0].partition("+")[0].strip().lower()


def _seconds(value: Any) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
