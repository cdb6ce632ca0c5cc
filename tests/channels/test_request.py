"""A web request reaches public addresses only, follows nothing, and ends in time whatever the peer does."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from webhooks import (
    GIGABYTE,
    answer,
    certificate,
    close,
    drip,
    flood,
    flood_head,
    hang,
    late,
    receiving,
    redirect,
    say,
)

from plet_celery.monitor.channels.channel import Undelivered
from plet_celery.monitor.channels.request import Rules, ask

PRIVATE = Rules(allow_private=True)


def asked(url: str, rules: Rules = PRIVATE, *, seconds: float = 20.0, body: bytes = b"{}") -> int:
    return ask("POST", url, headers={"X-One": "1"}, body=body, seconds=seconds, rules=rules)


def resolving(*addresses: str, port: int = 443) -> Rules:
    """Rules with a resolver that answers this, once."""
    answers = [
        [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port))
            for one in addresses
        ]
    ]
    return Rules(resolve=lambda *args, **kwargs: answers.pop())


class Unconnected(socket.socket):
    """A socket that must not be used."""

    made = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        Unconnected.made += 1
        super().__init__(*args, **kwargs)

    def connect(self, address: Any) -> None:
        raise AssertionError(f"it connects to {address}")


def test_the_status_is_returned_and_the_request_is_plain_http() -> None:
    with receiving(answer(204)) as receiver:
        status = asked(receiver.url, body=b"abc")

    assert status == 204
    (request,) = receiver.requests
    assert (request.method, request.place, request.body) == ("POST", "/hook/t0k3n?x=1", b"abc")
    assert request.headers["Host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["X-One"] == "1"
    assert request.headers["Connection"] == "close"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "::1", "::ffff:127.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::", "fec0::1", "fd00:ec2::254",
    ],
)  # fmt: skip
def test_a_private_address_is_refused_before_anything_connects(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Unconnected.made = 0
    monkeypatch.setattr(socket, "socket", Unconnected)

    with pytest.raises(Undelivered, match="refused: its host has no public address"):
        asked("https://hooks.example.org/", resolving(address))

    assert Unconnected.made == 0


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f.1", "0177.1", "[::ffff:127.0.0.1]", "localhost"]
)
def test_loopback_in_any_form_is_refused_by_the_real_resolver(host: str) -> None:
    with receiving() as receiver:
        with pytest.raises(Undelivered, match="refused"):
            asked(f"http://{host}:{receiver.port}/", Rules())

        assert receiver.connections == 0


def test_the_negative_control_the_same_forms_reach_loopback_where_that_is_allowed() -> None:
    with receiving() as receiver:
        assert [asked(f"http://{host}:{receiver.port}/") for host in ("127.1", "2130706433")] == [200, 200]


def test_of_several_addresses_only_a_public_one_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", Unconnected)

    with pytest.raises(AssertionError, match="it connects to"):
        asked("https://hooks.example.org/", resolving("10.0.0.1", "::1", "93.184.216.34"))


def test_a_name_is_resolved_once_so_that_it_cannot_change_its_mind() -> None:
    """A second answer (rebinding) would raise: the resolver of the test has one."""
    with receiving() as receiver:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", receiver.port))]
        answers = [found]
        rules = Rules(allow_private=True, resolve=lambda *args, **kwargs: answers.pop())

        assert asked("http://hooks.example.org/", rules) == 200

    assert answers == []


def test_it_is_the_connected_address_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a packet filter redirects a public address to loopback."""
    with receiving() as receiver:

        class Redirected(socket.socket):
            def connect(self, address: Any) -> None:
                super().connect(("127.0.0.1", receiver.port))

        monkeypatch.setattr(socket, "socket", Redirected)
        with pytest.raises(Undelivered, match="refused: it is connected to an address that is not public"):
            asked("http://hooks.example.org/", resolving("93.184.216.34", port=80))

        assert receiver.requests == []


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with receiving() as inner, receiving(redirect(inner.url)) as receiver:
        assert asked(receiver.url) == 307

        assert inner.connections == 0


@pytest.mark.parametrize("behave", [hang, drip])
def test_whoever_does_not_answer_in_time_is_left(behave: Any) -> None:
    with receiving(behave) as receiver, pytest.raises(Undelivered, match="no answer within"):
        asked(receiver.url, seconds=0.5)


def test_an_answer_that_comes_late_is_none() -> None:
    with receiving(late) as receiver:
        with pytest.raises(Undelivered, match="no answer within"):
            asked(receiver.url, seconds=0.3)
        receiver.release.set()

        assert asked(receiver.url) == 200


