"""The base of every page: our way of reading arguments, regions, what went wrong in a sentence.

A page is made of regions. Each is asked for on its own in a thread, has its own error, and can be
fetched alone (`?region=name`), where an unchanged one is a 304.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Hashable, Mapping
from functools import cached_property
from http import HTTPStatus
from typing import Any, ClassVar, Final, TypeVar
from urllib.parse import urlencode

from tornado.template import BaseLoader
from tornado.web import HTTPError

from plet_celery import __version__
from plet_celery.errors import PletError, SettingsError, StoreError, StoreMissing
from plet_celery.store import Store, queries
from plet_celery.web import frame, moments
from plet_celery.web.guarded import GuardedHandler, NotLetIn
from plet_celery.web.moments import Reader
from plet_celery.web.pool import Busy

log = logging.getLogger(__name__)
T = TypeVar("T")

_ARGUMENT_MAX: Final = 1000
_ZONE_COOKIE: Final = "plet_tz"
_YEAR: Final = 365
_PASSING: Final = frozenset({"region", "position"})
"""Arguments that say how a page is fetched, not what it shows."""
_HOSTS: Final = 1000
_SILENT: Final = 3

Region = Callable[[], str]
"""Returns a fragment; called in a thread."""


class PletHandler(GuardedHandler, is_base=True):
    """A page of ours, made of regions."""

    file_regions: ClassVar[frozenset[str]] = frozenset()
    """Regions that read files of this host or of the mirror."""
    kept_regions: ClassVar[frozenset[str]] = frozenset()
    """Regions that tell of the store alone: while nothing changes in it, they are not made anew."""
    main_region: ClassVar[str] = ""
    """The one that says it where nothing was ever recorded; the others are empty then."""
    passing_regions: ClassVar[Mapping[str, float]] = {"footer": 2.0}
    """Regions beside what is looked for: each is given again for so many seconds, whatever changes."""
    _mark: asyncio.Future[tuple[float, ...]] | None = None

    def create_template_loader(self, template_path: str) -> BaseLoader:
        """Return the loader that knows our templates, whatever Flower has."""
        found: BaseLoader = self.desk.loader(template_path)
        return found

    @property
    def store(self) -> Store:
        """The store, opened for reading."""
        return self.desk.store

    def words(self, name: str, default: str = "") -> str:
        """Return an argument of the URL as it was sent: Flower's own reader escapes it for HTML."""
        return str(self.get_query_argument(name, default) or default)[:_ARGUMENT_MAX]

    @cached_property
    def given(self) -> dict[str, list[str]]:
        """All arguments of the URL."""
        return {
            name: [one[:_ARGUMENT_MAX] for one in self.get_query_arguments(name)]
            for name in self.request.query_arguments
        }

    @cached_property
    def reader(self) -> Reader:
        """When and in which zone this is read: `?tz=`, else what the browser remembers."""
        asked = self.words("tz") or self.get_cookie(_ZONE_COOKIE, "") or ""
        return Reader(time.time(), asked if asked in moments.ZONES else "utc")

    def compute_etag(self) -> str | None:
        """Return None: a page has the clock's words in it. What regions are named by, they say themselves."""
        return None

    def in_pool(self, job: Callable[[], T]) -> Awaitable[T]:
        """Return what `job` returns, from a thread, in a bounded time."""
        return self.desk.pool.run(job)

    def change_mark(self) -> Awaitable[tuple[float, ...]]:
        """Return what marks the store's changes; one question for all regions of a request."""
        if self._mark is None:
            self._mark = asyncio.ensure_future(self.in_pool(lambda: queries.change_mark(self.store)))
        return self._mark

    def plet_url(self, *parts: str) -> str:
        """Return the URL of a page of ours, with Flower's prefix: `plet_url("runs", run_id)`."""
        return self.desk.url(self.reverse_url("plet"), *parts)

    def run_url(self, run_id: str) -> str:
        """Return the URL of a run's page."""
        return self.plet_url("runs", run_id)

    def lead_to(self, address: str) -> None:
        """Redirect to another page of ours, with the arguments of this one."""
        self.redirect(address + (f"?{self.request.query}" if self.request.query else ""))

    def here(self, **changes: str | int | None) -> str:
        """Return this page's address with other arguments; None leaves one out."""
        given = {name: values for name, values in self.given.items() if name not in _PASSING}
        for name, value in changes.items():
            given[name] = [] if value is None else [str(value)]
        return "?" + urlencode([(name, one) for name, values in given.items() for one in values])

    def part(self, name: str, **namespace: Any) -> str:
        """Return one of our templates as a fragment; safe in any thread."""
        words = {"plet_url": self.plet_url, "run_url": self.run_url, "here": self.here}
        return frame.fragment(name, **words, **namespace)

    def show(self, template: str, **namespace: Any) -> None:
        """Send a page in Flower's frame."""
        self._remember_zone()
        self.finish(moments.fill(self._page(template, **namespace), self.reader))

    def show_kept(
        self, template: str, regions: Mapping[str, str], besides: Hashable, **namespace: Any
    ) -> None:
        """Send a page that depends on its address, its viewer and `besides`, apart from its regions."""
        self._remember_zone()
        key = (template, self.region_key(""), self.exposure, besides)

        def make(holes: Mapping[str, str]) -> str:
            return self._page(template, regions=holes, **namespace)

        self.finish(moments.fill(self.desk.frames.page(key, regions, make), self.reader))

    def _remember_zone(self) -> None:
        if asked := self.words("tz"):
            zone = asked if asked in moments.ZONES else "utc"
            self.set_cookie(_ZONE_COOKIE, zone, expires_days=_YEAR, samesite="Lax", path="/")

    def _page(self, template: str, **namespace: Any) -> str:
        ours = moments.WORDS | {"plet_url": self.plet_url, "here": self.here, "asset": self._asset}
        html: bytes = self.render_string(
            f"plet/{template}",
            url_prefix=self.application.options.url_prefix,  # Flower's frame asks for it
            version=__version__,
            viewer=self.viewer,
            exposure=self.exposure,
            reader=self.reader,
            **ours,
            **namespace,
        )
        return html.decode()

    async def regions(self, found: Mapping[str, Region | PletError]) -> dict[str, str]:
        """Return every region as a fragment, each with its own error instead where it has one."""
        if sum(name in self.kept_regions and name not in self.passing_regions for name in found) > 1:
            self.change_mark()  # one question for all of them
        fragments = await asyncio.gather(*(self._region(name, one) for name, one in found.items()))
        return dict(zip(found, fragments, strict=True))

    async def send_region(self, found: Mapping[str, Region | PletError]) -> None:
        """Send the region that is asked for alone, or 304."""
        name = self.words("region")
        if name not in found:
            raise HTTPError(HTTPStatus.NOT_FOUND, f"no region {name[:40]!r} on this page")
        fragment = await self._region(name, found[name])
        reader = self.reader
        tag = hashlib.blake2b(f"{reader.zone}\n{fragment}".encode("utf-8", "replace"), digest_size=12)
        self.set_header("Etag", f'"{tag.hexdigest()}"')
        self.set_header("Cache-Control", "private, no-cache")
        if self.check_etag_header():
            self.set_status(HTTPStatus.NOT_MODIFIED)
            self.finish()
            return
        self.finish(moments.fill(fragment, reader))

    def footer(self) -> str:
        """Say how far behind what is shown is: the footer of every page."""
        hosts = queries.list_hosts(self.store, limit=_HOSTS)
        silent = [one for one in hosts if one.unreachable_since is not None]
        return self.part(
            "footer.html",
            as_of=queries.as_of(self.store),
            since=queries.recorded_since(self.store),
            backlog=sum(one.backlog_bytes or 0 for one in hosts if one.left_at is None),
            silent=silent[:_SILENT] if self.viewer.tenants is None else [],
            more_silent=max(0, len(silent) - _SILENT) if self.viewer.tenants is None else 0,
        )

    def region_key(self, name: str) -> Hashable:
        """Return what a region of this page is kept under: who asks for what, however it is fetched."""
        given = [(key, tuple(values)) for key, values in self.given.items() if key not in _PASSING]
        return (self.viewer, self.request.path, name, self.reader.zone, tuple(sorted(given)))

    async def _region(self, name: str, make: Region | PletError) -> str:
        key = self.region_key(name)
        pool = self.desk.files if name in self.file_regions else self.desk.pool
        answers = self.desk.answers
        mark: Hashable = None
        try:
            if isinstance(make, PletError):
                raise make
            kept = answers.recent(key, self.passing_regions.get(name, 0.0), time.time())
            if kept is None and name in self.kept_regions:
                if self._mark is None and pool is self.desk.pool:
                    # A way to another thread and back costs more than the question.
                    return await pool.run(lambda: self._made_or_kept(key, make))
                # Asked before the region is: what changes in between makes it anew the next time.
                mark = await self.change_mark()
                kept = answers.again(key, mark, time.time())
            if kept is not None:
                return kept
            made = await pool.run(make)
        except PletError as error:
            self.desk.warn_now_and_then(str(error))
            if isinstance(error, StoreMissing) and self.main_region and not answers.has(key):
                return self._nothing_yet(error) if name == self.main_region else ""
            return answers.with_trouble(key, self._told(error))
        except Exception as error:
            log.error("a region failed: region=%s id=%s", name, _mark_of(error), exc_info=error)
            return answers.with_trouble(key, f"an error of ours, in Flower's log as {_mark_of(error)}")
        answers.keep(key, made, time.time(), mark)
        return made

    def _made_or_kept(self, key: Hashable, make: Region) -> str:
        with self.store.one_moment():
            mark = queries.change_mark(self.store)
            kept = self.desk.answers.again(key, mark, time.time())
            if kept is not None:
                return kept
            made = make()
        self.desk.answers.keep(key, made, time.time(), mark)
        return made

    def _nothing_yet(self, error: StoreMissing) -> str:
        text = str(error) if self.viewer.tenants is None else ""
        return self.part("nothing_yet.html", where=text[:1].upper() + text[1:])

    def _told(self, error: PletError) -> str:
        """Return an error in words: where the store is, is for those who see all of it."""
        if isinstance(error, StoreError) and self.viewer.tenants is not None:
            return "the store does not answer; Flower's log says why"
        return str(error)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send what went wrong in a sentence: no trace, no settings."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        is_part = "region" in self.request.query_arguments
        if status_code == HTTPStatus.BAD_REQUEST:
            # What cannot be read must not fail the page that says so.
            self.request.query_arguments = {}
        if not hasattr(self, "_current_user"):
            self.current_user = None  # Flower's frame asks; who is refused is not asked again
        if status_code == HTTPStatus.UNAUTHORIZED:
            self._say_unauthorized()
            return
        if isinstance(error, StoreError | Busy):
            self.set_status(HTTPStatus.SERVICE_UNAVAILABLE)
            self.set_header("Retry-After", "5")
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(self.answered_methods()))
        if self.request.method == "HEAD" or is_part:
            self.finish()
            return
        self.show("error.html", status=self.get_status(), text=self._why(error, status_code))

    def _why(self, error: BaseException | None, status: int) -> str:
        if isinstance(error, HTTPError):
            return error.get_message() or HTTPStatus(status).phrase
        if isinstance(error, StoreError | Busy | SettingsError):
            return self._told(error)
        return f"an error of ours, in Flower's log as {_mark_of(error)}"

    def _say_unauthorized(self) -> None:
        if self.application.options.basic_auth:
            self.set_header("WWW-Authenticate", 'Basic realm="flower"')
            self.finish("Access denied")
        else:  # a browser would ask for a password that there is not
            self.finish("Signed out; load the page again")

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log what is ours to mend; a store that is down is told to whoever looks."""
        if isinstance(value, PletError):
            self.desk.warn_now_and_then(f"path={self.request.path[:200]} {value}")
        elif isinstance(value, NotLetIn):
            pass  # told when the rule was asked; live pages would tell it every other second
        elif isinstance(value, HTTPError):
            super().log_exception(typ, value, tb)
        else:
            log.error("page failed: path=%s id=%s", self.request.path, _mark_of(value), exc_info=value)

    def _asset(self, name: str) -> str:
        return self.plet_url("static", name) + f"?v={self.desk.asset_mark(name)}"


def _mark_of(error: BaseException | None) -> str:
    """Return what names an error in the log and on the page."""
    mark: str = getattr(error, "plet_mark", "") or uuid.uuid4().hex[:8]
    if error is not None:
        error.plet_mark = mark  # type: ignore[attr-defined]
    return mark
