"""`celery plet doctor`: what is wired, what is not, and what to do about it.

Exit codes: 0 no error, 1 an error, 3 a warning (only with `--fail-on warning`), 69 no store.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import click
from rich.table import Table
from rich.text import Text

from plet_celery.cli.command import BAD, UNAVAILABLE, View, command
from plet_celery.cli.options import Number
from plet_celery.doctor.examination import Subject, examine
from plet_celery.doctor.finding import Finding, Level, worst
from plet_celery.terminal.output import Output
from plet_celery.terminal.text import printable, span

WARNED: Final = 3

_SECTIONS: Final = {
    "places": "Where things live",
    "shipper": "Shipper",
    "journal": "Journal",
    "store": "Store",
    "hosts": "Hosts",
    "celery": "Celery",
    "objectives": "Promises",
    "versions": "Versions",
}
_SIGNS: Final = {
    Level.OK: ("✔", "+", "green"),
    Level.NOTE: ("·", ".", "cyan"),
    Level.WARNING: ("▲", "!", "yellow"),
    Level.ERROR: ("✖", "x", "red"),
}
_NAMES: Final = {Level.OK: "ok", Level.NOTE: "note", Level.WARNING: "warning", Level.ERROR: "error"}
_SUBJECT: Final = 20
"""Columns of a finding's subject, where the terminal is wide enough."""
_WIDE: Final = 72


@command("doctor", fields=False)
@click.option("-q", "--quiet", is_flag=True, help="Only what is not fine.")
@click.option(
    "--timeout",
    type=Number(min=0.1),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait so long for disk and store.",
)
@click.option(
    "--fail-on",
    type=click.Choice(["warning", "error"]),
    default="error",
    show_default=True,
    help="With `warning`, exit 3 for a warning.",
)
def doctor(view: View, *, quiet: bool, timeout: float, fail_on: str) -> None:
    """Check what is wired, what is not, and what to do about it.

    Nothing is changed, and the broker is not asked. Each finding has a level: ok, note (nothing to
    do), warning, error. Exit codes: 0 no error, 1 an error, 3 a warning with --fail-on warning,
    69 the store cannot be reached.
    """
    began = time.monotonic()
    project = view.project
    subject = Subject(app=project.app, places=project.places, prefix=project.prefix)
    found = examine(subject, timeout=timeout)
    shown = [one for one in found if one.level > Level.OK] if quiet else found
    if view.output.as_json:
        view.output.json(to_json(found, shown))
    else:
        draw(view.output, found, shown, seconds=time.monotonic() - began)
    raise SystemExit(exit_code(found, fail_on=fail_on))


def exit_code(found: Sequence[Finding], *, fail_on: str) -> int:
    """Return what the findings mean for a script."""
    if any(one.check == "store.reach" and one.level is Level.ERROR for one in found):
        return UNAVAILABLE
    level = worst(found)
    if level is Level.ERROR:
        return BAD
    return WARNED if level is Level.WARNING and fail_on == "warning" else 0


def to_json(found: Sequence[Finding], shown: Iterable[Finding]) -> dict[str, object]:
    """Return the report as `--json` prints it: the shape is in docs/json.md."""
    counts = Counter(one.level for one in found)
    return {
        "verdict": _NAMES[worst(found)],
        "counts": {name: counts[level] for level, name in _NAMES.items()},
        "findings": [
            {
                "check": one.check,
                "level": _NAMES[one.level],
                "text": one.text,
                "fix": one.fix or None,
                "docs": one.docs or None,
                "data": dict(one.data),
            }
            for one in shown
        ],
    }


def draw(output: Output, found: Sequence[Finding], shown: Sequence[Finding], *, seconds: float) -> None:
    """Write the verdict, then the findings by section, each with its fix."""
    output.draw(_verdict(output, found, seconds))
    for section, title in _SECTIONS.items():
        ours = [one for one in shown if one.check.partition(".")[0] == section]
        if ours:
            output.line()
            output.draw(Text(title, style="bold"))
            for one in ours:
                _draw_one(output, one)


def _verdict(output: Output, found: Sequence[Finding], seconds: float) -> Text:
    counts = Counter(one.level for one in found)
    level = worst(found)
    parts = [
        f"{counts[one]} {_NAMES[one]}{'s' if counts[one] > 1 else ''}"
        for one in (Level.ERROR, Level.WARNING, Level.NOTE)
        if counts[one]
    ]
    said = ", ".join(parts) or "all is well"
    if level is Level.NOTE:
        said = f"nothing to mend, {said}"
    text = Text.assemble((f"{_sign(output, level)} {said}", f"bold {_SIGNS[level][2]}"))
    return text.append(f" · {len(found)} facts in {span(seconds)}", style="dim")


def _draw_one(output: Output, one: Finding) -> None:
    subject = printable(one.check.partition(".")[2] or one.check)
    sign, style = _sign(output, one.level), _SIGNS[one.level][2]
    arrow = "→" if output.has_signs else "->"
    if output.is_plain:
        output.line(f"  {sign} {subject:<{_SUBJECT}} {printable(one.text)}")
        if one.fix:
            output.line(
                f"{'':<{_SUBJECT + 5}}{arrow} {printable(one.fix)}{f'  ({one.docs})' if one.docs else ''}"
            )
        return
    wide = output.width >= _WIDE
    text = Text(printable(one.text), style="dim" if one.level is Level.NOTE else "")
    body = text if wide else Text.assemble((f"{subject}: ", "dim"), text)
    rows = Table.grid(padding=(0, 1, 0, 0))
    rows.add_column(width=3, no_wrap=True)
    if wide:
        rows.add_column(width=_SUBJECT, no_wrap=True, style="dim")
    rows.add_column(overflow="fold")
    middle = [subject] if wide else []
    rows.add_row(Text(f"  {sign}", style=style), *middle, body)
    if one.fix:
        middle = [""] if wide else []
        rows.add_row("", *middle, _way_out(one, arrow, style))
    output.draw(rows)


def _way_out(one: Finding, arrow: str, style: str) -> Table:
    rows = Table.grid(padding=(0, 1, 0, 0))
    rows.add_column(no_wrap=True, style=style)
    rows.add_column(overflow="fold")
    text = Text(printable(one.fix))
    if one.docs:
        text.append(f"  {printable(one.docs)}", style="dim italic")
    rows.add_row(arrow, text)
    return rows


def _sign(output: Output, level: Level) -> str:
    return _SIGNS[level][0 if output.has_signs else 1]
