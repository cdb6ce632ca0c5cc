"""Context that travels with a message as flat headers: tenant, trigger, user, queued_at, canvas.

Decided here, as pure functions; `signals.py` reads and writes the messages.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Final

import msgspec

from plet_celery.events import safe_text

TENANT: Final = "plet_tenant"
TRIGGER: Final = "plet_trigger"
USER: Final = "plet_user"
QUEUED_AT: Final = "plet_queued_at"
CANVAS: Final = "plet_canvas"

_BEAT: Final = "celery_beat_task"
_TEXT_MAX: Final = 200


class Context(msgspec.Struct, frozen=True):
    """Who asked for a run, and what it belongs to."""

    tenant: str = ""
    trigger: str = "manual"
    user: str | None = None
    canvas: str | None = None
    queued_at: float | None = None


def stamp(
    headers: MutableMapping[str, Any],
    parent: Context | None,
    parent_id: str | None,
    now: float,
    *,
    group_behind: str | None = None,
) -> None:
    """Put the context of a message into its headers, in place.

    Args:
        headers: Celery's message headers (`id`, `root_id`, `group` … beside our own).
        parent: the context of the run that publishes, or None outside a task.
        parent_id: that run's id; a retry or `replace` publishes under the same id.
        now: wall time of this publish.
        group_behind: the group that the last step of its chain is a member of.

    Tenant, user and canvas are inherited; a retry or replace keeps the run's own trigger.
    """
    if parent is not None:
        inherited = {TENANT: parent.tenant, USER: parent.user, CANVAS: parent.canvas}
        for key, value in inherited.items():
            if value and not headers.get(key):
                headers[key] = value
        if headers.get("id") == parent_id:
            headers[TRIGGER] = parent.trigger
        elif not headers.get(TRIGGER):
            headers[TRIGGER] = "task"
    elif not headers.get(TRIGGER):
        headers[TRIGGER] = "beat" if headers.get(_BEAT) else "manual"
    if not headers.get(CANVAS):
        headers[CANVAS] = _canvas_of(headers, group_behind)
    headers[QUEUED_AT] = now


def read(headers: Mapping[str, Any], *, canvas: str | None, tenants_allowed: Sequence[str] = ()) -> Context:
    """Return the context of a message; hostile or foreign values become text, or nothing.

    Args:
        canvas: the key where the message has none.
        tenants_allowed: tenant paths this worker may record (each with all below it); empty means all.
    """
    queued_at = headers.get(QUEUED_AT)
    tenant = _text(headers.get(TENANT)) or ""
    if tenants_allowed and not any(tenant == one or tenant.startswith(one + "/") for one in tenants_allowed):
        tenant = ""
    return Context(
        tenant=tenant,
        trigger=_text(headers.get(TRIGGER)) or ("beat" if headers.get(_BEAT) else "manual"),
        user=_text(headers.get(USER)),
        canvas=_text(headers.get(CANVAS)) or canvas,
        queued_at=float(queued_at) if isinstance(queued_at, (int, float)) and 0 < queued_at < 1e11 else None,
    )


def group_behind(body: Any) -> str | None:
    """Return the group that the last step of a message's chain is a member of, or None.

    The first step of a chain in a group does not name the group; only the last one does.
    """
    embedded = body[2] if isinstance(body, (tuple, list)) and len(body) == 3 else None
    steps = embedded.get("chain") if isinstance(embedded, Mapping) else None
    last = steps[0] if isinstance(steps, (tuple, list)) and steps else None  # Celery keeps them reversed
    options = last.get("options") if isinstance(last, Mapping) else None
    return _text(options.get("group_id")) if isinstance(options, Mapping) else None


def _canvas_of(headers: Mapping[str, Any], behind: str | None) -> str | None:
    # Members of a top-level group have a root each; only the group's id is shared.
    root, own = headers.get("root_id"), headers.get("id")
    group = headers.get("group") or behind
    return group if group and root == own else root or own


def _text(value: Any) -> str | None:
    return safe_text(value, _TEXT_MAX) if isinstance(value, str) and value else None
