"""`celery plet migrate`: bring the store's tables to this version, or tell whether they are."""

from __future__ import annotations

import click

from plet_celery.cli.command import BAD, View, Wrong, command
from plet_celery.paths import private_directory
from plet_celery.store import SchemaStatus, migrate_sql
from plet_celery.store import migrate as migrate_store
from plet_celery.store.migrating import check_not_newer
from plet_celery.terminal.text import printable


@command("migrate", fields=False)
@click.option(
    "--check", is_flag=True, help="Change nothing; exit 1 when migrations are pending, 69 on a newer store."
)
@click.option("--sql", is_flag=True, help="Print the SQL instead of running it.")
@click.option("--revision", default="head", show_default=True, help="Go to this revision.")
def migrate(view: View, *, check: bool, sql: bool, revision: str) -> None:
    """Bring the store's tables up to date."""
    if check and sql:
        raise Wrong("give --check or --sql, not both")
    if check:
        status = view.project.open().check_schema()
        # Nothing is pending in a newer store: this version cannot tell what is.
        check_not_newer(status)
        _tell(view, status, changed=False)
        raise SystemExit(0 if status.is_current else BAD)
    if sql:
        view.output.line(migrate_sql(view.project.open(), revision))
        return
    if view.project.places.settings.database_url is None:
        private_directory(view.project.places.home)
    store = view.project.open(read_only=False)
    before = store.check_schema()
    after = migrate_store(store, revision)
    _tell(view, after, changed=after != before)


def _tell(view: View, status: SchemaStatus, *, changed: bool) -> None:
    url = printable(view.project.places.masked_url)
    if view.output.as_json:
        view.output.json({"store": url, "current": status.current, "head": status.head, "changed": changed})
        return
    now = f"at {status.current}" if status.current else "without tables"
    newest = "the newest" if status.is_current else f"the newest is {status.head}"
    view.output.line(f"{url} is {now}, {newest}{' (migrated now)' if changed else ''}")
