"""A secret does not come through, wherever it stands: nothing of it, in none of these places."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import traceback
from base64 import b64encode
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import pytest

from plet_celery.failure import describe_error
from plet_celery.redaction import MASK, Redactor, safe_repr

CANARY = "kanarie-7Zq4.wX"
AWKWARD = "kan,a&r;ie=7 Z'q\"4)w@X/9"

redactor = Redactor()


def _seen(shown: Any) -> str:
    return shown if isinstance(shown, str) else repr(shown)


TEXTS: dict[str, str] = {
    "assignment": f"password={CANARY}",
    "assignment with spaces": f"db_password = {CANARY}",
    "double equals": f"if password == '{CANARY}':",
    "not equals": f'assert token != "{CANARY}"',
    "colon": f"login failed, password: {CANARY} for bob",
    "rocket": f":api_key => '{CANARY}'",
    "walrus": f"if (secret := '{CANARY}'):",
    "end of sentence": f"The token was refused (token={CANARY}).",
    "comma list": f"user=bob,password={CANARY},host=db1",
    "two of them": f"password={CANARY} and secret={CANARY}",
    "upper case": f"API_KEY={CANARY}",
    "camel case": f"clientSecret={CANARY}",
    "kebab case": f"x-api-key: {CANARY}",
    "words": f"API key: {CANARY}",
    "more words": f"connection string: {CANARY}",
    "typed default in a source line": f"def connect(host: str, password: str = '{CANARY}', port=1):",
    "typed default of another type": f"    password: Secret = '{CANARY}'",
    "subscript in a source line": f"os.environ['DB_PASSWORD'] = '{CANARY}'",
    "call in a repr": f"Settings(password=SecretStr('{CANARY} and {CANARY}'), port=1)",
    "angled in a repr": f"Settings(session=<Session {CANARY} of bob>, port=1)",
    "list in a repr": f"Settings(tokens=['{CANARY}', 'x {CANARY}'], port=1)",
    "tuple in a repr": f"get(url, auth=('bob', '{CANARY}'))",
    "nested dict in a repr": repr({"credentials": {"user": "bob", "pw": [CANARY, {"x": CANARY}]}}),
    "dict repr": repr({"user": "bob", "password": CANARY}),
    "dict repr with spaces": repr({"passphrase": f"horse {CANARY} battery"}),
    "dict repr with a quote": repr({"passphrase": f"it's {CANARY}"}),
    "dict repr with both quotes": repr({"passphrase": f'it\'s "so" {CANARY}'}),
    "dict repr of bytes": repr({b"password": CANARY.encode()}),
    "raw and f strings": f"token = rb'{CANARY}'; secret = f\"{CANARY} x\"",
    "json": json.dumps({"user": "bob", "accessToken": CANARY}),
    "json indented": json.dumps({"user": "bob", "access_token": CANARY}, indent=2),
    "json without spaces": json.dumps({"a": {"secret": CANARY}}, separators=(",", ":")),
    "json with a number": '{"pin": 48291735, "x": 1}'.replace("48291735", "1" + CANARY),
    "json in json": json.dumps({"body": json.dumps({"password": f"a {CANARY}", "x": 1})}),
    "json in a repr": repr(json.dumps({"password": f"it's {CANARY}"})),
    "json cut": json.dumps({"password": f"aaa {CANARY}"})[:-4],
    "json list": json.dumps({"tokens": ["a", CANARY]}),
    "line break in a repr": repr(f"user: bob\npin: {CANARY}\nhost: x"),
    "properties": f"spring.datasource.password: {CANARY}",
    "yaml": f"db:\n  host: x\n  password: '{CANARY}'\n",
    "env": f"HOME=/root\nPGPASSWORD={CANARY}\nPATH=/bin",
    "env of a cloud": f"AWS_SECRET_ACCESS_KEY={CANARY}\nAWS_SESSION_TOKEN={CANARY}",
    "env with pass": f"SMTP_PASS={CANARY} SMTP_USER=bob",
    "odbc": f"Driver=x;Server=db1;UID=sa;PWD={CANARY};Encrypt=yes",
    "azure": f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={CANARY};EndpointSuffix=b",
    "libpq": f"host=db1 port=5432 user=bob password='{CANARY} x' dbname=shop",
    "dsn": f"postgresql://bob:{CANARY}@db1:5432/shop",
    "dsn in a message": f'could not connect to "postgresql://bob:{CANARY}@db1:5432/shop": timeout',
    "dsn without a user": f"redis://:{CANARY}@cache:6379/0",
    "dsn with a token as user": f"https://{CANARY}@sentry.example/17",
    "dsn with empty password": f"https://{CANARY}:@api.example/v1",
    "dsn of many hosts": f"postgresql://bob:{CANARY}@h1:5432,h2:5432/shop?target_session_attrs=any",
    "dsn list": f"sentinel://:{CANARY}@h1:26379;sentinel://:{CANARY}@h2:26379/0",
    "dsn list with credentials each": f"amqp://a:{CANARY}@h1//;amqp://b:{CANARY}@h2//",
    "dsn with a raw slash": f"postgresql://bob:a/{CANARY}@db1/shop",
    "dsn with a raw at": f"postgresql://bob:a@{CANARY}@db1/shop",
    "dsn with at and slash": f"https://bob:a@b/{CANARY}@host/x",
    "dsn with a raw hash": f"amqp://bob:a#{CANARY}@mq//",
    "dsn with a raw question mark": f"mysql://bob:a?{CANARY}@db1/shop",
    "dsn with a password in the query": f"postgresql://db1/shop?user=bob&password={CANARY}&sslmode=require",
    "dsn with a second one": f"mysql://db1/shop?ssl_key=k&sslpassword={CANARY}",
    "dsn cut": f"postgresql://bob:{CANARY}",
    "dsn cut and marked": f"postgresql://bob:{CANARY}…[cut] and more",
    "dsn of a driver": f"jdbc:postgresql://db1/shop?user=bob&password={CANARY}",
    "url with a signature": f"https://store.example/f?sv=2020&sig={CANARY}&se=x",
    "url with an amazon signature": f"https://b.s3.amazonaws.com/k?X-Amz-Expires=9&X-Amz-Signature={CANARY}",
    "url with a key": f"https://maps.example/api?key={CANARY}",
    "url fragment": f"https://app.example/cb#access_token={CANARY}&token_type=x",
    "web hook": f"POST https://hooks.slack.com/services/T0/B0/{CANARY} 200",
    "header": f"Authorization: Bearer {CANARY}",
    "header of another scheme": f'Authorization: Digest username="bob", response="{CANARY}"',
    "header in curl": f"curl -H 'Authorization: Token {CANARY}' https://x.example",
    "header in curl, doubly quoted": f'curl -H "X-Auth-Token: {CANARY}" https://x.example',
    "cookie": f"Cookie: theme=dark; sid={CANARY}; lang=en",
    "set-cookie": f"< Set-Cookie: sid={CANARY}; Path=/; HttpOnly",
    "headers in a repr": repr({"Accept": "*/*", "Cookie": f"a=b; sid={CANARY}"}),
    "bearer alone": f"sent bearer {CANARY} to host",
    "basic alone": "sent Basic " + b64encode(f"bob:{CANARY}".encode()).decode(),
    "option": f"mysqldump --password {CANARY} shop",
    "option with equals": f"mysqldump --password={CANARY} shop",
    "option in quotes": f"tool --api-key '{CANARY} x' run",
    "option with one dash": f"java -storepass {CANARY} -x",
    "option in a printed list": repr(["tool", "--client-secret", CANARY, "run"]),
    "login option": f"curl -u bob:{CANARY} https://x.example",
    "shell assignment": f"sh -c {shlex.quote(f'PGPASSWORD={CANARY} psql')}",
    "pem": f"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n{CANARY}\n-----END RSA PRIVATE KEY-----\n",
    "pem in json": json.dumps({"k": f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n"}),
    "pem cut": f"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz\n{CANARY}",
}


@pytest.mark.parametrize("place", TEXTS)
def test_text_shows_nothing_of_a_secret(place: str) -> None:
    shown = redactor.text(TEXTS[place])

    assert CANARY not in shown
    assert "kanarie" not in shown
    assert "7Zq4" not in shown
    assert MASK in shown


@pytest.mark.parametrize("place", TEXTS)
def test_redacting_twice_changes_nothing_more(place: str) -> None:
    once = redactor.text(TEXTS[place])

    assert redactor.text(once) == once


SHAPES = [
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6",
    "AKIA" + "IOSFODNN7EXAMPLE",
    "ASIA" + "IOSFODNN7EXAMPLE",
    "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
    "ghp_" + "abcdefghijklmnopqrstuvwxyz0123456789",
    "ghs_" + "abcdefghijklmnopqrstuvwxyz0123456789",
    "github_pat_" + "11ABCDEFG0abcdefghij_klmnop",
    "glpat-" + "abcdefghijklmnopqrst",
    "xoxb-" + "123456789012-abcdefABCDEF",
    "sk_live_" + "abcdefghijklmnop12345678",
    "rk_live_" + "abcdefghijklmnop12345678",
    "sk-" + "proj-abcdefghijklmnop12345678",
    "SG." + "abcdefghijklmnopqrstuv.abcdefghijklmnopqrstuvwxyz",
    "npm_" + "abcdefghijklmnopqrstuvwxyz0123456789",
    "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH",
]


@pytest.mark.parametrize("secret", SHAPES)
@pytest.mark.parametrize("around", ["{}", "got {} from env", "['{}']", "x={},", "https://h/{}/x", '"{}"'])
def test_well_known_keys_are_found_by_their_shape(secret: str, around: str) -> None:
    shown = redactor.text(around.format(secret))

    assert secret[6:] not in shown
    assert MASK in shown


def _traceback_text() -> str:
    try:
        raise ConnectionError(f"could not connect to postgresql://bob:{CANARY}@db1/shop")
    except ConnectionError:
        return traceback.format_exc()


class Login(NamedTuple):
    """What a task may be given."""

    user: str
    password: str


class Client:
    def __repr__(self) -> str:
        return f"Client(host='x', password='{CANARY}')"


PLACES: dict[str, Callable[[], Any]] = {
    "traceback": lambda: redactor.text(_traceback_text()),
    "dict": lambda: redactor.value({"password": CANARY}),
    "nested": lambda: redactor.value({"a": [{"b": ({"api-key": CANARY},)}]}),
    "under a secret name, nested": lambda: redactor.value({"credentials": {"a": [CANARY]}}),
    "list of texts": lambda: redactor.value(["ok", f"token={CANARY}"]),
    "set": lambda: redactor.value({f"token={CANARY}"}),
    "key": lambda: redactor.value({f"redis://:{CANARY}@h/0": 1}),
    "bytes": lambda: redactor.value(f"password={CANARY}".encode()),
    "bytes key": lambda: redactor.value({b"password": CANARY}),
    "header pairs": lambda: redactor.value([("Accept", "*/*"), ("X-Api-Key", CANARY)]),
    "header lists": lambda: redactor.value([["Accept", "*/*"], ["Cookie", CANARY]]),
    "named tuple": lambda: redactor.value(Login("bob", CANARY)),
    "form fields": lambda: redactor.value([{"name": "DB_PASSWORD", "value": CANARY}]),
    "argument by position": lambda: redactor.arguments(("user", "password"), ["bob", CANARY], {}, safe_repr),
    "argument by name": lambda: redactor.arguments((), [], {"password": CANARY}, safe_repr),
    "argument beyond the signature": lambda: redactor.arguments(
        ("a",), [1, f"token={CANARY}"], {}, safe_repr
    ),
    "argument without a signature": lambda: redactor.arguments(None, [f"redis://:{CANARY}@h"], {}, safe_repr),
    "argument nested": lambda: redactor.arguments(("a",), [{"secret": CANARY}], {}, safe_repr),
    "argument that is an object": lambda: redactor.arguments(
        ("a",), [Client()], {"b": [Client()]}, safe_repr
    ),
    "argument that is an object under a secret name": lambda: redactor.arguments(
        ("auth",), [Client()], {"session": Client()}, safe_repr
    ),
    "argv": lambda: redactor.argv(["tool", "--password", CANARY]),
    "argv with equals": lambda: redactor.argv(["tool", f"--token={CANARY}"]),
    "argv with equals and spaces": lambda: redactor.argv(["tool", f"--token=a {CANARY}"]),
    "argv assignment": lambda: redactor.argv(["env", f"PGPASSWORD={CANARY}", "psql"]),
    "argv url": lambda: redactor.argv(["psql", f"postgres://bob:{CANARY}@h/db"]),
    "argv shell": lambda: redactor.argv(["sh", "-c", f"PGPASSWORD={CANARY} psql"]),
    "argv login": lambda: redactor.argv(["curl", "-u", f"bob:{CANARY}", "https://x"]),
    "argv mysql": lambda: redactor.argv(["/usr/bin/mysql", "-u", "bob", f"-p{CANARY}", "shop"]),
    "argv redis": lambda: redactor.argv(["redis-cli", "-a", CANARY, "ping"]),
    "argv header": lambda: redactor.argv(["curl", "-H", f"Authorization: Token {CANARY}"]),
    "argv bytes": lambda: redactor.argv([b"tool", b"--secret", CANARY.encode()]),
    "environment": lambda: redactor.value(dict(os.environ) | {"DJANGO_SECRET_KEY": CANARY}),
}


@pytest.mark.parametrize("place", PLACES)
def test_values_show_nothing_of_a_secret(place: str) -> None:
    shown = _seen(PLACES[place]())

    assert CANARY not in shown
    assert "kanarie" not in shown


QUOTED = {
    "repr": lambda: repr({"password": AWKWARD, "x": 1}),
    "json": lambda: json.dumps({"password": AWKWARD, "x": 1}),
    "json in json": lambda: json.dumps({"b": json.dumps({"password": AWKWARD, "x": 1})}),
    "query": lambda: "https://h/p?" + urlencode({"password": AWKWARD, "x": 1}),
    "url": lambda: f"postgresql://bob:{quote(AWKWARD, safe='')}@db1/shop",
    "argv": lambda: Redactor().argv(["tool", "--password", AWKWARD])[2],
}


@pytest.mark.parametrize("place", QUOTED)
def test_a_quoted_secret_with_awkward_characters_is_hidden_whole(place: str) -> None:
    shown = redactor.text(QUOTED[place]())

    for part in ("kan", "ie", "7 Z", "4)w", "w@X", "X/9"):
        assert part not in shown.replace("postgresql", "")


@pytest.mark.parametrize(
    "value", ["s3cr3t-value", "with space & more", "quo\"te's", "ünïcode!", "back\\slash"]
)
def test_registered_values_are_hidden_everywhere(value: str) -> None:
    mine = Redactor(values=[value])
    texts = [
        f"plain {value} text",
        repr([value]),
        json.dumps({"a": value}),
        json.dumps({"a": value}, ensure_ascii=False),
        "https://h/" + quote(value),
        "https://h/?" + urlencode({"a": value}),
    ]

    for text in texts:
        shown = mine.text(text)

        assert MASK in shown
        assert value not in shown
        assert mine.text(shown) == shown


def test_half_a_registered_value_at_the_end_of_a_cut_text_is_hidden() -> None:
    mine = Redactor(values=["s3cr3t-value", "s3cr3t-value-2"])

    assert mine.text("it is s3cr3t-va…[cut]") == "it is ***…[cut]"
    assert mine.text("it is s3cr3t-value-…[cut]") == "it is ***-…[cut]"
    assert mine.text("it is s3cr…[cut]") == "it is s3cr…[cut]"


PEM_LINES = [
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
    "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAABlwAAAAdzc2gtcn",
]


@pytest.mark.parametrize("line", PEM_LINES)
def test_a_pem_block_that_is_printed_line_by_line_is_hidden(line: str) -> None:
    assert redactor.text(line) == MASK
    assert redactor.text(line + "\r") == MASK + "\r"
    assert redactor.text(f"{line}\n{line}\nabc=\n-----END PRIVATE KEY-----\n").count(MASK) == 2


def test_a_digest_is_no_pem_block() -> None:
    for text in (
        hashlib.sha256(b"x").hexdigest(),
        hashlib.sha256(b"x").hexdigest().upper(),
        "a/" * 35,
        "x" * 64,
    ):
        assert redactor.text(text) == text


def test_a_secret_on_the_edge_of_a_cut_traceback_is_hidden() -> None:
    """Both cuts, behind the head and before the tail, go through a secret somewhere in here."""
    for length in range(1800, 2300, 7):
        error = ValueError("x" * length + repr({"password": CANARY * 400}) + "y" * 5800)

        shown = describe_error(error, redactor)

        assert "kanarie" not in shown["traceback"] + shown["message"]
        assert len(shown["traceback"]) < 9000


def test_short_registered_values_are_ignored() -> None:
    assert Redactor(values=["a", "12345"]).text("a banana costs 12345") == "a banana costs 12345"


def test_registered_values_do_not_show_in_the_redactor_itself() -> None:
    assert CANARY not in repr(Redactor(values=[CANARY]))
    assert CANARY not in str(Redactor(values=[CANARY]))


def test_further_names_are_hidden_like_built_in_ones() -> None:
    mine = Redactor(names=["customer_no", "Tan"])

    assert mine.text("customer_no=4711") == "customer_no=***"
    assert mine.text("customerNo: 4711") == "customerNo: ***"
    assert mine.text("tan=4711 titan=4711") == "tan=*** titan=4711"
    assert mine.value({"Customer-No": "4711", "tan": "1", "distance": 2}) == {
        "Customer-No": "***",
        "tan": "***",
        "distance": 2,
    }
    assert redactor.text("customer_no=4711") == "customer_no=4711"
