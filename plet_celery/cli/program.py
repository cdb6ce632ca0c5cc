"""The program `plet`: the same commands as `celery plet`, without Celery's other ones."""

from __future__ import annotations

import os
import pathlib
import traceback
from typing import Any

import click
from celery.app.utils import find_app
from celery.bin.base import CeleryOption, CLIContext

from plet_celery.cli import LazyGroup
from plet_celery.terminal.text import printable_lines


@click.group(name="plet", cls=LazyGroup, invoke_without_command=True)
@click.option(
    "-A", "--app", cls=CeleryOption, help_group="Global Options", help="The Celery app, as in `celery -A`."
)
@click.option(
    "--workdir",
    cls=CeleryOption,
    type=pathlib.Path,
    is_eager=True,
    callback=lambda _ctx, _param, path: os.chdir(path) if path else None,
    help_group="Global Options",
    help="Change to this folder first.",
)
@click.option(
    "-C", "--no-color", cls=CeleryOption, is_flag=True, help_group="Global Options", help="Plain text."
)
@click.pass_context
def program(ctx: click.Context, *, app: str | None, workdir: None, no_color: bool) -> None:
    """See what tasks are doing, what they did, and why they failed.

    A run is one Celery task id. RUN is its id, any unique prefix of it, @last or @last-failed.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        ctx.exit()
    loaded: Any = _load(ctx, app) if app else None
    ctx.obj = CLIContext(app=loaded, no_color=no_color, workdir=workdir)


def _load(ctx: click.Context, name: str) -> Any:
    try:
        return find_app(name)
    except ModuleNotFoundError as error:
        if error.name == name.partition(":")[0]:
            ctx.fail(f"there is no module {name!r} here; run this in the project's folder or give --workdir")
        ctx.fail(_reason(name))
    except Exception:
        ctx.fail(_reason(name))


def _reason(name: str) -> str:
    lines = [line for part in traceback.format_exc().split("\n") for line in printable_lines(part)]
    return f"the Celery app {name!r} cannot be imported:\n" + "\n".join(lines)
