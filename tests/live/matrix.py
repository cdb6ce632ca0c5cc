"""The matrix of pools, ends and brokers: what plet says, what Celery says, and why a pool or broker differs.

`test_matrix.py` holds it against real workers, `docs/matrix_page.py` prints it as docs/pools.md: so the
page says what was seen. Plain data; nothing is imported from Celery or plet.
"""

from __future__ import annotations

from typing import NamedTuple

POOLS = ("prefork", "threads", "gevent", "solo", "eager")
BROKERS = {
    "valkey": "Valkey",
    "redis": "Redis, `global_keyprefix`",
    "rabbitmq-classic": "RabbitMQ, classic queues",
    "rabbitmq-quorum": "RabbitMQ, quorum queues, `confirm_publish`",
}


class Outcome(NamedTuple):
    """What a run comes to."""

    plet: str
    """The run's state in the store; `a or b` where Celery's order decides."""
    celery: str
    """The state in the result backend, with `task_track_started`; `a or b` where Celery's order decides."""
    attempts: tuple[str, ...] = ()
    """The states of its attempts in order, where there is more than one."""
    why: str = ""
    """Celery's reason, where it is not what prefork does."""


SMOKE = (("threads", "rabbitmq-quorum"), ("gevent", "rabbitmq-classic"), ("gevent", "redis"))
"""Pools other than prefork with brokers other than Valkey: enough to see that they fit."""

ENDS: dict[str, tuple[str, Outcome]] = {
    "success": ("the task returns", Outcome("succeeded", "SUCCESS")),
    "exception": ("it raises", Outcome("failed", "FAILURE")),
    "retry, then success": (
        "`self.retry()` once",
        Outcome("succeeded", "SUCCESS", ("retrying", "succeeded")),
    ),
    "retry, then failure": (
        "`autoretry_for` gives up",
        Outcome("failed", "FAILURE", ("retrying", "failed")),
    ),
    "Ignore": ("`raise Ignore()`", Outcome("ignored", "STARTED")),
    "Reject": ("`raise Reject()`", Outcome("rejected", "FAILURE")),
    "Reject(requeue=True)": (
        "rejected, and delivered again",
        Outcome("succeeded", "SUCCESS", ("rejected", "succeeded")),
    ),
    "replace": ("`self.replace(…)`", Outcome("succeeded", "SUCCESS", ("ignored", "succeeded"))),
    "expired": ("`expires` is over when its turn comes", Outcome("expired", "REVOKED")),
    "unknown task": ("no worker knows its name", Outcome("rejected", "FAILURE")),
    "revoked before its start": ("`control.revoke(id)`", Outcome("cancelled", "REVOKED")),
    "revoked while running": ("`control.revoke(id, terminate=True)`", Outcome("cancelled", "REVOKED")),
    "chain": ("the last step", Outcome("succeeded", "SUCCESS")),
    "group": ("a member", Outcome("succeeded", "SUCCESS")),
    "chord": ("the body", Outcome("succeeded", "SUCCESS")),
    "soft limit": ("`soft_time_limit` strikes and escapes", Outcome("timed_out", "FAILURE")),
    "hard limit": ("`time_limit` strikes", Outcome("timed_out", "FAILURE")),
    "sys.exit": ("the task calls `sys.exit(3)`", Outcome("lost", "FAILURE")),
    "process killed": ("SIGKILL of the task's process", Outcome("lost", "FAILURE")),
    "worker killed": ("SIGKILL of the whole worker", Outcome("lost", "STARTED")),
    "warm shutdown": ("SIGTERM while it runs", Outcome("succeeded", "SUCCESS")),
    "cold shutdown": ("SIGQUIT while it runs", Outcome("interrupted", "RETRY")),
    "cold shutdown, acks_late": (
        "the same, and delivered again to the next worker",
        Outcome("succeeded", "SUCCESS", ("interrupted", "succeeded")),
    ),
    "soft shutdown": ("SIGQUIT with `worker_soft_shutdown_timeout`", Outcome("interrupted", "RETRY")),
    "soft shutdown, acks_late": (
        "the same, and delivered again to the next worker",
        Outcome("succeeded", "SUCCESS", ("interrupted", "succeeded")),
    ),
}
"""What happens, and what it comes to with prefork."""

STOPS = tuple(end for end in ENDS if "shutdown" in end or end == "worker killed")
"""Ends that take a worker with them."""

_NO_LIMITS = "the {} pool knows no time limits: the task runs to its own end"
_CANNOT_KILL = "a thread cannot be killed: `terminate_job` raises NotImplementedError, and the task goes on"
_WAITS = f"{_CANNOT_KILL}; the worker waits for it, and exits with 1"
_SOLO_COLD = "the pool's `terminate_job` raises NotImplementedError inside the task, which fails with it"
_EXIT_UNSEEN = "the pool's own callback fails on SystemExit, so that no result is ever stored"

_NO_MESSAGE = "`apply()` sends no message"
_NO_WORKER = "there is no worker"

