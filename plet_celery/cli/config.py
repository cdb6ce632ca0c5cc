"""`celery plet config`: every setting with its source, secrets masked, and where things live."""

from __future__ import annotations

from typing import Any

import click
import msgspec
from rich.table import Table
from rich.text import Text

from plet_celery.cli.command import View, command
from plet_celery.settings_sources import Sourced, describe_settings
from plet_celery.terminal.text import printable, shorten


@command("config", fields=False)
@click.option("--changed", is_flag=True, help="Only settings that are not at their default.")
def config(view: View, *, changed: bool) -> None:
    """Show every setting, its source, and where things live."""
    options = [
        one for one in describe_settings(view.project.app.conf) if not changed or one.source != "default"
    ]
    if view.output.as_json:
        settings = [one.model_dump(mode="json") for one in options]
        view.output.json({**_places(view), "settings": settings})
        return
    places = _grid()
    for name, value in _places(view).items():
        places.add_row(Text(name, style="dim"), Text(printable(_shown(value))))
    view.output.draw(places)
    if not view.project.places.has_plet:
        view.output.draw(Text("this app has no Plet(app): nothing of it is recorded", style="yellow"))
    view.output.line()
    if options:
        view.output.draw(_table(view, options))
    else:
        view.output.line("every setting is at its default")


def _places(view: View) -> dict[str, Any]:
    places = view.project.places
    return {
        "home": str(places.home),
        "journal": str(places.journal),
        "runs": str(places.runs),
        "store": places.masked_url,
        "recording": places.has_plet and places.settings.enabled,
    }


def _table(view: View, options: list[Sourced]) -> Table:
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("SETTING", "VALUE", "SOURCE"):
        shown.add_column(name, no_wrap=True)
    describe = view.output.is_terminal and view.output.width >= 120
    if describe:
        shown.add_column("MEANING", no_wrap=True, overflow="ellipsis", ratio=1)
    room = view.output.width if not view.output.is_terminal else max(12, view.output.width // 3)
    for one in options:
        style = "dim" if one.source == "default" else "bold"
        cells = [
            Text(one.name),
            Text(shorten(printable(_shown(one.value)), room), style=style),
            Text(one.source),
        ]
        shown.add_row(*cells, *([Text(one.description, style="dim")] if describe else []))
    return shown


def _grid() -> Table:
    return Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))


def _shown(value: Any) -> str:
    if value in (None, "", []):
        return "–"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
