"""Pages that change something: who may act, whether a form is really ours, and what is said of each try.

Without authentication nobody acts, and with Flower's `--read_only` neither. Every try, refused ones among
them, is a line in Flower's log with the user's name; what was done is kept in the store besides.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, Final

from tornado.web import HTTPError

from plet_celery.web import forms
from plet_celery.web.handler import PletHandler

log = logging.getLogger(__name__)

SECONDS: Final = 15.0
"""How long a change may take: other writers go first. After that nobody knows whether it was made."""


class ActingHandler(PletHandler):
    """A page with forms, or what they are sent to."""

    right = "runs"
    _fresh: str | None = None
    """What names this browser from now on, where its cookie is new."""

    def set_default_headers(self) -> None:
        """Set our headers; let the browser say where a form comes from."""
        super().set_default_headers()
        # With no-referrer a browser says `Origin: null` of our own forms. Other sites are told nothing still.
        self.set_header("Referrer-Policy", "same-origin")

    def check_xsrf_cookie(self) -> None:
        """Leave it to `check_form`, which asks for more than Flower, and in every mode."""

    @property
    def user(self) -> str:
        """Who acts."""
        return self.viewer.user or ""

    def why_not(self) -> str:
        """Return why the viewer may change nothing; empty where they may."""
        options = self.application.options
        if not (options.basic_auth or options.auth):
            return "Flower has no authentication: nobody can acknowledge or silence here"
        if options.read_only:
            return "Flower was started with --read_only"
        if not self.viewer.may("act") or not self.viewer.user:
            return "you may not act here: that is the right `act`"
        return ""

    def form_token(self) -> str:
        """Return what a form of this page carries; empty where this browser has no cookie of ours yet."""
        nonce = self._nonce()
        return self._token(nonce) if nonce else ""

    def begin_forms(self) -> None:
        """Give this browser the cookie to which its forms are bound, if it has none."""
        if self.why_not() or self._nonce():
            return
        self._fresh = forms.new_nonce()
        self.set_cookie(
            forms.COOKIE,
            self._fresh,
            path=self.plet_url(),
            httponly=True,
            # Not sent along with a form of another site; but with a link to an alert in somebody's chat.
            samesite="Lax",
            secure=self.request.protocol == "https",
        )

    def check_form(self) -> None:
        """Let nothing pass but a form that our own page has sent for this user.

        Raises:
            HTTPError: why not.
        """
        reason = self.why_not()
        if not reason:
            reason = forms.refusal(self.request.headers, host=self.request.host) or ""
        if reason:
            raise HTTPError(HTTPStatus.FORBIDDEN, reason)
        if len(self.request.body) > forms.BODY_MAX:
            raise HTTPError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a form has at most {forms.BODY_MAX} bytes")
        nonce = self._nonce()
        if not nonce or not forms.fits(self.field(forms.FIELD), self._token(nonce)):
            said = "the form is too old, or of another user; load the page again"
            raise HTTPError(HTTPStatus.FORBIDDEN, said)

    def field(self, name: str, most: int = 1000) -> str:
        """Return a field of the form without blanks around it, cut to `most` characters."""
        return str(self.get_body_argument(name, "") or "").strip()[:most]

    def on_finish(self) -> None:
        """Tell who tried to change what, and what came of it."""
        super().on_finish()
        if self.request.method in ("GET", "HEAD", "OPTIONS"):
            return
        status = self.get_status()
        level = logging.INFO if status < HTTPStatus.BAD_REQUEST else logging.WARNING
        log.log(
            level,
            "somebody acts: user=%r method=%s path=%r status=%d from=%s",
            self.viewer.user,
            self.request.method,
            self.request.path[:200],
            status,
            self.request.remote_ip,
        )

    def _nonce(self) -> str:
        found = self._fresh or self.get_cookie(forms.COOKIE)
        return found if found is not None and forms.is_nonce(found) else ""

    def _token(self, nonce: str) -> str:
        secret: Any = self.application.settings["cookie_secret"]
        return forms.token(secret, nonce=nonce, user=self.user)
