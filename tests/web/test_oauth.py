"""OAuth and Flower's other doors: signed cookies, both ways at once, a socket, prefixes."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flowers import RunningFlower, running_flower
from tornado.web import create_signed_value

SECRET = "canary-cookie-secret"
PROVIDER = (
    "--auth_provider=flower.views.auth.GithubLoginHandler",
    f"--cookie_secret={SECRET}",
    "--oauth2_key=key",
    "--oauth2_secret=canary-oauth-secret",
    "--oauth2_redirect_uri=http://localhost/login",
)
RULES = """
def rights(user):
    return {"ada@example.com": {"runs", "logs"}, "zoë": {"runs"}, "ada": {"runs"}}.get(user, set())

app.conf.plet_rights_for = rights
"""


@pytest.fixture(scope="module")
def run(shop: Any) -> str:
    """A run that is there."""
    shop.write(RULES)
    made = shop.story.run("shop.index", started=shop.now - 60)
    made.log("canary-line")
    made.succeed()
    shop.story.ship()
    return str(made.id)


@pytest.fixture(scope="module")
def flower(shop: Any, run: str) -> Iterator[RunningFlower]:
    """One with a provider; two may come in, one of them below a prefix."""
    allowed = "--auth=Ada@Example.com|ada@example.com|bob@example.com"
    with running_flower(shop.folder, *PROVIDER, allowed, "--url_prefix=ops") as found:
        yield found


def cookie(user: str, *, secret: str = SECRET, name: str = "user", age_days: float = 0.0) -> str:
    """A login's cookie as Flower's own handler sets it."""
    import time

    clock = lambda: time.time() - age_days * 86_400  # noqa: E731
    return f"user={create_signed_value(secret, name, user, clock=clock).decode()}"


def with_another_digit(signed: str) -> str:
    """A cookie whose signature ends in another digit than the right one."""
    return signed[:-1] + ("1" if signed.endswith("0") else "0")


@pytest.mark.parametrize("email", ["ada@example.com", "Ada@Example.com"])
def test_an_address_is_asked_about_in_lower_case(flower: RunningFlower, run: str, email: str) -> None:
    for path in ("plet/", f"plet/runs/{run}", f"plet/runs/{run}/log", "plet/?region=runs"):
        assert flower.get(path, Cookie=cookie(email)).status == 200, path
    assert f"Log out {email.lower()}" in flower.get("plet/", Cookie=cookie(email)).text


def test_who_is_let_in_without_a_right_sees_nothing(flower: RunningFlower, run: str) -> None:
    answer = flower.get(f"plet/runs/{run}", Cookie=cookie("bob@example.com"))

    assert answer.status == 403
    assert "shop.index" not in answer.text


BAD = [
    *(
        "",
        "user=",
        "user=ada@example.com",
        "user=YWRhQGV4YW1wbGUuY29t",
        "user=%ff%fe",
        "user=2|1:0|10:0|4:user|0:|x",
    ),
    cookie("ada@example.com", secret="another"),
    cookie("ada@example.com", name="oauth_state"),
    cookie("ada@example.com", age_days=32),
    cookie("ada@example.com.evil.example"),
    cookie("ADA@EXAMPLE.COM"),
    cookie("ghost@example.com"),
    cookie(""),
    with_another_digit(cookie("ada@example.com")),
]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_cookie_that_is_no_login_leads_to_the_login(flower: RunningFlower, run: str, bad: str) -> None:
    for path in ("plet/", f"plet/runs/{run}?log_q=a%26b", "plet/nothing", f"plet/runs/{run}/log", "plet"):
        answer = flower.get(path, Cookie=bad)
        assert answer.status == 302, path
        where = urlsplit(answer.headers["location"])
        assert (where.scheme, where.netloc, where.path) == ("", "", "/ops/login"), path
        assert parse_qs(where.query)["next"] == [f"/ops/{path}"]
        assert "shop.index" not in answer.text


def test_a_region_is_told_and_not_sent_to_a_login(flower: RunningFlower, run: str) -> None:
    for path in ("plet/?region=runs", f"plet/runs/{run}?region=log-after", "plet/?region="):
        answer = flower.get(path)
        assert answer.status == 401, path
        # Else the browser asks for a password that there is not.
        assert "www-authenticate" not in answer.headers
    for verb in ("POST", "PUT", "DELETE"):
        assert flower.get("plet/", method=verb).status in (401, 403)


def test_a_next_address_stays_here(flower: RunningFlower) -> None:
    for path in ("plet/?next=//evil.example", "plet/%2f%2fevil.example", "plet//evil.example"):
        location = flower.get(path).headers["location"]
        assert location.startswith("/ops/login?next=%2Fops%2Fplet"), location


def test_both_ways_at_once_are_both_asked_for(shop: Any, run: str) -> None:
    """Flower compares names as texts: one beyond ASCII shuts out all that stand behind it, but not here."""
    options = ("--basic-auth=zoë:pw,ada:pw", "--auth=ada@example.com")
    with running_flower(shop.folder, *PROVIDER, *options) as one:
        login = cookie("ada@example.com")
        assert one.get("plet/").status == 401
        assert one.get("plet/", Cookie=login).status == 401
        assert one.get("plet/", user="ada:pw").status == 302
        assert one.get("plet/", user="ada:pw", Cookie=login).status == 200
        assert one.get("plet/", user="zoë:pw", Cookie=login).status == 200
        assert one.get("plet/?region=runs", user="ada:pw").status == 401
        assert "canary" not in one.log.read_text()


@pytest.mark.parametrize("prefix", ["/a/b/"])
def test_a_prefix_may_be_written_in_any_way(shop: Any, run: str, prefix: str) -> None:
    shop.write()
    with running_flower(shop.folder, f"--url_prefix={prefix}", "--xheaders", "--read_only") as one:
        base = f"{one.base.split('://')[0]}://{urlsplit(one.base).netloc}/{prefix.strip('/')}/"
        one.base = base
        listed = one.get("plet/")
        ours = re.findall(r'(?:href|src|action)="(/[^"]*)"', listed.text)
        assert listed.status == 200
        assert [one for one in ours if not one.startswith(f"/{prefix.strip('/')}/")] == []
        assert one.get("plet").headers["location"] == f"/{prefix.strip('/')}/plet/"
        assert one.get(f"plet/runs/{run}").status == 200
        assert one.get("plet/static/plet.css").status == 200
    shop.write(RULES)


def test_a_password_may_come_from_the_environment_or_a_file(shop: Any, run: str) -> None:
    conf = shop.folder / "flowerconfig.py"
    conf.write_text("basic_auth = ['ada:pw']\n")
    with running_flower(shop.folder, f"--conf={conf}", "--address=", FLOWER_ADDRESS="127.0.0.1") as one:
        assert one.get("plet/").status == 401
        assert one.get("plet/", user="ada:pw").status == 200
    conf.unlink()


def test_a_socket_serves_this_machine(shop: Any, run: str, tmp_path: Path) -> None:
    import subprocess
    import sys

    from stacks import environment
    from waiting import wait_until

    path, log = tmp_path / "flower.sock", tmp_path / "flower.log"
    shop.write()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "celery", "-A", "shop", "flower", f"--unix_socket={path}"],
            cwd=shop.folder,
            env=environment(PYTHONPATH=str(shop.folder)),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until(lambda: listens(path), 60, what=lambda: log.read_text()[-2000:])
        assert asked(path, "Host: anything").startswith("HTTP/1.1 200")
        assert asked(path, "Host: anything", "X-Forwarded-For: 192.0.2.1").startswith("HTTP/1.1 403")
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    shop.write(RULES)


def listens(path: Path) -> bool:
    """Whether somebody answers at a socket: there is a file before."""
    with socket.socket(socket.AF_UNIX) as line:
        return line.connect_ex(str(path)) == 0


def asked(path: Path, *headers: str) -> str:
    """The beginning of an answer from a socket."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(120)
        line.connect(str(path))
        line.sendall("\r\n".join(["GET /plet/ HTTP/1.1", *headers, "Connection: close", "", ""]).encode())
        return line.recv(200).decode()