def test_nobody_listening_and_a_closed_connection_are_told_apart() -> None:
    with receiving(close) as receiver, pytest.raises(Undelivered, match="closed the connection without"):
        asked(receiver.url)
    with pytest.raises(Undelivered, match="no connection: Connection refused"):
        asked(receiver.url)


def test_a_gigabyte_of_answer_is_not_read() -> None:
    with receiving(flood) as receiver:
        assert asked(receiver.url) == 200

    # What lies in the sockets' buffers was sent, too.
    assert receiver.sent_bytes < GIGABYTE / 20


def test_a_head_without_end_is_no_answer() -> None:
    with receiving(flood_head) as receiver, pytest.raises(Undelivered, match="no end of the head"):
        asked(receiver.url)

    assert receiver.sent_bytes < GIGABYTE / 20


@pytest.mark.parametrize(
    "text",
    [
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/1.1 abc x\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 2000 x\r\n\r\n",
    ],
)
def test_what_is_not_http_is_no_answer(text: bytes) -> None:
    with receiving(say(text)) as receiver, pytest.raises(Undelivered, match="its answer is not HTTP"):
        asked(receiver.url)


def test_an_interim_answer_is_passed_over() -> None:
    text = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\n\r\n"
    with receiving(say(text)) as receiver:
        assert asked(receiver.url) == 201


def test_an_answer_before_all_was_read_counts() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(60)

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(1000)
            peer.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(1 << 16):
                pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        assert asked(f"http://127.0.0.1:{listener.getsockname()[1]}/", body=b"x" * (1 << 20)) == 413
        thread.join(60)


def test_the_environments_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy, receiving() as receiver:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{proxy.port}")

        assert asked(receiver.url) == 200

        assert proxy.connections == 0


def test_a_proxy_that_is_named_is_used_and_gets_the_whole_address() -> None:
    with receiving() as proxy:
        rules = Rules(proxy=f"http://127.0.0.1:{proxy.port}")

        assert asked("http://hooks.example.org/a?b=c", rules) == 200

    assert proxy.requests[0].place == "http://hooks.example.org/a?b=c"


def test_for_https_a_proxy_is_asked_for_a_tunnel_and_may_say_no() -> None:
    with receiving(answer(403)) as proxy, pytest.raises(Undelivered, match="the proxy answered 403"):
        asked("https://hooks.example.org/a", Rules(proxy=f"http://127.0.0.1:{proxy.port}"))

    assert (proxy.requests[0].method, proxy.requests[0].place) == ("CONNECT", "hooks.example.org:443")


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "[::1]", "10.1"])
def test_a_private_address_is_refused_through_a_proxy_too(host: str) -> None:
    with receiving() as proxy, pytest.raises(Undelivered, match="refused"):
        asked(f"https://{host}/", Rules(proxy=f"http://127.0.0.1:{proxy.port}"))

    assert proxy.connections == 0


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"), "IP:127.0.0.1")


def serving(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def test_a_certificate_that_is_trusted_is_taken(pem: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(pem))
    with receiving(context=serving(pem)) as receiver:
        assert asked(receiver.url, Rules(allow_private=True, context=trusting)) == 200

    assert receiver.requests[0].body == b"{}"


def test_one_that_is_not_trusted_is_refused_and_nothing_is_sent(pem: Path) -> None:
    with receiving(context=serving(pem)) as receiver:
        with pytest.raises(Undelivered, match="its certificate is not valid"):
            asked(receiver.url)

        assert receiver.requests == []


def test_one_for_another_name_is_refused(pem: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(pem))
    with (
        receiving(context=serving(pem)) as receiver,
        pytest.raises(Undelivered, match="certificate is not valid"),
    ):
        asked(f"https://localhost:{receiver.port}/", Rules(allow_private=True, context=trusting))


def test_plain_http_behind_https_is_told(pem: Path) -> None:
    """Its receiver reads on for the end of a request, and so does not answer the handshake."""
    with receiving() as receiver, pytest.raises(Undelivered):
        asked(receiver.url.replace("http", "https"), seconds=0.5)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [("http://127.0.0.1:0/", None), ("https://[::1]:00/", None), ("http://a/", "http://127.0.0.1:0")],
)
def test_the_port_0_is_not_the_usual_one(url: str, proxy: str | None) -> None:
    with pytest.raises(Undelivered, match="its address has the port 0, at which nobody listens"):
        asked(url, Rules(allow_private=True, proxy=proxy))


def test_a_name_that_nobody_knows_is_told() -> None:
    with pytest.raises(Undelivered, match="the name of its host is not known"):
        asked("https://hooks.invalid/")


@pytest.mark.parametrize("host", ["a" * 64 + ".org", "..", "a..b"])
def test_a_name_that_is_none_is_told(host: str) -> None:
    with pytest.raises(Undelivered, match="the name of its host is"):
        asked(f"https://{host}/")
