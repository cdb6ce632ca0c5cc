"""Who asks, and what they may see: decided here, as pure functions of plain values.

Nothing is served that is not allowed. Without authentication that is what Flower serves to this
machine alone; with it, what `plet_rights_for` and `plet_tenants_for` grant.
"""

from __future__ import annotations

import base64
import hmac
import importlib
import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from celery.utils.imports import cwd_in_path

from plet_celery.errors import SettingsError
from plet_celery.settings import ALL_TENANTS
from plet_celery.store.records import Attempt, EventRow, Run, Stage

RIGHTS: Final = frozenset({"runs", "arguments", "logs", "tracebacks", "act"})
_LOOPBACK_NAMES: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})
_FORWARDED: Final = ("X-Forwarded-For", "X-Real-Ip")
_ARGUMENTS: Final = ("args", "kwargs", "result")
_TRACES: Final = ("traceback", "frames")
_OF_LOGS: Final[tuple[tuple[str, Any], ...]] = (("log_lines", 0), ("log_folder", None), ("log_folders", []))
_LOG_KINDS: Final = frozenset({"log.written"})

Rule = Callable[[str | None], Any]
Record = TypeVar("Record", Run, Attempt, Stage)


@dataclass(frozen=True)
class Viewer:
    """Somebody who looks at the pages."""

    user: str | None
    """Verified name or e-mail; None without authentication."""
    rights: frozenset[str]
    tenants: tuple[str, ...] | None
    """Paths, each with all below it; None: every tenant."""

    def may(self, right: str) -> bool:
        """Tell whether the viewer has a right."""
        return right in self.rights


def refusal(
    *,
    has_auth: bool,
    address: str,
    is_socket: bool,
    host: str,
    is_open: bool,
    is_forwarded: bool = False,
) -> str | None:
    """Return why nothing is served to anybody, or None.

    Args:
        address: what Flower listens on (`--address`); empty is every interface.
        is_socket: it listens on a Unix socket, which only this machine reaches.
        host: the name by which the page was asked for (the Host header).
        is_open: `plet_insecure_open`.
        is_forwarded: a proxy asks for somebody else.
    """
    if has_auth or is_open:
        return None
    if not is_socket and not is_loopback(address):
        where = f"address {address!r}" if address else "every network interface"
        return (
            f"Flower has no authentication and listens on {where}: runs and logs are not served. "
            "Start it with --address=127.0.0.1, or with --basic-auth=user:password, or an OAuth provider; "
            "plet_insecure_open = True serves them to everybody."
        )
    # A page of another site may have its name resolve to this machine.
    if not is_socket and not is_loopback(host_name(host)):
        return (
            f"Flower has no authentication and was asked for as {host_name(host)!r}: runs and logs are "
            "served as localhost only. Give Flower --basic-auth or an OAuth provider; "
            "plet_insecure_open = True serves them to everybody."
        )
    if is_forwarded:
        return (
            "Flower has no authentication and was asked through a proxy, for another machine: runs and logs "
            "are not served. Give Flower --basic-auth or an OAuth provider of its own; "
            "plet_insecure_open = True serves them to everybody."
        )
    return None


def is_forwarded(headers: Mapping[str, str]) -> bool:
    """Tell whether a proxy says that it asks for another machine; one that says nothing is not seen."""
    said = [one.strip() for name in _FORWARDED for one in headers.get(name, "").split(",") if one.strip()]
    return "Forwarded" in headers or not all(is_loopback(one) or is_loopback(host_name(one)) for one in said)


def exposure(*, has_auth: bool, address: str, is_socket: bool, is_open: bool) -> str:
    """Return what a page says that everybody who reaches Flower sees; empty where not everybody does."""
    if has_auth or not is_open or is_socket or is_loopback(address):
        return ""
    return (
        "plet_insecure_open: everybody who reaches this address sees all runs and logs, no password needed."
    )


