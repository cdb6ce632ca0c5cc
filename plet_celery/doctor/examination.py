"""The whole examination of one project: gather within a time limit, decide, take out secrets."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from plet_celery.declarations import unmatched
from plet_celery.doctor import celeryconf, folders, journal, promising, storefacts, versions
from plet_celery.doctor.finding import Finding, Level
from plet_celery.doctor.gathering import Facts, Step, Trouble, gather
from plet_celery.errors import StoreError
from plet_celery.flowerhooks import missing_hooks
from plet_celery.journal_place import JournalInfo
from plet_celery.journal_segments import plet_version
from plet_celery.places import Places
from plet_celery.redaction import Redactor
from plet_celery.settings import Settings, fingerprint
from plet_celery.settings_channels import named_secrets
from plet_celery.store import SchemaStatus, Store, condition, open_store, queries

if TYPE_CHECKING:
    from celery import Celery

DAY: Final = 86_400.0
_REST: Final = {
    "places": Level.ERROR,
    "journal": Level.ERROR,
    "shipper": Level.ERROR,
    "store": Level.WARNING,
    "hosts": Level.WARNING,
}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Whom to examine."""

    app: Celery
    places: Places
    prefix: str
    """How a command is typed: `celery -A proj plet`."""


def examine(subject: Subject, *, timeout: float) -> list[Finding]:
    """Return every finding, section by section.

    Args:
        timeout: seconds for all that asks the disk or the store; what takes longer is a finding.
    """
    places = subject.places
    conf = celeryconf.read_conf(subject.app, has_plet=places.has_plet, enabled=places.settings.enabled)
    store = _store(places)
    groups: dict[str, list[Step]] = {"places": _of_places(places), "journal": _of_journal(places)}
    if isinstance(store, Store):
        groups["store"] = _of_store(places, store, patience=timeout / 4)
    try:
        facts = gather(groups, timeout=timeout)
    finally:
        # A connection that hangs in its thread would hang the closing, too.
        if isinstance(store, Store) and all(one.name != "plet-doctor-store" for one in threading.enumerate()):
            store.close()
    if isinstance(store, Trouble):
        facts.found["store.reach"] = store
    redactor = _redactor(subject)
    found = [*_decide(subject, facts, store, time.time()), *_of_conf(subject, conf, facts)]
    return [_masked(one, redactor) for one in found]


def _of_places(places: Places) -> list[Step]:
    return [
        (f"places.{name}", _bound(folders.look_at, path))
        for name, path in (("home", places.home), ("journal", places.journal), ("runs", places.runs))
    ]


def _of_journal(places: Places) -> list[Step]:
    return [
        ("shipper.server", _bound(journal.server, places.journal)),
        ("journal.info", _bound(journal.info, places.journal)),
        ("journal.contents", _bound(journal.contents, places.journal)),
    ]


def _of_store(places: Places, store: Store, *, patience: float) -> list[Step]:
    def behind() -> journal.Backlog:
        found = journal.info(places.journal)
        positions = store.positions(found.journal_id) if found is not None else {}
        return journal.backlog(places.journal, positions, patience=patience)

    return [
        ("store.reach", _bound(condition.answer, store)),
        ("store.schema", store.check_schema),
        ("store.id", store.store_id),
        ("journal.backlog", behind),
        ("hosts", _bound(queries.list_hosts, store)),
        ("store.dead_letters", _bound(condition.dead_letters, store)),
        ("store.drops", lambda: condition.dropped(store, since=time.time() - DAY)),
        ("store.longest", _bound(condition.longest_runtimes, store)),
        ("store.size", _bound(condition.size_bytes, store)),
    ]


def _decide(subject: Subject, facts: Facts, store: Store | Trouble, now: float) -> Iterator[Finding]:
    yield from _places(subject.places, facts)
    yield from _journal(subject, facts, now)
    yield from _store_findings(subject, facts, store, now)
    yield from _rest(facts)


def _places(places: Places, facts: Facts) -> Iterator[Finding]:
    uid, settings = os.getuid(), places.settings
    for name in ("home", "journal", "runs"):
        folder = facts.get(f"places.{name}", folders.Folder)
        if folder is not None:
            yield folders.decide_folder(name, folder, uid=uid, private=name == "journal")
    home = facts.get("places.home", folders.Folder)
    if home is not None:
        yield from folders.decide_disk(
            home, min_free_bytes=settings.min_free_bytes, min_free_percent=settings.min_free_percent
        )


def _journal(subject: Subject, facts: Facts, now: float) -> Iterator[Finding]:
    settings = subject.places.settings
    server = facts.get("shipper.server", journal.Server)
    if server is not None:
        yield from journal.decide_server(
            server,
            mode=settings.shipper,
            stale=settings.lease_stale,
            version=plet_version(),
            fingerprint=fingerprint(settings),
            prefix=subject.prefix,
        )
    contents = facts.get("journal.contents", journal.Contents)
    if contents is not None:
        yield from journal.decide_contents(contents)
    backlog = facts.get("journal.backlog", journal.Backlog)
    if backlog is not None:
        yield from journal.decide_backlog(backlog, served=server is not None and server.held, now=now)


