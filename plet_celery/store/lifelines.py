"""The sockets of an engine's connections: to break those on which a thread waits for ever.

Time-outs of the drivers end a wait for a server that is gone. They do not where something in between,
such as a proxy that hangs, still acknowledges every packet.
"""

from __future__ import annotations

import contextlib
import os
import socket
import weakref
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine


class Lifelines:
    """Knows every connection that an engine has opened."""

    def __init__(self, engine: Engine) -> None:
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        if engine.dialect.name != "sqlite":
            sa.event.listen(engine, "connect", self._note)

    def sever(self) -> int:
        """Break them all, from any thread; who waits on one gets an error. Return how many there were."""
        severed = 0
        for connection in list(self._connections):
            with contextlib.suppress(Exception):  # it was closed in this moment
                with socket.socket(fileno=os.dup(_descriptor(connection))) as line:
                    line.shutdown(socket.SHUT_RDWR)
                severed += 1
        return severed

    def _note(self, connection: Any, record: Any) -> None:
        self._connections.add(connection)


def _descriptor(connection: Any) -> int:
    # psycopg has it; PyMySQL keeps its socket to itself.
    found = connection.fileno() if hasattr(connection, "fileno") else connection._sock.fileno()
    return int(found)