def is_loopback(name: str) -> bool:
    """Tell whether a host name or address is this machine alone."""
    if name.lower().rstrip(".") in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_name(host: str) -> str:
    """Return the name in a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def basic_user(authorization: str, allowed: Sequence[str]) -> str | None:
    """Return the name of a basic-auth header whose credentials (`name:password`) are allowed."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        given = base64.b64decode(encoded.strip(), validate=True)
    except ValueError:
        given = b""
    # Bytes: a name with letters beyond ASCII is one, too. All are compared, whatever fits first.
    fits = [hmac.compare_digest(one.encode(), given) for one in allowed]
    if scheme.lower() != "basic" or not any(fits):
        return None
    return given.decode().partition(":")[0]


def viewer_of(user: str | None, rights_for: Rule | None, tenants_for: Rule | None) -> Viewer:
    """Return what a user may see, as the project's rules say.

    Raises:
        SettingsError: a rule returned what makes no sense; nobody is let in by that.
    """
    rights = RIGHTS if rights_for is None else _checked_rights(rights_for(user))
    tenants = None if tenants_for is None else _checked_tenants(tenants_for(user))
    return Viewer(user, rights, tenants)


def resolved(rule: Rule | str | None, name: str) -> Rule | None:
    """Return the function that a setting names, by a dotted path such as `shop.access:rights_for`.

    Raises:
        SettingsError: there is none.
    """
    if rule is None or callable(rule):
        return rule
    module, _, attribute = rule.replace(":", ".").rpartition(".")
    try:
        # As Celery itself finds the app: its working directory is on the path only for that.
        with cwd_in_path():
            found: Any = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module of the project may raise anything
        raise SettingsError(
            f"{name} = {rule!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise SettingsError(f"{name} = {rule!r} is no function of a user")
    rule_found: Rule = found
    return rule_found


def permitted(record: Record, viewer: Viewer) -> Record:
    """Return a run, attempt or stage without what the viewer may not see."""
    changes: dict[str, Any] = {}
    if not viewer.may("arguments"):
        changes |= {name: None for name in _ARGUMENTS if hasattr(record, name)}
    if not viewer.may("logs"):
        changes |= {name: none for name, none in _OF_LOGS if hasattr(record, name)}
    if not viewer.may("tracebacks") and record.error is not None:
        changes["error"] = _without(record.error, _TRACES)
    return msgspec.structs.replace(record, **changes) if changes else record


def permitted_events(found: Iterable[EventRow], viewer: Viewer) -> list[EventRow]:
    """Return the events that the viewer may see, without what they may not."""
    return [
        _permitted_event(one, viewer) for one in found if viewer.may("logs") or one.kind not in _LOG_KINDS
    ]


def _permitted_event(event: EventRow, viewer: Viewer) -> EventRow:
    data = event.data
    if not viewer.may("arguments"):
        data = _without(data, _ARGUMENTS)
    if not viewer.may("tracebacks") and isinstance(data.get("error"), dict):
        data = data | {"error": _without(data["error"], _TRACES)}
    return msgspec.structs.replace(event, data=data)


def _without(data: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in names}


def _checked_rights(found: Any) -> frozenset[str]:
    rights = _texts(found, "plet_rights_for")
    unknown = sorted(rights - RIGHTS)
    if unknown:
        raise SettingsError(f"plet_rights_for returned {unknown}; the rights are {sorted(RIGHTS)}")
    return frozenset(rights)


def _checked_tenants(found: Any) -> tuple[str, ...] | None:
    return None if found is ALL_TENANTS else tuple(sorted(_texts(found, "plet_tenants_for")))


def _texts(found: Any, name: str) -> set[str]:
    # A bare text is a set of letters to Python, and None would be a rule that forgot to return.
    if isinstance(found, str) or not isinstance(found, Iterable):
        raise SettingsError(f"{name} returned {type(found).__name__}; return a set or list of texts")
    texts = set(found)
    if not all(isinstance(one, str) for one in texts):
        raise SettingsError(f"{name} returned {sorted(map(repr, texts))[:5]}; return a set or list of texts")
    return texts
