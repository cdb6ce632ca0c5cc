"""What all commands share: options, exit codes, and how a failure is told.

Exit codes: 0 good, 1 checked and bad, 2 usage, 4 not found, 69 cannot tell (the store), 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from functools import update_wrapper
from typing import Any, Final

import click
from celery.bin.base import CeleryCommand, CeleryOption

from plet_celery import errors
from plet_celery.cli import INTERRUPTED as INTERRUPTED
from plet_celery.cli.project import Project
from plet_celery.terminal.output import Output
from plet_celery.terminal.text import Clock, printable_lines

BAD: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 4
UNAVAILABLE: Final = 69

_OUTPUT = "Output Options"
_UNWRITABLE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


@dataclass(frozen=True)
class View:
    """What a command works with."""

    project: Project
    output: Output
    clock: Clock
    fields: tuple[str, ...]
    """The JSON keys that were asked for; empty means all."""


class Failure(click.ClickException):
    """A command's end with a sentence on stderr."""

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(printable_lines(message)))


class Wrong(Failure):
    """What was asked for makes no sense."""

    exit_code = USAGE


class NotFound(Failure):
    """What was asked for is not there."""

    exit_code = NOT_FOUND


class Unavailable(Failure):
    """The store cannot tell."""

    exit_code = UNAVAILABLE


class Command(CeleryCommand):
    """A command that ends every known trouble with a sentence and its exit code."""

    closed_code = 0
    """Exit code when the reader of our stdout goes away: it has had enough."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; map what it raises."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
        except BrokenPipeError:
            _abandon_stdout()
            ctx.exit(self.closed_code)
        except errors.PletError as error:
            raise failure_of(error) from error
        except OSError as error:
            if error.errno not in _UNWRITABLE or error.filename is not None:
                raise
            _abandon_stdout()
            raise Unavailable(f"the output cannot be written ({error.strerror})") from error


def failure_of(error: errors.PletError) -> Failure:
    """Return how an error ends a command."""
    missing = errors.RunNotFound | errors.LogNotFound | errors.AlertNotFound | errors.SilenceNotFound
    if isinstance(error, missing):
        return NotFound(str(error))
    # A plain PletError is about an argument, such as a cursor that is none.
    if isinstance(error, errors.RunAmbiguous | errors.SettingsError) or type(error) is errors.PletError:
        return Wrong(str(error))
    return Unavailable(str(error))


def command(
    name: str, *, cls: type[Command] = Command, fields: bool = True
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command of a function `(view, **options)`; its docstring is the help.

    Args:
        fields: whether `--fields` makes sense for what it prints.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        @click.pass_context
        def callback(ctx: click.Context, /, *_: Any, **options: Any) -> None:
            function(_view(ctx, options), **options)

        made = click.command(name, cls=cls)(update_wrapper(callback, function))
        made.params.extend(_output_options(fields))
        return made

    return decorate


def _output_options(fields: bool) -> list[click.Option]:
    def flag(names: list[str], text: str, **more: Any) -> click.Option:
        return CeleryOption(names, help_group=_OUTPUT, help=text, **more)

    options = [
        flag(["--json", "as_json"], "JSON: an object for a thing, a line each for lists.", is_flag=True)
    ]
    if fields:
        options.append(
            flag(["--fields"], "Only these JSON keys, comma separated; implies --json.", metavar="A,B")
        )
    options.append(flag(["--utc"], "Times in UTC instead of this machine's zone.", is_flag=True))
    options.append(flag(["--no-color"], "Plain text, as in a pipe.", is_flag=True))
    return options


def _view(ctx: click.Context, options: dict[str, Any]) -> View:
    """Take the shared options out of `options`, find the project, look at the terminal."""
    asked = options.pop("fields", None) or ""
    fields = tuple(part.strip() for part in asked.split(",") if part.strip())
    as_json = options.pop("as_json") or bool(fields)
    no_color = options.pop("no_color") or bool(getattr(ctx.obj, "no_color", False))
    clock = Clock(time.time(), UTC if options.pop("utc") else None)
    output = Output(no_color=no_color, as_json=as_json)
    return View(Project.of(ctx), output, clock, fields)


def _abandon_stdout() -> None:
    """Point stdout at nothing: the interpreter's own flush at exit would fail once more, loudly."""
    if sys.stdout is None:
        return
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # a stream of a test or a notebook has none
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)
