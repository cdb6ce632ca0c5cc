"""Where a command's answer goes: plain lines in a pipe, colours and live drawing on a terminal.

Plain means no escape sequence at all: stdout is no terminal, `NO_COLOR`, `--no-color`, or a dumb one.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from plet_celery.terminal.look import look
from plet_celery.terminal.text import escape_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

# A pipe has no width: wide enough that no cell is ever cut or folded there.
_PIPE_WIDTH = 100_000
_NARROWEST = 20


class Output:
    """The answer's way out: one per command."""

    def __init__(
        self, stream: TextIO | None = None, *, no_color: bool = False, as_json: bool = False
    ) -> None:
        """Look at the stream once; `sys.stdout` by default.

        Args:
            no_color: plain text also on a terminal.
            as_json: JSON lines only; nothing is ever drawn.
        """
        # A process whose stdout was closed before it started has None here.
        self.stream: TextIO = stream or sys.stdout or Nowhere()
        self.as_json = as_json
        self.is_terminal = self.stream.isatty()
        self.is_plain = not self.is_terminal or no_color or as_json or _plain_wanted(os.environ)
        self.has_signs = (getattr(self.stream, "encoding", None) or "utf-8").lower().startswith("utf")
        reconfigure = getattr(self.stream, "reconfigure", None)
        if reconfigure is not None:
            # A sign or a task's text outside the terminal's encoding is shown as its code.
            reconfigure(errors="backslashreplace")

    @property
    def width(self) -> int:
        """Columns now; a terminal may be resized while we draw."""
        return max(_NARROWEST, self._size().columns) if self.is_terminal else _PIPE_WIDTH

    @property
    def height(self) -> int:
        """Rows now."""
        return self._size().lines

    def _size(self) -> os.terminal_size:
        try:
            found = os.get_terminal_size(self.stream.fileno())
        except (OSError, ValueError):
            found = os.terminal_size((0, 0))
        # A serial line or a bare pty says 0.
        return os.terminal_size(
            (_given("COLUMNS") or found.columns or 80, _given("LINES") or found.lines or 24)
        )

    @cached_property
    def console(self) -> Console:
        """A rich console that takes text literally: no markup, no emoji names, no highlighting."""
        from rich.console import Console  # 0.1 s: only where something is drawn

        # Its width and height are given by `fitted`: rich would ask stdin's terminal first.
        return Console(
            file=self.stream,
            force_terminal=not self.is_plain,
            color_system=None if self.is_plain else "auto",
            markup=False,
            emoji=False,
            highlight=False,
            legacy_windows=False,
        )

    def fitted(self) -> Console:
        """Return the console, told how large the terminal is now."""
        from rich.console import ConsoleDimensions

        self.console.size = ConsoleDimensions(self.width, self.height)
        return self.console

    def sign(self, state: str) -> str:
        """Return the state's sign, in ASCII where the encoding has no other."""
        shown = look(state)
        return shown.sign if self.has_signs else shown.ascii_sign

    def line(self, text: str = "") -> None:
        """Write one line of text that is already `printable`."""
        self.stream.write(text + "\n")

    def draw(self, renderable: RenderableType) -> None:
        """Write something of rich's; without trailing blanks where it is plain."""
        console = self.fitted()
        if not self.is_plain:
            console.print(renderable)
            return
        with console.capture() as captured:
            console.print(renderable)
        for line in captured.get().splitlines():
            self.stream.write(line.rstrip() + "\n")

    def flow(self, text: Text) -> None:
        """Write text whose long lines the terminal folds itself, so that they are copied whole."""
        if self.is_plain:
            self.line(text.plain)
        else:
            self.fitted().print(text, soft_wrap=True)

    def json(self, value: Any, fields: Sequence[str] = ()) -> None:
        """Write one JSON object as one line, all of it or the `fields` in their order."""
        if fields:
            value = {name: value[name] for name in fields}
        self.line(escape_json(msgspec.json.encode(value).decode()))

    def flush(self) -> None:
        """Hand over what was written; a reader that has gone away shows here at the latest."""
        self.stream.flush()


class Nowhere(io.StringIO):
    """Takes all text, keeps none."""

    def write(self, text: str) -> int:
        """Forget the text."""
        return len(text)


def _given(name: str) -> int:
    """Return a size that the environment sets, or 0."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 6 else 0


def _plain_wanted(environ: os._Environ[str]) -> bool:
    return bool(environ.get("NO_COLOR")) or environ.get("TERM") in ("dumb", "unknown")