# (end, pool) where it is not what prefork does; a text says why the end does not exist there.
POOL_EXCEPTIONS: dict[tuple[str, str], Outcome | str] = {
    ("soft limit", "threads"): Outcome("succeeded", "SUCCESS", why=_NO_LIMITS.format("threads")),
    ("hard limit", "threads"): Outcome("succeeded", "SUCCESS", why=_NO_LIMITS.format("threads")),
    ("soft limit", "solo"): Outcome("succeeded", "SUCCESS", why=_NO_LIMITS.format("solo")),
    ("hard limit", "solo"): Outcome("succeeded", "SUCCESS", why=_NO_LIMITS.format("solo")),
    ("soft limit", "gevent"): Outcome(
        "succeeded",
        "SUCCESS",
        why="the gevent pool knows no soft limits",
    ),
    ("revoked while running", "threads"): Outcome("succeeded", "SUCCESS", why=_CANNOT_KILL),
    ("revoked while running", "solo"): Outcome(
        "succeeded", "SUCCESS", why="a solo worker hears no remote control while a task runs"
    ),
    ("sys.exit", "threads"): Outcome("lost", "STARTED", why=_EXIT_UNSEEN),
    ("sys.exit", "gevent"): Outcome("lost", "STARTED", why=_EXIT_UNSEEN),
    ("process killed", "threads"): "the task's process is the worker: see *worker killed*",
    ("process killed", "gevent"): "the task's process is the worker: see *worker killed*",
    ("process killed", "solo"): "the task's process is the worker: see *worker killed*",
    ("cold shutdown", "threads"): Outcome("succeeded", "SUCCESS", why=_WAITS),
    ("cold shutdown, acks_late", "threads"): Outcome("succeeded", "SUCCESS", ("succeeded",), why=_WAITS),
    ("soft shutdown", "threads"): Outcome("succeeded", "SUCCESS", why=_WAITS),
    ("soft shutdown, acks_late", "threads"): Outcome("succeeded", "SUCCESS", ("succeeded",), why=_WAITS),
    ("cold shutdown", "gevent"): Outcome(
        "interrupted",
        "RETRY or STARTED",
        why="storing RETRY from the signal handler may fail (BlockingSwitchOutError)",
    ),
    ("cold shutdown, acks_late", "gevent"): Outcome(
        "interrupted",
        "STARTED",
        ("interrupted",),
        why="a killed greenlet counts as ended well, so that Celery acknowledges its message: no redelivery",
    ),
    ("soft shutdown", "gevent"): Outcome(
        "succeeded or interrupted",
        "SUCCESS or RETRY or STARTED",
        why="where the signal finds the hub, Celery's wait fails (BlockingSwitchOutError), "
        "and the worker waits for its tasks",
    ),
    ("soft shutdown, acks_late", "gevent"): "as without `acks_late`",
    ("cold shutdown", "solo"): Outcome("interrupted", "FAILURE", why=_SOLO_COLD),
    ("cold shutdown, acks_late", "solo"): Outcome("interrupted", "FAILURE", ("interrupted",), why=_SOLO_COLD),
    ("soft shutdown", "solo"): Outcome("interrupted", "FAILURE", why=_SOLO_COLD),
    ("soft shutdown, acks_late", "solo"): "as without `acks_late`",
    ("Ignore", "eager"): Outcome("ignored", "IGNORED", why="an EagerResult says what nobody stores"),
    ("Reject", "eager"): Outcome("rejected", "REJECTED", why="an EagerResult says what nobody stores"),
    ("Reject(requeue=True)", "eager"): Outcome(
        "rejected", "REJECTED", ("rejected",), why=f"{_NO_MESSAGE} that could be delivered again"
    ),
    ("replace", "eager"): Outcome(
        "succeeded",
        "SUCCESS",
        ("succeeded", "succeeded"),
        why="the other one runs inside `replace`",
    ),
    ("expired", "eager"): Outcome("succeeded", "SUCCESS", why="`apply()` takes no notice of `expires`"),
    ("unknown task", "eager"): _NO_MESSAGE,
    ("revoked before its start", "eager"): _NO_WORKER,
    ("revoked while running", "eager"): _NO_WORKER,
    ("soft limit", "eager"): Outcome("succeeded", "SUCCESS", why="nobody watches the clock"),
    ("hard limit", "eager"): Outcome("succeeded", "SUCCESS", why="nobody watches the clock"),
    ("sys.exit", "eager"): Outcome("lost", "", why="SystemExit goes on to the caller: there is no result"),
    ("process killed", "eager"): "the task's process is the caller",
    **{(end, "eager"): _NO_WORKER for end in STOPS},
    ("sys.exit", "solo"): Outcome("lost", "STARTED", why=f"{_EXIT_UNSEEN}; it ends the worker"),
}

NOTES = (
    "RabbitMQ drops a message whose `expires` is over while it waits behind others: no worker hears of it, "
    "Celery says PENDING for ever, and the run stays `queued`.",
    "On Redis a message that is not acknowledged within `visibility_timeout` is delivered again although "
    "its task still runs (`acks_late`, a long `countdown`): the run then has two running attempts, the "
    "second one marked `redelivered`.",
    "`priority` changes the order in which runs start, nothing else.",
)
"""What the table has no room for; each is shown by a test beside this module."""


def outcome(end: str, pool: str) -> Outcome | None:
    """Return what an end comes to, with any broker; None where it does not exist."""
    found = POOL_EXCEPTIONS.get((end, pool)) or ENDS[end][1]
    return found if isinstance(found, Outcome) else None


def reason(end: str, pool: str) -> str:
    """Return Celery's reason for an exception, or an empty text."""
    found = POOL_EXCEPTIONS.get((end, pool))
    return found.why if isinstance(found, Outcome) else found or ""
