"""Which requests count as a form that our own page has sent."""

from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders

from plet_celery.web import forms

HOST = "flower.example:5555"
OURS = "http://flower.example:5555"
FORM = "application/x-www-form-urlencoded"


def refused(**headers: str) -> str | None:
    given = {"content_type": FORM} | headers
    return forms.refusal(
        HTTPHeaders({name.replace("_", "-"): value for name, value in given.items()}), host=HOST
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "same-origin", "origin": OURS},
        {"sec_fetch_site": "same-origin"},
        {"origin": OURS},
        {"origin": "http://FLOWER.example:5555"},
        # A proxy that ends TLS and asks for another name: the browser itself says that it is our page.
        {"sec_fetch_site": "same-origin", "origin": "https://public.example"},
        {"origin": OURS, "content_type": f"{FORM}; charset=UTF-8"},
        {"origin": OURS, "content_type": FORM.upper()},
    ],
)
def test_a_form_of_our_own_page_is_one(headers: dict[str, str]) -> None:
    assert refused(**headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        *({"sec_fetch_site": site} for site in ("cross-site", "same-site", "none", "", "same-origin, none")),
        {"sec_fetch_site": "cross-site", "origin": OURS},
        {"sec_fetch_site": "same-site", "origin": OURS},
        *(
            {"origin": origin}
            for origin in (
                *("null", "", "http://evil.example", "https://evil.example:5555", "http://flower.example"),
                *("http://sub.flower.example:5555", "http://flower.example:5555.evil.example", "[::1"),
                *("http://evil.example@flower.example:5555", "file://flower.example:5555", HOST),
                f"{OURS}, http://evil.example",
            )
        ),
        {},
    ],
)
def test_what_another_page_sent_is_none(headers: dict[str, str]) -> None:
    assert refused(**headers) is not None


@pytest.mark.parametrize("kind", ["", "text/plain", "application/json", "multipart/form-data; boundary=x"])
def test_no_other_kind_of_body_is_a_form(kind: str) -> None:
    assert "no form" in str(refused(sec_fetch_site="same-origin", content_type=kind))


def test_a_token_is_of_one_user_one_browser_and_one_flower() -> None:
    nonce = forms.new_nonce()
    wanted = forms.token("secret", nonce=nonce, user="ada")

    assert forms.is_nonce(nonce)
    assert forms.fits(wanted, forms.token(b"secret", nonce=nonce, user="ada"))
    for other in (
        forms.token("secret", nonce=nonce, user="bob"),
        forms.token("secret", nonce=forms.new_nonce(), user="ada"),
        forms.token("other", nonce=nonce, user="ada"),
        *("", "é", wanted[:-1], wanted.upper(), "\ud800"),
    ):
        assert not forms.fits(other, wanted)


@pytest.mark.parametrize("text", [None, "", "x", "a" * 23, "a" * 21 + "\n", "a" * 21 + "\0", "é" * 22])
def test_a_cookie_that_somebody_made_up_is_none_of_ours(text: str | None) -> None:
    assert not forms.is_nonce(text)
