"""Has the pages put into Flower, where this process is one."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any, Final

log = logging.getLogger(__name__)

_FLOWER_COMMAND: Final = "flower.command"
_CONTEXTS_MAX: Final = 100


def show_in_flower() -> None:
    """Put our pages into this process's Flower, if it is one; never raises."""
    if not is_flower():
        return
    try:
        importlib.import_module("plet_celery.web.activation").activate()
    except Exception:
        log.exception("plet's pages cannot be loaded; see celery plet doctor")


def is_flower() -> bool:
    """Tell whether this process is `celery flower`: every `celery` command imports Flower, one runs it.

    Never raises: a task's process asks, too, whatever program it is part of.
    """
    try:
        return runs_flower(sys.modules["click"].get_current_context(silent=True))
    except Exception:
        return False


def runs_flower(context: Any) -> bool:
    """Tell whether a context of click is of `celery flower`."""
    for _ in range(_CONTEXTS_MAX):
        if context is None:
            return False
        # The name alone would do for a florist's own command.
        chosen = getattr(context.command, "commands", {}).get(context.invoked_subcommand, context.command)
        if getattr(chosen.callback, "__module__", None) == _FLOWER_COMMAND:
            return True
        context = context.parent
    return False