def _store_findings(subject: Subject, facts: Facts, store: Store | Trouble, now: float) -> Iterator[Finding]:
    places = subject.places
    is_new = places.settings.database_url is None and _is_missing(places.home / "plet.db")
    reached = facts.found.get("store.reach")
    yield from storefacts.decide_reach(
        reached if isinstance(reached, condition.Answer | Trouble) else None,
        shown=places.masked_url,
        is_new=is_new,
    )
    if not isinstance(store, Store) or not isinstance(reached, condition.Answer):
        _forget(facts, ("store.", "hosts", "journal.backlog"))
        return
    schema = facts.get("store.schema", SchemaStatus)
    if schema is not None:
        yield storefacts.decide_schema(schema, prefix=subject.prefix)
        if not schema.is_current:
            _forget(facts, ("store.", "hosts", "journal.backlog"))
            return
    info, identity = facts.get("journal.info", JournalInfo), facts.get("store.id", str)
    if identity is not None:
        yield from storefacts.decide_store_id(info.store_id if info is not None else None, identity)
    bytes_used = facts.get("store.size", int)
    if bytes_used is not None:
        yield storefacts.decide_size(bytes_used)
    letters = facts.get("store.dead_letters", condition.DeadLetters)
    if letters is not None:
        table = store.tables.dead_letter.fullname
        yield storefacts.decide_dead_letters(letters, table=table)
    yield from journal.decide_losses(
        "store", damaged=0, missing=0, dropped=facts.get("store.drops", dict) or {}
    )
    hosts = facts.get("hosts", list)
    if hosts is not None:
        yield from storefacts.decide_hosts(hosts, now=now, dialect=store.url.get_backend_name())


def _is_missing(file: Path) -> bool:
    """Say whether there is no such file; one that we may not look at is there."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _of_conf(subject: Subject, conf: celeryconf.Conf, facts: Facts) -> Iterator[Finding]:
    settings = subject.places.settings
    longest = facts.get("store.longest", dict) or {}
    yield from celeryconf.decide_conf(conf, longest=longest, retention=settings.retention_days * DAY)
    if not conf.broken_import:
        # What could not be imported would be missed here for the wrong reason.
        yield from promising.decide_unmatched(unmatched(subject.app, settings), subject.app.tasks)
    dialect = subject.places.database_url.partition("://")[0].partition("+")[0]
    yield versions.decide_versions(versions.versions(dialect), dialect=dialect)
    yield versions.decide_flower(missing_hooks())
    yield from versions.decide_apprise(settings.channels, find_spec("apprise") is not None)


def _rest(facts: Facts) -> Iterator[Finding]:
    """What could not be found out, and was not told by a finding of its own."""
    for name, trouble in facts.troubles().items():
        if name == "store.reach":
            continue
        section = name.partition(".")[0]
        yield Finding(
            check=name,
            level=_REST.get(section, Level.WARNING),
            text=trouble.text,
            fix=_FIXES.get(trouble.kind, "see what it says; run this again"),
            docs="docs/production.md#what-to-watch",
            data={"error": trouble.kind},
        )


_FIXES: Final = {
    "timeout": "the disk or the store hangs: look at its own log; --timeout gives it longer",
    "PermissionError": "run this as the workers' user",
    "JournalError": "move the journal's folder away; the next worker starts a new one",
}


def _forget(facts: Facts, names: tuple[str, ...]) -> None:
    """Drop the troubles that one finding has explained."""
    for name in [one for one in facts.troubles() if one.startswith(names) and one != "store.reach"]:
        del facts.found[name]


def _store(places: Places) -> Store | Trouble:
    try:
        store = open_store(places.database_url, read_only=True)
    except StoreError as error:
        return Trouble(str(error), type(error).__name__)
    return store


def _bound(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    return lambda: function(*args)


def _redactor(subject: Subject) -> Redactor:
    """Return what knows every secret of this project: none of them may be in a text, whoever wrote it."""
    settings, conf = subject.places.settings, subject.app.conf
    names = Redactor(settings.redact_names)
    values = [*_secrets_of(settings), *_of_urls([subject.places.database_url])]
    for key in ("broker_url", "broker_read_url", "broker_write_url", "result_backend"):
        given = conf.get(key)
        values += _of_urls(given if isinstance(given, list | tuple) else str(given or "").split(";"))
    values += [value for name, value in os.environ.items() if names.is_secret_name(name)]
    values += [value for key, value in _plain(conf).items() if names.is_secret_name(key)]
    return Redactor(settings.redact_names, [value for value in values if _may_be_secret(value)])


def _may_be_secret(value: str) -> bool:
    # PWD and SSH_AUTH_SOCK have a secret's name and are places, which the report is to show.
    return bool(value) and not (value.startswith("/") and os.path.exists(value))  # noqa: PTH110 - never raises


def _secrets_of(settings: Settings) -> list[str]:
    found: list[str] = []
    for name in Settings.model_fields:
        value = getattr(settings, name)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, SecretStr):
                secret = one.get_secret_value()
                # Of a database's URL the password is the secret; the whole of it may be a path.
                found += _of_urls([secret]) if name == "database_url" else [secret]
    of_channels = named_secrets((*settings.channel_secret_urls, *settings.channel_secret_keys))
    return found + [secret for secrets in of_channels.values() for secret in secrets]


def _of_urls(urls: Any) -> list[str]:
    found: list[str] = []
    for url in urls:
        try:
            parts = urlsplit(str(url))
            password = parts.password
        except ValueError:
            continue
        if password:
            found += [password, unquote(password)]
        found += [value for _, _, value in (pair.partition("=") for pair in parts.query.split("&")) if value]
    return found


def _plain(conf: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(conf[key]) for key in conf if isinstance(conf[key], str)}


def _masked(finding: Finding, redactor: Redactor) -> Finding:
    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return redactor.text(value)
        if isinstance(value, Mapping):
            return {redactor.text(str(key)): clean(one) for key, one in value.items()}
        return [clean(one) for one in value] if isinstance(value, list | tuple) else value

    return replace(
        finding, text=redactor.text(finding.text), fix=redactor.text(finding.fix), data=clean(finding.data)
    )
