"""`celery plet migrate`: bring the store's tables to this version, or tell whether they are."""

from __future__ import annotations

import click

from plet_celery.cli.command import BAD, View, Wrong, command
from plet_celery.store import Store, migrate_sql, open_store
from plet_celery.store import migrate as migrate_store


@command("migrate", fields=False)
@click.option("--check", is_flag=True, help="Change nothing; exit 1 when migrations are pending.")
@click.option("--sql", is_flag=True, help="Print the SQL instead of running it.")
@click.option("--revision", default="head", show_default=True, help="Go to this revision.")
def migrate(view: View, *, check: bool, sql: bool, revision: str) -> None:
    """Bring the store's tables up to date."""
    if check and sql:
        raise Wrong("give --check or --sql, not both")
    if check:
        _check(view, view.project.store())
        return
    store = open_store(view.project.places.database_url)
    click.get_current_context().call_on_close(store.close)
    if sql:
        click.echo(migrate_sql(store, revision))
        return
    before = store.check_schema()
    migrate_store(store, revision)
    _tell(view, store, changed=store.check_schema() != before)


def _check(view: View, store: Store) -> None:
    status = store.check_schema()
    _tell(view, store, changed=False)
    if not status.is_current:
        raise SystemExit(BAD)


def _tell(view: View, store: Store, *, changed: bool) -> None:
    status = store.check_schema()
    url = view.project.places.masked_url
    if view.output.as_json:
        view.output.json({"store": url, "current": status.current, "head": status.head, "changed": changed})
        return
    now = status.current or "no tables"
    if status.is_current:
        view.output.line(f"{url} is at {now}, the newest" + (" (migrated now)" if changed else ""))
    else:
        view.output.line(f"{url} is at {now}, the newest is {status.head}")
