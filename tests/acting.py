"""What a browser does with a form of our pages, and what others would send instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from flowers import Answer, RunningFlower

from plet_celery.web import forms

FORM = "application/x-www-form-urlencoded"


@dataclass
class Form:
    """The forms of an alert's page, as one browser of one user has them."""

    flower: RunningFlower
    user: str
    alert: str
    cookie: str
    token: str

    @classmethod
    def on(cls, flower: RunningFlower, alert: str, *, user: str = "ada:pw") -> Form:
        """Open the page of an alert."""
        page = flower.get(f"plet/alerts/{alert}", user=user)
        assert page.status == 200, page.text[-2000:]
        cookie = re.search(rf"{forms.COOKIE}=([^;]+)", page.headers.get("set-cookie", ""))
        token = re.search(rf'name="{forms.FIELD}" value="(\w+)"', page.text)
        return cls(flower, user, alert, cookie[1] if cookie else "", token[1] if token else "")

    @property
    def origin(self) -> str:
        """Where the page is."""
        parts = urlsplit(self.flower.base)
        return f"{parts.scheme}://{parts.netloc}"

    def send(
        self,
        act: str = "acknowledge",
        fields: Mapping[str, str] | None = None,
        *,
        method: str = "POST",
        body: bytes | None = None,
        headers: dict[str, str | None] | None = None,
        user: str | None = "",
    ) -> Answer:
        """Send a form as the browser does; None leaves a header out."""
        given: dict[str, str | None] = {
            "Content_Type": FORM,
            "Origin": self.origin,
            "Sec_Fetch_Site": "same-origin",
            "Cookie": f"{forms.COOKIE}={self.cookie}",
        }
        sent = {name: value for name, value in (given | (headers or {})).items() if value is not None}
        data = urlencode({forms.FIELD: self.token, **(fields or {})}).encode() if body is None else body
        return self.flower.get(
            f"plet/alerts/{self.alert}/{act}",
            user=self.user if user == "" else user,
            method=method,
            body=data if method not in ("GET", "HEAD") else None,
            **sent,
        )
