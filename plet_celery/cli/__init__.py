"""`celery plet …`: what runs, what ran, and why it failed, in a terminal.

Celery imports this module in every `celery` call, workers too, so it names the commands and loads
none: `celery --help` pays for `plet_celery` and `plet_celery.cli` only.
"""

from __future__ import annotations

import importlib
from typing import Final

import click
from click_didyoumean import DYMGroup  # type: ignore[import-untyped]

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "up": ("plet_celery.cli.up:up", "Start broker, worker, beat, shipper and Flower for development."),
    "runs": ("plet_celery.cli.runs:runs", "List runs, newest first."),
    "show": ("plet_celery.cli.show:show", "Show one run: stages, error, metadata, attempts."),
    "logs": ("plet_celery.cli.logs:logs", "Print what a run logged and printed."),
    "watch": ("plet_celery.cli.watch:watch", "Follow a run with live bars; leave with its outcome."),
    "health": ("plet_celery.cli.health:health", "Say how broker, workers, store and shippers do."),
    "config": ("plet_celery.cli.config:config", "Show every setting, its source, and where things live."),
    "doctor": ("plet_celery.cli.doctor:doctor", "Check what is wired, what is not, and what to do."),
    "alerts": ("plet_celery.cli.alerts:alerts", "List alerts, show one, acknowledge or silence it."),
    "objectives": ("plet_celery.cli.objectives:objectives", "List promises and how they are kept."),
    "monitor": ("plet_celery.cli.monitor:monitor", "Pass again and again, or once: checks, alerts."),
    "ship": ("plet_celery.cli.ship:ship", "Run the shipper in the foreground (systemd, pods)."),
    "prune": ("plet_celery.cli.prune:prune", "Remove runs whose time is over."),
    "erase": ("plet_celery.cli.erase:erase", "Erase a run or a tenant, everywhere."),
    "migrate": ("plet_celery.cli.migrate:migrate", "Bring the store's tables up to date."),
}
"""Each command: where it is, and its line in `celery plet --help`."""

INTERRUPTED: Final = 130


class LazyGroup(DYMGroup):  # type: ignore[misc]
    """A group that imports a command when it is called, and none to list them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Import and run the command; Ctrl-C meanwhile gives 130, also during the import."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    name="plet",
    cls=LazyGroup,
    invoke_without_command=True,
    short_help="See what tasks are doing, what they did, and why they failed.",
)
@click.pass_context
def plet(ctx: click.Context) -> None:
    """See what tasks are doing, what they did, and why they failed.

    A run is one Celery task id. RUN is its id, any unique prefix of it, @last or @last-failed.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Run the commands as a program of its own: `plet -A proj runs`."""
    from plet_celery.cli.program import program

    program(prog_name="plet", auto_envvar_prefix="CELERY")
