"""The Celery project a command is about, and its store opened for reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from plet_celery.errors import SettingsError
from plet_celery.places import Places, places_of

if TYPE_CHECKING:
    from celery import Celery

    from plet_celery.store import Store


@dataclass(frozen=True)
class Project:
    """What `-A` names."""

    app: Celery
    name: str
    """The app as it was given: `proj`."""
    prefix: str
    """What to type before a command: `celery -A proj plet`."""
    places: Places

    @classmethod
    def of(cls, ctx: click.Context) -> Project:
        """Return the project of a command.

        Raises:
            SettingsError: there is no `-A`, or a setting cannot be used.
        """
        root = ctx.find_root()
        program = "plet" if root.info_name == "plet" else "celery"
        group = "" if program == "plet" else " plet"
        given = root.params.get("app")
        if ctx.obj is None or ("app" in root.params and given is None):
            # Celery would hand us an app named "default" that knows no broker and no setting.
            raise SettingsError(
                f"which project? Name its Celery app: {program} -A proj{group} {ctx.info_name} "
                "(proj as in `celery -A proj worker`)"
            )
        name = given if isinstance(given, str) else (ctx.obj.app.main or "proj")
        return cls(ctx.obj.app, name, f"{program} -A {name}{group}", places_of(ctx.obj.app))

    def store(self) -> Store:
        """Return the store, opened for reading; it is closed when the command ends."""
        from plet_celery.store import open_store

        store = open_store(self.places.database_url, read_only=True)
        click.get_current_context().call_on_close(store.close)
        return store
