"""Who may see what is ours: deny by default, in one place, before anything else is done for a request."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, ClassVar

from flower.utils.authentication import authenticate
from flower.views import BaseHandler
from tornado.escape import url_escape
from tornado.web import HTTPError, RequestHandler

from plet_celery.errors import SettingsError
from plet_celery.places import Places
from plet_celery.web import access
from plet_celery.web.access import Viewer
from plet_celery.web.desk import Desk, desk_of
from plet_celery.web.headers import HEADERS
from plet_celery.web.rules import Refused


class NotLetIn(HTTPError):
    """The project's rules let nobody in."""


class GuardedHandler(BaseHandler):  # type: ignore[misc]
    """A page or file of ours. A subclass says which right it takes: there is no default."""

    right: ClassVar[str]
    """The right that every request needs."""
    viewer: Viewer = Viewer(None, frozenset(), ())
    """Nobody, until it is known who asks: errors before that are told in a page, too."""
    says_a_word: ClassVar[bool] = False
    """A probe: it says one word to anybody, and more only to whoever has the right and asks for it."""
    exposure: str = ""
    """What the page says where everybody sees it."""

    def __init_subclass__(cls, *, is_base: bool = False, **options: Any) -> None:
        """Refuse a handler that does not say whom it serves; `is_base`: it serves nothing itself."""
        super().__init_subclass__(**options)
        if not is_base and getattr(cls, "right", None) not in access.RIGHTS:
            raise TypeError(f"{cls.__name__} needs a right: one of {sorted(access.RIGHTS)}")
        if "prepare" in cls.__dict__:
            raise TypeError(f"{cls.__name__} has a prepare of its own: who may see it is decided here")

    def set_default_headers(self) -> None:
        """Set our headers, none of Flower's: no page of ours may be read across origins."""
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def options(self, *args: str, **kwargs: str) -> None:
        """Refuse what Flower answers to anybody."""
        raise HTTPError(HTTPStatus.METHOD_NOT_ALLOWED)

    def answered_methods(self) -> list[str]:
        """Return the methods that this handler knows, beside OPTIONS."""
        unknown = RequestHandler._unimplemented_method
        names = [name for name in self.SUPPORTED_METHODS if name != "OPTIONS"]
        return [name for name in names if getattr(type(self), name.lower()) is not unknown]

    def wants_more(self) -> bool:
        """Tell whether a probe is asked for what takes a right; every other handler always is."""
        return True

    @property
    def desk(self) -> Desk:
        """What all requests of this Flower share."""
        return desk_of(self.capp)

    @property
    def places(self) -> Places:
        """Where the project's things live."""
        return self.desk.places

    async def prepare(self) -> None:
        """Let nobody in who may not see what this handler serves."""
        if self.says_a_word and not self.wants_more():
            # The viewer stays nobody, without any right.
            return
        options = self.application.options
        has_auth = bool(options.basic_auth or options.auth)
        fault, is_open = self._is_open()
        where: dict[str, Any] = {
            "has_auth": has_auth,
            "address": options.address,
            "is_socket": bool(options.unix_socket),
            "is_open": is_open,
        }
        forwarded = access.is_forwarded(self.request.headers)
        reason = access.refusal(host=self.request.host, is_forwarded=forwarded, **where)
        if reason is not None:
            raise HTTPError(HTTPStatus.FORBIDDEN, reason)
        user = self._verified_user() if has_auth else None
        # Flower's frame asks for it, and its own way fails where a basic-auth name is not ASCII.
        self.current_user = user if has_auth else True
        if has_auth and user is None:
            self._ask_to_log_in()
            return
        if fault is not None:
            raise fault
        self.exposure = access.exposure(**where)
        if self.exposure:
            self.desk.warn_once(self.exposure)
        self.viewer = await self._asked_viewer(user)
        if not self.viewer.may("runs") or not self.viewer.may(self.right):
            raise HTTPError(HTTPStatus.FORBIDDEN, f"{user or 'you'} may not see this: {self.right}")

    def _is_open(self) -> tuple[SettingsError | None, bool]:
        """Return what is wrong with the settings, for those whom Flower lets in, and plet_insecure_open."""
        try:
            return None, self.places.settings.insecure_open
        except SettingsError as error:
            return error, False

    async def _asked_viewer(self, user: str | None) -> Viewer:
        found = await self.desk.rules.viewer(user)
        if isinstance(found, Refused):
            raise NotLetIn(HTTPStatus.FORBIDDEN, found.why)
        return found

    def _verified_user(self) -> str | None:
        options = self.application.options
        name = self._basic_user(options.basic_auth) if options.basic_auth else None
        if options.auth:
            found = self.get_secure_cookie("user")
            text = found.decode("utf-8", "replace") if found else ""
            return text.lower() if text and authenticate(options.auth, text) else None
        return name

    def _basic_user(self, allowed: list[str]) -> str:
        found = access.basic_user(self.request.headers.get("Authorization", ""), allowed)
        if found is None:
            raise HTTPError(HTTPStatus.UNAUTHORIZED)
        return found

    def _ask_to_log_in(self) -> None:
        is_part = "region" in self.request.query_arguments
        if self.request.method not in ("GET", "HEAD") or is_part or self.says_a_word:
            raise HTTPError(HTTPStatus.UNAUTHORIZED)
        self.redirect(f"{self.get_login_url()}?next={url_escape(self.request.uri or '')}")
