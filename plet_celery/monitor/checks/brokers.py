"""The broker as a client sees it: does it answer, and how much lies in each queue."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from plet_celery.places import mask_url

if TYPE_CHECKING:
    from celery import Celery

_REDIS: Final = ("redis", "rediss", "sentinel", "valkey")
_CONNECT_MAX: Final = 3.0


@dataclass(frozen=True, kw_only=True)
class Depth:
    """One queue."""

    messages: int
    """Waiting ones, those of all priorities."""
    consumers: int | None
    """As the broker counts them; None where it does not."""
    is_there: bool = True
    """False: the broker has no such queue, or (Redis) nothing in it."""


@contextmanager
def connected(app: Celery, *, seconds: float) -> Iterator[Any]:
    """Open a connection of our own: none of a pool, which may be a stale one.

    Args:
        seconds: how long connecting, and each answer of Redis, may take.

    Raises:
        Exception: what the transport raises where that fails twice.
    """
    patience = min(seconds, _CONNECT_MAX)
    options: dict[str, Any] = {}
    transport = str(app.connection_for_write().transport_cls)
    if transport in _REDIS or any(transport.endswith(f"{one}:Transport") for one in _REDIS):
        options = {"socket_connect_timeout": patience, "socket_timeout": seconds, "retry_on_timeout": False}
    made: Any = app.connection_for_write(connect_timeout=patience, heartbeat=0, transport_options=options)
    with made as connection:
        connection.ensure_connection(max_retries=1, interval_start=0.1, interval_max=0.1)
        yield connection


def reach(app: Celery, *, seconds: float) -> float:
    """Connect, open a channel, and return the seconds that took.

    Raises:
        Exception: what the transport raises where that fails.
    """
    began = time.perf_counter()
    with connected(app, seconds=seconds) as connection, connection.channel():
        return time.perf_counter() - began


def depths(app: Celery, names: Iterable[str], *, seconds: float) -> dict[str, Depth]:
    """Return how many messages wait in each queue."""
    with connected(app, seconds=seconds) as connection:
        counts = connection.transport.driver_type == "amqp"
        return {name: _depth(connection, name, counts=counts) for name in dict.fromkeys(names)}


def shown(app: Celery) -> str:
    """Return where the broker is, without its password."""
    given: Any = app.conf.broker_write_url or app.conf.broker_url
    first = given[0] if isinstance(given, list | tuple) and given else given
    return mask_url(str(first or "").partition(";")[0])


def _depth(connection: Any, name: str, *, counts: bool) -> Depth:
    # A queue that is not there closes the channel: one for each.
    channel = connection.channel()
    try:
        if connection.transport.driver_type == "redis":
            # Asked by kombu whether there is such a queue, Redis is asked without `global_keyprefix`.
            messages = int(channel._size(name))
            return Depth(messages=messages, consumers=None, is_there=messages > 0)
        found = channel.queue_declare(queue=name, passive=True)
    except connection.channel_errors:
        return Depth(messages=0, consumers=0 if counts else None, is_there=False)
    else:
        consumers = int(found.consumer_count) if counts else None
        return Depth(messages=int(found.message_count), consumers=consumers)
    finally:
        channel.close()
