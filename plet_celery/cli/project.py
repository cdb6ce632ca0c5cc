"""The Celery project a command is about, and its store opened for reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from plet_celery.errors import SchemaError, SettingsError
from plet_celery.places import Places, places_of
from plet_celery.store import Store, open_store
from plet_celery.store.migrating import check_not_newer
from plet_celery.terminal.text import printable

if TYPE_CHECKING:
    from celery import Celery


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
        program, group = _words(root)
        given = root.params.get("app")
        if ctx.obj is None or ("app" in root.params and given is None):
            # Celery would hand us an app named "default" that knows no broker and no setting.
            raise SettingsError(
                f"which project? Name its Celery app: {cls.call_of(ctx)} (proj as in `celery -A proj worker`)"
            )
        name = given if isinstance(given, str) else (ctx.obj.app.main or "proj")
        return cls(ctx.obj.app, name, f"{program} -A {name}{group}", places_of(ctx.obj.app))

    @staticmethod
    def call_of(ctx: click.Context) -> str:
        """Return what to type so that a command knows its project: `celery -A proj plet runs`."""
        program, group = _words(ctx.find_root())
        return f"{program} -A proj{group} {ctx.info_name}"

    def whole_app(self) -> Celery:
        """Return the app with all its tasks, as a worker has it: before, it may know none of them.

        Where they cannot be imported a note says so: that must keep nobody from shipping, or from a pass.
        """
        app: Any = self.app
        try:
            app.loader.import_default_modules()
            app.finalize()
        except Exception as error:
            said = printable(f"{type(error).__name__}: {error}"[:300])
            note = f"note: the app's tasks cannot be imported ({said}); what they promise is not known here"
            click.echo(note, err=True)
        return self.app

    def store(self) -> Store:
        """Return the store, opened for reading; it is closed when the command ends.

        Raises:
            StoreUnavailable: it is not there, or does not answer.
            SchemaError: its tables are missing, or older or newer than this version's.
        """
        store = self.open()
        status = store.check_schema()
        check_not_newer(status)
        if not status.is_current:
            found = f"tables of the revision {status.current}" if status.current else "no tables of plet yet"
            raise SchemaError(
                f"{self.places.masked_url} has {found}; start a worker, or run {self.prefix} migrate"
            )
        return store

    def open(self, *, read_only: bool = True) -> Store:
        """Return the store, whatever its tables are."""
        store = open_store(self.places.database_url, read_only=read_only)
        click.get_current_context().call_on_close(store.close)
        return store


def _words(root: click.Context) -> tuple[str, str]:
    """Return the program and what stands between it and a command."""
    return ("plet", "") if root.info_name == "plet" else ("celery", " plet")
