"""The log viewer on a 1 GiB run log: windows, a search, and rendering, beside reading the text alone.

    python benchmarks/log_view.py [--rounds 11] [--gib 1.0]

The log has eight million lines of 128 bytes and is in the page cache. `tail` is `RunLog.tail`, whose
lines are not shown; what the viewer adds is the store's queries, the links and the HTML. Rendering is
also measured alone, of lines with colours, contexts and levels. Medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tornado.template

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from removing import Host
from runs_told import Story
from storing import new_store

import plet_celery.web
from benchmarks.log_tail import make_log, milliseconds
from plet_celery import events
from plet_celery.logfiles import RunLog
from plet_celery.logsources.window import LogFilter
from plet_celery.logsources.windows import LogWindows
from plet_celery.store import queries
from plet_celery.store.records import LogLine, Run
from plet_celery.web.logs import view as logview
from plet_celery.web.logs.query import END, LogQuery
from plet_celery.web.logs.rows import RowMaker, rows_html

HOLD = {"render 1,000 lines": 25, "render 10,000 lines": 250, "window: last 1,000": 50}


def a_line(number: int) -> LogLine:
    """Return one of the lines that are rendered: every fourth with colours, every sixth with a context."""
    text = f"imported a row of the catalogue, number {number} from supplier seven"
    return LogLine(
        attempt=1,
        line=number,
        at=1_700_000_000.0 + number * 0.37,
        level=30 if number % 12 == 0 else 20,
        logger="shop.load",
        stage=1,
        text=f"\x1b[32m✓\x1b[0m {text}" if number % 4 == 0 else text,
        context={"row": number} if number % 6 == 0 else None,
    )


def sides(host: Host, run: Run, folder: Path, lines: int) -> dict[str, Callable[[], Any]]:
    """Return what is measured."""
    told = [a_line(number) for number in range(1, 10_001)]
    page = tornado.template.Loader(str(Path(plet_celery.web.__file__).parent / "templates")).load(
        "plet/log.html"
    )

    def windows() -> LogWindows:
        return LogWindows(host.runs, host.store, run)

    def shown(**asked: Any) -> Callable[[], Any]:
        return lambda: page.generate(log=logview.view(windows(), LogQuery(**asked)))

    def rendered(count: int) -> Callable[[], Any]:
        return lambda: rows_html(RowMaker(lambda attempt, stage: "parse").rows(told[:count]))

    return {
        "RunLog.tail(1,000)": lambda: RunLog(folder).tail(1000),
        "render 1,000 lines": rendered(1000),
        "render 10,000 lines": rendered(10_000),
        "window: last 1,000": lambda: windows().last(1000),
        "window: 1,000 in the middle": lambda: windows().around(1, lines // 2, 1000),
        "window: level, none passes": lambda: windows().last(1000, None, LogFilter(level=30)),
        "page: last 1,000": shown(to=END),
        "page: 10,000 in the middle": shown(at=(1, lines // 2), count=10_000),
        "page: search, no hit, at most 1 s": shown(text="nowhere to be found"),
        "follow: nothing new": lambda: logview.follow_answer(
            windows(), LogQuery(), windows().position(), now=time.time()
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--gib", type=float, default=1.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        store = new_store(Path(home))
        host, story = Host(store, Path(home) / "a"), Story()
        host.tell([story.start(host), story.log(host, "x"), story.end(host, events.RUN_SUCCEEDED)])
        (log,) = host.runs.rglob("run.log")
        lines = make_log(log.parent, int(options.gib * (1 << 30)))
        measured = sides(host, queries.get_run(store, story.run), log.parent, lines)
        for act in measured.values():
            act()
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in measured}
        for _ in range(options.rounds):
            for name, act in measured.items():
                start = time.process_time()
                times[name].append((milliseconds(act), (time.process_time() - start) * 1000))
        host.close()
        store.close()
    print(f"{options.gib:g} GiB, {lines:,} lines, {options.rounds} rounds, medians")
    for name, taken in times.items():
        hold = f"   (hold: {HOLD[name]})" if name in HOLD else ""
        wall, cpu = (statistics.median(column) for column in zip(*taken, strict=True))
        print(f"{name:36} {wall:8.1f} ms   of them CPU {cpu:8.1f} ms{hold}")


if __name__ == "__main__":
    main()
