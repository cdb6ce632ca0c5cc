"""A receiver of webhooks on loopback: it answers, fails, hangs, redirects, is late, closes or floods."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services import missing

GIGABYTE: Final = 1 << 30


@dataclass(frozen=True)
class Request:
    """What came in."""

    method: str
    place: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A server; `behave` says what it does with each request."""

    port: int
    scheme: str = "http"
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    sent_bytes: int = 0
    closing: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    """Set it, and whoever answers late does so."""
    behave: Callable[[Receiver, socket.socket, Request], None] = field(
        default_factory=lambda: answer(200), repr=False
    )

    @property
    def url(self) -> str:
        """Its address."""
        return f"{self.scheme}://127.0.0.1:{self.port}/hook/t0k3n?x=1"


Behaviour = Callable[[Receiver, socket.socket, Request], None]


def answer(status: int, *headers: str, body: bytes = b"") -> Behaviour:
    """Answer at once."""

    def behave(receiver: Receiver, peer: socket.socket, request: Request) -> None:
        head = [f"HTTP/1.1 {status} Whatever", *headers, f"Content-Length: {len(body)}", "Connection: close"]
        peer.sendall("\r\n".join([*head, "", ""]).encode() + body)

    return behave


def hang(receiver: Receiver, peer: socket.socket, request: Request) -> None:
    """Answer never."""
    receiver.closing.wait(60)


def late(receiver: Receiver, peer: socket.socket, request: Request) -> None:
    """Answer when the test releases it."""
    receiver.release.wait(60)
    answer(200)(receiver, peer, request)


def close(receiver: Receiver, peer: socket.socket, request: Request) -> None:
    """Close without an answer."""


def redirect(to: str) -> Behaviour:
    """Send somewhere else."""
    return answer(307, f"Location: {to}")


def flood(receiver: Receiver, peer: socket.socket, request: Request) -> None:
    """Answer with a gigabyte."""
    block = b"x" * (1 << 16)
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIGABYTE)
    while receiver.sent_bytes < GIGABYTE and not receiver.closing.is_set():
        receiver.sent_bytes += peer.send(block)


def flood_head(receiver: Receiver, peer: socket.socket, request: Request) -> None:
    """Answer with a head that does not end."""
    peer.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while receiver.sent_bytes < GIGABYTE and not receiver.closing.is_set():
        receiver.sent_bytes += peer.send(b"x" * (1 << 16))


def drip(receiver: Receiver, peer: socket.socket, request: Request) -> None:
    """Answer byte by byte, for ever."""
    peer.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while not receiver.closing.wait(0.05):
        peer.sendall(b"x")


def say(text: bytes) -> Behaviour:
    """Answer with these bytes."""
    return lambda receiver, peer, request: peer.sendall(text)


@contextmanager
def receiving(
    behave: Behaviour | None = None, *, context: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """Yield a receiver on a free port of loopback; it ends, and so do its connections."""
    listener = socket.create_server(("127.0.0.1", 0))
    receiver = Receiver(listener.getsockname()[1], "https" if context else "http")
    if behave is not None:
        receiver.behave = behave
    open_ones: set[socket.socket] = set()

    def serve(peer: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            peer.settimeout(60)
            if context is not None:
                peer = context.wrap_socket(peer, server_side=True)
            open_ones.add(stack.enter_context(peer))
            request = read_request(peer)
            if request is not None:
                receiver.requests.append(request)
                receiver.behave(receiver, peer, request)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                receiver.connections += 1
                threading.Thread(target=serve, args=(peer,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.closing.set()
        receiver.release.set()
        # A listener that is only closed keeps its accepting thread.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for peer in list(open_ones):
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def read_request(peer: socket.socket) -> Request | None:
    """Read one request; None where nothing came."""
    got = b""
    while b"\r\n\r\n" not in got:
        more = peer.recv(65536)
        if not more:
            return None
        got += more
    head, _, body = got.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, place, _ = first.split(" ")
    headers = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("Content-Length", "0")):
        more = peer.recv(65536)
        if not more:
            return None
        body += more
    return Request(method, place, headers, body)


def certificate(folder: Path, *names: str) -> Path:
    """Return a file with a key and a certificate for these names (`DNS:localhost`, `IP:127.0.0.1`)."""
    program = shutil.which("openssl")
    if program is None:
        missing("openssl", "apt install openssl")
    made = folder / "certificate.pem"
    subject = ["-subj", "/CN=plet test", "-addext", f"subjectAltName={','.join(names)}"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    files = ["-keyout", str(made), "-out", str(folder / "public.pem")]
    subprocess.run([program, "req", "-x509", *kind, *subject, *files], check=True, capture_output=True)
    with made.open("ab") as file:
        file.write((folder / "public.pem").read_bytes())
    return made
