"""The page of a run, whole and region by region: 500 stages with a log of 1 GiB, and a canvas of 2,000 runs.

    python benchmarks/run_page.py [--rounds 9] [--gib 1.0] [--stages 500] [--canvas 2000] [--engine sqlite …]

Through a real Flower, HTTP and rendering included, on this machine: what is measured is nearly all time of
the server. The first page of a fresh Flower; one page after another; each after its run has changed. The log
has real lines of 128 bytes with their index, and is in the page cache. Of each region also what it costs
where nothing has changed, and the CPU of Flower's process.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from recorded_runs import RunStory, Story
from services import new_database

from benchmarks.flowering import Browser, broker, chosen_engines, flower_over, rounds_of
from benchmarks.log_tail import make_log
from plet_celery import events
from plet_celery.logfiles import index
from plet_celery.store import Store

HOLD_SECONDS: Final = 0.3
REGIONS: Final = (
    *("head", "error", "stages", "canvas", "log", "metadata"),
    *("measures", "arguments", "attempts", "events", "raw", "footer"),
)
_UNCHANGED: Final = 20
_FAN: Final = 20

_NO_ANSWER: Final = b"<p><strong>No answer.</strong>"


def big_run(story: Story, home: Path, stages: int, size: int, now: float, *, fails: bool) -> str:
    """Tell a run with so many stages, nested ten by ten, and a log of `size` bytes; return its id."""
    run = story.run("shop.import", started=now - stages, args=["catalogue.csv"], kwargs={"supplier": 7})
    run.metadata(supplier="acme", source="ftp")
    parent = None
    for number in range(1, stages + 1):
        is_last = number == stages
        state = ("failed" if fails else "running") if is_last else "succeeded"
        made = run.stage(
            f"part {number}", took=0.9, total=100, done=40 if is_last else None, parent=parent, state=state
        )
        if number % 10 == 1:
            parent = made
    before = {*home.rglob("run.log")}
    run.log("the first line")
    if fails:
        run.fail("ValueError", "row 17 has 3 columns, not 4")
    story.ship()
    (log,) = {*home.rglob("run.log")} - before
    lines = make_log(log.parent, size)
    if fails:
        # The last line alone tells of the error: it takes the whole index to know that it is the first.
        with (log.parent / "run.idx").open("r+b") as entries:
            entries.seek((lines - 1) * index.SIZE + index.LEVEL_AT)
            entries.write(bytes([40]))
    return run.id


def big_canvas(story: Story, count: int, now: float) -> str:
    """Tell a canvas of so many runs, each the parent of twenty more; return the first one's id."""
    told: list[RunStory] = []
    for number in range(count):
        parent = told[(number - 1) // _FAN] if told else None
        links: dict[str, Any] = (
            {"canvas": told[0].id, "parent": parent.id if parent else None} if told else {}
        )
        run = story.run("shop.part", started=now - 600 + number * 0.1, **links)
        run.now += 0.05
        if number % 50 == 49:
            run.end(events.RUN_FAILED, error={"type": "OSError", "message": "gone"})
        else:
            run.succeed()
        told.append(run)
    story.ship()
    return told[0].id


def measure(browser: Browser, store: Store, pages: dict[str, str], rounds: int) -> None:
    """Print what each page takes, and its regions."""
    asked = {name: partial(_shown, browser, f"plet/runs/{run}") for name, run in pages.items()}
    took = rounds_of(asked, rounds)
    changed = rounds_of(asked, rounds, before=lambda: _change(store, [*pages.values()]))
    for name, run in pages.items():
        began = browser.cpu()
        for _ in range(rounds):
            size = len(_shown(browser, f"plet/runs/{run}"))
        cpu = (browser.cpu() - began) / rounds
        mark = "" if took[name] <= HOLD_SECONDS else " !"
        print(f"  {name:<28} {1000 * took[name]:7.1f} ms, CPU {1000 * cpu:7.1f} ms, {size:>9,} bytes{mark}")
        mark = "" if changed[name] <= HOLD_SECONDS else " !"
        used = 0.0
        for _ in range(rounds):
            _change(store, [run])
            began = browser.cpu()
            asked[name]()
            used += browser.cpu() - began
        print(f"    after a change {1000 * changed[name]:7.1f} ms, CPU {1000 * used / rounds:7.1f} ms{mark}")
        for region in REGIONS:
            _measure_region(browser, f"plet/runs/{run}?region={region}", region, rounds)
    print(f"  hold: {1000 * HOLD_SECONDS:.0f} ms (else !)")


def _change(store: Store, runs: Iterable[str]) -> None:
    """Have the store look as if a batch of these runs had just been shipped."""
    journal, run = store.tables.journal, store.tables.run
    with store.writing() as connection:
        connection.execute(journal.update().values(change_seq=journal.c.change_seq + 1))
        changed = run.update().where(run.c.id.in_(list(runs)))
        connection.execute(changed.values(version=run.c.version + 1))


def first_pages(url: str, folder: Path, valkey: str, pages: dict[str, str], times: int) -> None:
    """Print how long the first page takes that a fresh Flower is asked for."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in pages}
    for _ in range(times):
        for name, run in pages.items():
            with flower_over(url, folder, valkey) as browser:
                began, used = time.perf_counter(), browser.cpu()
                _shown(browser, f"plet/runs/{run}")
                took[name].append((time.perf_counter() - began, browser.cpu() - used))
    for name, found in took.items():
        seconds, cpu = map(statistics.median, zip(*found, strict=True))
        mark = "" if seconds <= HOLD_SECONDS else " !"
        print(
            f"  {name:<28} {1000 * seconds:7.1f} ms, CPU {1000 * cpu:7.1f} ms:"
            f" the first page of a fresh Flower{mark}",
            flush=True,
        )


def _measure_region(browser: Browser, path: str, name: str, rounds: int) -> None:
    status, body, headers = browser.get(path)
    assert status == 200, (status, path)
    seen: list[int] = []

    def again() -> None:
        seen.append(browser.get(path, {"If-None-Match": headers["Etag"]})[0])

    took = rounds_of({"whole": partial(browser.get, path), "same": again}, rounds)
    began = browser.cpu()
    for _ in range(_UNCHANGED):
        again()
    cpu = (browser.cpu() - began) / _UNCHANGED
    told = "" if set(seen) == {304} else f"   {seen.count(304)} of {len(seen)} were 304"
    print(
        f"    {name:<12} {1000 * took['whole']:7.1f} ms, unchanged {1000 * took['same']:7.1f} ms,"
        f" CPU {1000 * cpu:6.1f} ms, {len(body):>9,} bytes{told}",
        flush=True,
    )


def _shown(browser: Browser, path: str) -> bytes:
    status, body, _ = browser.get(path)
    assert status == 200 and _NO_ANSWER not in body, (status, path, body[:500])
    return body


def main() -> None:
    """Tell, start, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--stages", type=int, default=500)
    parser.add_argument("--canvas", type=int, default=2000)
    parser.add_argument("--engine", action="append", choices=("sqlite", "postgresql", "mariadb"))
    parser.add_argument("--fresh", type=int, default=3, help="Flowers that are started for their first page")
    parser.add_argument("--runs", help="not used here")
    given = parser.parse_args()
    for engine in chosen_engines(given.engine):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plet-pages-")))
            home, now = folder / "shop" / ".plet", time.time()
            home.mkdir(parents=True, mode=0o700)
            url = stack.enter_context(new_database(engine))
            story = Story(url, home=home)
            stack.callback(story.close)
            size = int(given.gib * (1 << 30))
            shown = f"{given.stages} stages, {given.gib:g} GiB"
            pages = {
                f"{shown}, running": big_run(story, home, given.stages, size, now, fails=False),
                f"{shown}, failed": big_run(story, home, given.stages, size, now, fails=True),
                f"canvas of {given.canvas:,}": big_canvas(story, given.canvas, now),
            }
            valkey = stack.enter_context(broker(folder))
            print(f"{engine}: pages of a run")
            first_pages(url, folder / "shop", valkey, pages, given.fresh)
            browser = stack.enter_context(flower_over(url, folder / "shop", valkey))
            measure(browser, story.store, pages, given.rounds)


if __name__ == "__main__":
    main()
