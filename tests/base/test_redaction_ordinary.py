"""What is no secret stays: ordinary log lines pass unchanged, names are told apart."""

from __future__ import annotations

from typing import Any

import pytest

from plet_celery.redaction import Redactor

LINES = """\
Task shop.import_catalogue[5f1c2e9a-8a52-4c9e-9d0e-0d5f3b1c2a77] succeeded in 0.031s: None
Task app.auth.refresh_tokens[5f1c2e9a] received
Task app.sessions.expire[5f1c2e9a] retry: Retry in 30s: TimeoutError('timed out')
Received request GET /api/v1/items?page=2&order=name status=200 duration=35ms user=bob
GET /oauth/authorize?client_id=abc&response_type=x HTTP/1.1
GET https://example.org/@user/posts/17?lang=en#top 200
see https://docs.example.org/en/stable/auth.html#tokens for details
loaded 1200 rows from /var/data/catalogue-2026-11-22.csv in 3.2 s
Retrying in 5 seconds: connection refused host=db1 port=5432
connected to amqp://mq.internal:5672//
connected to redis://cache:6379/0, ready
connected to sentinel://s1:26379;sentinel://s2:26379
postgresql://db1:5432,db2:5432/shop?target_session_attrs=any
pulling docker://ubuntu:22.04
cloned git@github.com:octo/repo.git into /tmp/build
serving on http://[::1]:8000/ and http://0.0.0.0:8000/
mail to bob@example.org queued as 4F2A1
author=bob title="The Pin" authored: 2026-11-22
authority: example.org, co-author: alice
spin=0.5 spinning: yes, pinned=3, shipping: free, mapping={'a': 1}
shipping_method=express opinion: good, option: 3
discard: 12 wildcard=* cardinality: 40, dashboard=main scorecard: ok
ibanez: guitar, urban=1, turbans: 2
dot products: 3.5, depot=7, laptop: x1
max_tokens=4096 total_tokens: 532 prompt_tokens=120
tokenizer=gpt2 tokenized: 17 sentences
token_expires_in=3600 session_timeout: 30 cookie_max_age=86400
active_sessions=12 password_length=14 otp_digits_count: 6
session_id=None token=null has_password=True use_auth=false
secretary: Alice, possession: ball, obsession=none
InvalidTokenError: Signature has expired
jwt.exceptions.ExpiredSignatureError: Signature has expired
NoCredentialsError: Unable to locate the file
TokenExpired: please log in again
password_expired: bob must choose a new one
Bearer token expired, asking for a new one
Basic authentication is disabled, basic settings loaded
the basic idea: keep it simple
login with a password failed for bob
the token was refused by the server
the session of bob has ended
INFO app.auth: user bob logged in
WARNING django.contrib.sessions: backend is slow
[2026-11-22 20:15:01,123: INFO/MainProcess] celery@host1 ready.
  File "/app/shop/auth.py", line 17, in login
  File "/usr/lib/python3.11/site-packages/requests/sessions.py", line 589, in request
auth.py:35: DeprecationWarning: use login() instead
tests/test_tokens.py:10: AssertionError
open /etc/ssl/private/token: no such file or directory
connecting to auth:8080 and session-cache:6379
health of token-service:443 is ok
KeyError: 'name'
keyboard=us key=value monkey: george primary_key=17
cache key: user-17, hit=1
progress 45 % (450/1000 rows) eta 12 s, rate=37.5/s
stage "load" finished: rows=1200 errors=0
memory rss=128 MiB cpu=1.5 s
compass: north, bypass=0 surpass: 3, 12 passed, 1 failed in 0.4s
sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
uuid=123e4567-e89b-12d3-a456-426614174000 task-id disk-usage
Total: 1,234.56 EUR; VAT 19 %: 234.57
{"level": "info", "msg": "started", "port": 8080, "tags": ["a", "b"]}
{'rows': 10, 'file': 'a.csv', 'ok': True, 'none': None}
def login(user: str, password: str, token: str | None) -> Session:
select id, name from users where id = 17 -- comment
docker run -u 1000:1000 --rm image --name x
rsync --archive --delete src/ dest/
2026-11-22T20:15:01Z heartbeat seq=17 lag=0.02
Größe: 12 µm, naïve café, 東京: 晴れ
======================================================================
-------- celery@host v5.7.0 (windowlicker)
""".splitlines()

redactor = Redactor()


def test_there_are_enough_ordinary_lines() -> None:
    assert len(LINES) >= 60


@pytest.mark.parametrize("line", LINES)
def test_an_ordinary_line_stays_as_it_is(line: str) -> None:
    assert redactor.text(line) == line


def test_all_ordinary_lines_together_stay_as_they_are() -> None:
    text = "\n".join(LINES)

    assert redactor.text(text) == text


SECRET = """\
password Password PASSWORD db_password dbPassword DB-PASSWORD db.password passwd PGPASSWORD pwd
userPwd passphrase passcode secret client_secret clientSecret SECRET_KEY DJANGO_SECRET_KEY token
tokens accessToken refresh_token id_token X-Auth-Token csrfmiddlewaretoken apikey api_key apiKey
API-KEY X-Api-Key Ocp-Apim-Key-Secret access_key aws_access_key_id private_key privateKey
signing_key encryption_key AccountKey ssh_key credential credentials cookie Cookie Set-Cookie
session session_id sessionid PHPSESSID csrf xsrf XSRF-TOKEN signature X-Amz-Signature
connection_string ConnectionString authorization Authorization Proxy-Authorization oauth oauth2
basic_auth auth auth_header X-Auth http.auth authKey authentication otp otp_code userOtp OTPCode
totp pin user_pin userPIN PINCode pin2 pincode card card_number cardNumber creditCard creditcard
iban IBAN customer_iban dsn sentry_dsn SENTRY_DSN db_dsn cvv cvc ssn jwt jwt_value bearer db_pass
dbpass SMTP_PASS storepass max_tokens
"""

PLAIN = """\
author authors Author authored authority author_id coauthor pinned pins spin spinning shipping
opinion mapping pinterest cardinality discard discarded wildcard postcards scorecard dashboard
laptop option options stop otpl ibanez urban name user username user_id email host port path file
key keys primary_key monkey keyword cache_key tokenizer tokenize secretary possession obsession
bypass compass passed passenger passive_mode password_expired token_error InvalidTokenError
session_expired auth_failed signed sign design assign cook recess access process description dns
friends_name threads_n seconds_number records_no fields_name
"""


@pytest.mark.parametrize("name", SECRET.split())
def test_a_secret_name_is_told(name: str) -> None:
    assert redactor.is_secret_name(name)


@pytest.mark.parametrize("name", PLAIN.split())
def test_a_plain_name_is_told(name: str) -> None:
    assert not redactor.is_secret_name(name)


def test_absurd_names_are_no_trouble() -> None:
    assert not redactor.is_secret_name("")
    assert not redactor.is_secret_name("_")
    assert not redactor.is_secret_name("\udc80")
    assert redactor.is_secret_name("password" + "x" * 1_000_000)
    assert not Redactor(names=["", "_", "--"]).is_secret_name("anything")


def test_what_tells_nothing_stays_under_a_secret_name() -> None:
    value: dict[str, Any] = {
        "password": None,
        "token": True,
        "cookies": {},
        "secret": "",
        "max_tokens": 4096,
        "session_age": 1.5,
    }

    assert redactor.value(value) == value


def test_numbers_under_a_secret_name_are_hidden() -> None:
    assert redactor.value({"pin": 4711, "card": 4111111111111111, "rows": 5}) == {
        "pin": "***",
        "card": "***",
        "rows": 5,
    }
