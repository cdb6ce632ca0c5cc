"""Bars on stderr while a script waits for a result: `TrackedResult.wait(show_progress=True)`.

A thread draws, so that waiting itself is Celery's own `get`, with any backend.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from plet_celery.paths import short_id
from plet_celery.terminal.output import Nowhere, Output
from plet_celery.terminal.text import printable, span

if TYPE_CHECKING:
    from rich.console import RenderableType

log = logging.getLogger(__name__)

_EVERY: Final = 0.25
_END_WAIT: Final = 2.0
_STAGES_SHOWN: Final = 12


@contextmanager
def drawing(look: Callable[[], Any], run_id: str) -> Iterator[None]:
    """Draw what `look` returns (a `Progress`) until the block ends: bars on a terminal, else a line a stage.

    Args:
        look: called in another thread; what it raises ends the drawing, not the block.
    """
    painter = _Painter(look, run_id)
    painter.start()
    try:
        yield
    finally:
        painter.leave()


class _Painter(threading.Thread):
    def __init__(self, look: Callable[[], Any], run_id: str) -> None:
        super().__init__(name="plet-progress", daemon=True)
        self._look = look
        self._label = short_id(run_id)
        self._over = threading.Event()
        self._said: dict[str, str] = {}

    def leave(self) -> None:
        """Draw the end; a look that hangs is left behind."""
        self._over.set()
        self.join(_END_WAIT)

    def run(self) -> None:
        """Draw until told to leave, and once more then."""
        try:
            output = Output(sys.stderr or Nowhere())
            self._speak(output) if output.is_plain else self._paint(output)
        # Whoever waits for a result gets the result; a closed stderr or a lost store only ends the bars.
        except Exception as error:
            log.debug("progress is not drawn any more: %r", error)

    def _paint(self, output: Output) -> None:
        from rich.live import Live

        with Live(console=output.fitted(), auto_refresh=False, transient=False) as live:
            over = False
            while not over:
                over = self._over.wait(_EVERY)
                picture = self._picture(self._look(), output)
                output.fitted()
                live.update(picture, refresh=True)

    def _speak(self, output: Output) -> None:
        over = False
        while not over:
            over = self._over.wait(_EVERY)
            for stage in self._look().stages:
                if self._said.get(stage.name) != stage.state and stage.state != "planned":
                    self._said[stage.name] = stage.state
                    parts = [stage.name, stage.state, stage.amount, span(stage.elapsed)]
                    text = "  ".join(printable(part) for part in parts if part)
                    output.line(f"{self._label}  {output.sign(stage.state)} {text}")
            output.flush()

    def _picture(self, progress: Any, output: Output) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        from plet_celery.terminal.bars import fit
        from plet_celery.terminal.picture import bar, stage_table

        width = output.width
        state = _WORDS.get(progress.state, "running")
        head = Text.assemble((f"{self._label} ", "dim"), (f"{output.sign(state)} {state}", "bold"))
        if progress.percent is not None:
            head.append(f"  {int(progress.percent)} %")
        parts: list[RenderableType] = [head]
        if progress.description and progress.description != progress.stage:
            head.append(f"  {printable(progress.description)}", style="dim")
        head.no_wrap, head.overflow = True, "ellipsis"
        if progress.stages:
            rows = fit(progress.stages, _STAGES_SHOWN)
            parts.append(stage_table(rows, width=width, output=output))
        elif progress.percent is not None:
            parts.append(bar(progress.percent / 100, state, min(60, width)))
        return Group(*parts)


_WORDS: Final = {
    "PENDING": "queued",
    "RECEIVED": "queued",
    "STARTED": "running",
    "PROGRESS": "running",
    "SUCCESS": "succeeded",
    "FAILURE": "failed",
    "RETRY": "retrying",
    "REVOKED": "cancelled",
}
"""Celery's states in our words."""
