"""Draw the README's picture from a real run: `make pictures`.

The demo runs in a pseudo terminal; one of the pictures that it drew over each other becomes an SVG
without outside fonts or hosts.
"""

from __future__ import annotations

import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import sysconfig
import tempfile
import termios
from pathlib import Path
from typing import Final

from rich.ansi import AnsiDecoder
from rich.color import parse_rgb_hex
from rich.console import Console
from rich.terminal_theme import TerminalTheme

ROOT: Final = Path(__file__).parents[2]
WIDTH: Final = 100
CALL: Final = ["--call", "example_project.census", "--once"]
# What rich's Live writes before it draws anew: erase the line, go up, erase, …
_REDRAW = re.compile(r"\r\x1b\[2K(?:\x1b\[1A\x1b\[2K)*")
_BATCHES_DONE = re.compile(r"parse ×\d+.*?(\d+) ✔")
_FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_DARK: Final = ["484f58", "ff7b72", "3fb950", "d29922", "58a6ff", "bc8cff", "39c5cf", "b1bac4"]
_BRIGHT: Final = ["6e7681", "ffa198", "56d364", "e3b341", "79c0ff", "d2a8ff", "56d4dd", "f0f6fc"]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="census-") as folder:
        screen = record(Path(folder, "plet"))
        # A reader's machine has neither of these paths.
        for path, shown in ((folder, "/srv/census"), (sysconfig.get_paths()["stdlib"], "/usr/lib/python3")):
            screen = screen.replace(path, shown)
    intro, frames = frames_of(screen)
    target = Path(__file__).with_name("census.svg")
    target.write_text(svg(f"$ make demo\n{intro}{middle(frames)}"))
    print(f"{target}: {target.stat().st_size} bytes")


def record(home: Path) -> str:
    """Run the demo on a terminal of its own; return all it wrote."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, WIDTH, 0, 0))
    environ = {**os.environ, "PLET_HOME": str(home), "TERM": "xterm-256color", "COLORTERM": "", "TZ": "UTC"}
    celery = str(Path(sys.executable).with_name("celery"))
    command = [celery, "-A", "example_project", "plet", "up", *CALL]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        written = b""
        try:
            while chunk := os.read(master, 65536):
                written += chunk
        except OSError:
            pass  # the terminal is closed: all is said
        os.close(master)
    if process.returncode:
        sys.exit(f"the demo ended with {process.returncode}:\n{written.decode()}")
    return written.decode().replace("\r\n", "\n")


def frames_of(screen: str) -> tuple[str, list[str]]:
    """Split what was written into the lines before the live part, and its pictures."""
    intro, live = screen.split("\x1b[?25l", 1)
    live = live.split("\x1b[?25h", 1)[0]
    return intro, [frame for frame in _REDRAW.split(live) if frame.strip()]


def middle(frames: list[str]) -> str:
    """Return the picture in which about half of the batches are parsed."""
    done = [(int(found.group(1)), frame) for frame in frames if (found := _BATCHES_DONE.search(frame))]
    most = max(count for count, _ in done)
    return min(done, key=lambda one: abs(one[0] - most * 0.6))[1]


def svg(text: str) -> str:
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    for line in AnsiDecoder().decode(text.rstrip("\n")):
        console.print(line)
    drawn = console.export_svg(title="stdlib-census", theme=_theme(), unique_id="census")
    drawn = re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"font-family: Fira Code, monospace|font-family: arial", f"font-family: {_FONTS}", drawn)
    return "\n".join(line.rstrip() for line in drawn.splitlines()) + "\n"


def _theme() -> TerminalTheme:
    dark, bright = ([parse_rgb_hex(color) for color in colors] for colors in (_DARK, _BRIGHT))
    return TerminalTheme(parse_rgb_hex("11151c"), parse_rgb_hex("c9d1d9"), dark, bright)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
