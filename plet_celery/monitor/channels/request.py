"""One web request to an address that an operator chose, of which only the status is looked at.

Not a general client: it follows no redirect, reads no environment, keeps no connection, and reads at
most 64 KiB of an answer. Each step ends by one deadline, so that a peer which answers a byte a minute
holds nobody.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from plet_celery.monitor.channels.addresses import is_public
from plet_celery.monitor.channels.channel import Undelivered

Resolve = Callable[..., Iterable[Any]]
"""As `socket.getaddrinfo`."""

_HEAD_MAX: Final = 64 << 10
_REST_MAX: Final = 64 << 10
_REST_SECONDS: Final = 0.5
_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Where a request may go, and how."""

    allow_private: bool = False
    proxy: str | None = None
    """`http://host:port`; then the proxy resolves the name, and its own rules hold for the rest."""
    context: ssl.SSLContext | None = None
    """None: the system's certificates."""
    resolve: Resolve = socket.getaddrinfo


def ask(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes = b"",
    seconds: float,
    rules: Rules,
) -> int:
    """Send a request and return the status of its answer.

    Args:
        url: http or https, plain ASCII, without user information.
        headers: none of Host, Connection, Content-Length.
        seconds: all of it ends by then, except that the name's resolver takes its own time.

    Raises:
        Undelivered: there was no answer; why, without the URL.
    """
    deadline = time.monotonic() + seconds
    try:
        with contextlib.closing(_opened(urlsplit(url), rules, deadline)) as peer:
            return _exchange(peer, _head(method, url, headers, body, rules) + body, deadline)
    except TimeoutError:
        raise Undelivered(f"no answer within {seconds:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise Undelivered(f"its certificate is not valid: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise Undelivered(f"no TLS with it: {error.reason}") from None
    except socket.gaierror:
        raise Undelivered("the name of its host is not known") from None
    except UnicodeError:
        raise Undelivered("the name of its host is none") from None
    except OSError as error:
        raise Undelivered(f"no connection: {error.strerror or type(error).__name__}") from None


def _head(method: str, url: str, headers: Mapping[str, str], body: bytes, rules: Rules) -> bytes:
    parts = urlsplit(url)
    place = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if rules.proxy and parts.scheme == "http":
        place = f"http://{parts.netloc}{place}"
    own = {"Host": parts.netloc, "Connection": "close"} | ({"Content-Length": str(len(body))} if body else {})
    lines = [
        f"{method} {place} HTTP/1.1",
        *(f"{name}: {value}" for name, value in {**own, **headers}.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _opened(parts: SplitResult, rules: Rules, deadline: float) -> socket.socket:
    host, port = parts.hostname or "", _port(parts)
    if rules.proxy is None:
        peer = _connected(_resolved(host, port, rules), rules.allow_private, deadline)
    else:
        _refuse_numbers(host, port, rules)
        proxy = urlsplit(rules.proxy)
        found = _resolved(proxy.hostname or "", _port(proxy), rules)
        peer = _connected(found, True, deadline)
    try:
        if rules.proxy is not None and parts.scheme == "https":
            _tunnel(peer, host, port, deadline)
        if parts.scheme == "https":
            peer.settimeout(_left(deadline))
            context = rules.context or ssl.create_default_context()
            return context.wrap_socket(peer, server_hostname=host)
    except BaseException:
        peer.close()
        raise
    return peer


def _port(parts: SplitResult) -> int:
    if parts.port == 0:
        raise Undelivered("its address has the port 0, at which nobody listens")
    return parts.port or _PORTS[parts.scheme]


def _resolved(host: str, port: int, rules: Rules) -> list[Any]:
    return list(rules.resolve(host, port, type=socket.SOCK_STREAM))


def _connected(found: list[Any], allow_private: bool, deadline: float) -> socket.socket:
    """Return a connection to the first address that may be reached and answers."""
    allowed = [one for one in found if allow_private or is_public(one[4][0])]
    if not allowed:
        raise Undelivered("refused: its host has no public address (allow_private lets it through)")
    trouble: OSError = TimeoutError()
    for number, (family, kind, protocol, _, address) in enumerate(allowed):
        peer = socket.socket(family, kind, protocol)
        try:
            peer.settimeout(_left(deadline) / (len(allowed) - number))
            peer.connect(address)
            # What counts is where the socket really is.
            if not allow_private and not is_public(peer.getpeername()[0]):
                raise Undelivered("refused: it is connected to an address that is not public")
            return peer
        except OSError as error:
            peer.close()
            trouble = error
        except BaseException:
            peer.close()
            raise
    raise trouble


def _refuse_numbers(host: str, port: int, rules: Rules) -> None:
    """Refuse a host that is an address itself, and not a public one; a name is the proxy's to judge."""
    if rules.allow_private:
        return
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return
    if not all(is_public(str(one[4][0])) for one in found):
        raise Undelivered("refused: its host has no public address (allow_private lets it through)")


def _tunnel(peer: socket.socket, host: str, port: int, deadline: float) -> None:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    status = _exchange(
        peer, f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode("ascii"), deadline, rest=False
    )
    if status != 200:
        raise Undelivered(f"the proxy answered {status}")


def _exchange(peer: socket.socket, request: bytes, deadline: float, *, rest: bool = True) -> int:
    peer.settimeout(_left(deadline))
    # Somebody who answers before it has read all, and closes, has answered.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        peer.sendall(request)
    status, got = 100, b""
    while 100 <= status < 200:
        status, got = _answer(peer, got, deadline)
    if rest:
        _read_rest(peer, min(deadline, time.monotonic() + _REST_SECONDS))
    return status


def _answer(peer: socket.socket, got: bytes, deadline: float) -> tuple[int, bytes]:
    """Read the head of an answer; return its status and what was read behind it."""
    while b"\r\n\r\n" not in got:
        if len(got) > _HEAD_MAX:
            raise Undelivered("its answer is not HTTP: no end of the head")
        peer.settimeout(_left(deadline))
        more = peer.recv(4096)
        if not more:
            raise Undelivered("it closed the connection without an answer")
        got += more
    head, _, behind = got.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if (
        not words[0].startswith(b"HTTP/1.")
        or len(words) < 2
        or not (words[1].isdigit() and len(words[1]) == 3)
    ):
        raise Undelivered("its answer is not HTTP")
    return int(words[1]), behind


def _read_rest(peer: socket.socket, deadline: float) -> None:
    """Read a little of the body, so that a well-behaved server sees its answer taken; throw it away."""
    size = 0
    with contextlib.suppress(OSError):
        while size < _REST_MAX:
            peer.settimeout(_left(deadline))
            more = peer.recv(16 << 10)
            if not more:
                return
            size += len(more)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
