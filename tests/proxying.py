"""A TCP proxy before a server: goes down and up, swallows what passes, cuts at a commit."""

from __future__ import annotations

import contextlib
import enum
import socket
import threading
from collections.abc import Iterator

import sqlalchemy as sa


class Cut(enum.Enum):
    """Where a connection breaks in the middle of a commit: its client cannot tell which it was."""

    BEFORE = "the server never hears of it"
    AFTER = "the server has committed, its answer is lost"


class Proxy:
    """Forwards to one server; a thread per connection and direction."""

    def __init__(self, host: str, port: int, *, listen: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._listener: socket.socket | None = None
        self._swallows = threading.Event()
        self._cut: Cut | None = None
        self.cuts = 0
        """How many commits were cut."""
        self.accepted = 0
        """How many connections came."""
        self.address = (listen, 0)
        self.up()

    @property
    def port(self) -> int:
        return self.address[1]

    def url(self, url: str) -> str:
        """Return `url` with this proxy in the server's place."""
        parsed = sa.make_url(url).set(host=self.address[0], port=self.port)
        return parsed.difference_update_query(["host", "port"]).render_as_string(hide_password=False)

    def up(self) -> None:
        """Accept connections, at the port that it had before."""
        self._swallows.clear()
        if self._listener is not None:
            return
        listener = socket.create_server(self.address, backlog=64)
        self.address = listener.getsockname()[:2]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections, and break those there are."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # Closing alone would leave the thread in `accept`, and with it the port.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.break_all()

    def break_all(self) -> None:
        """Break all connections; new ones are welcome."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            _close(*pair)

    def swallow(self) -> None:
        """Go on accepting, and forward nothing: everybody waits."""
        self._swallows.set()

    def cut_next_commit(self, where: Cut) -> None:
        """Break the connection of the next commit that passes."""
        self._cut = where

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                server = _connected(self._target)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._pairs.add((client, server))
            cut = threading.Event()
            for act in (self._to_server, self._to_client):
                threading.Thread(target=act, args=(client, server, cut), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while found := client.recv(1 << 16):
                if self._swallows.is_set():
                    continue
                where = self._cut
                if where is not None and _is_commit(found):
                    self._cut = None
                    if where is Cut.BEFORE:
                        self.cuts += 1
                        break
                    cut.set()
                server.sendall(found)
        if not cut.is_set():
            self._drop(client, server)

    def _to_client(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while found := server.recv(1 << 16):
                if cut.is_set():
                    self.cuts += 1
                    break
                if not self._swallows.is_set():
                    client.sendall(found)
        self._drop(client, server)

    def _drop(self, client: socket.socket, server: socket.socket) -> None:
        with self._lock:
            self._pairs.discard((client, server))
        _close(client, server)


def _connected(target: tuple[str, int]) -> socket.socket:
    host, port = target
    if not host.startswith("/"):
        return socket.create_connection(target, timeout=30)
    # A PostgreSQL of the wheel listens on a socket alone.
    found = socket.socket(socket.AF_UNIX)
    found.connect(f"{host}/.s.PGSQL.{port}")
    return found


def _is_commit(sent: bytes) -> bool:
    # The statement alone: READ COMMITTED is said at every beginning.
    return b"COMMIT\0" in sent or sent.endswith(b"\x03COMMIT")


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


@contextlib.contextmanager
def proxy_before(url: str, *, listen: str = "127.0.0.1") -> Iterator[Proxy]:
    """Yield a proxy before the server of a database URL."""
    parsed = sa.make_url(url)
    default = 5432 if parsed.get_backend_name() == "postgresql" else 3306
    given = parsed.query.get("host")
    host = given if isinstance(given, str) else parsed.host or "127.0.0.1"
    port = parsed.query.get("port")
    proxy = Proxy(host, parsed.port or int(port if isinstance(port, str) else default), listen=listen)
    try:
        yield proxy
    finally:
        proxy.down()
