"""A shop on a busy morning: what the pictures of the pages show, and what tests of the pages look at.

Every kind of end, a canvas in the middle of its work, a failure worth reading, a day of runs behind them.
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from typing import Any, Final

from recorded_runs import RunStory, Story

from plet_celery import events

HOSTS: Final = ("atlas", "boreas", "castor")
_FILES: Final = 668
_TRACE: Final = """Traceback (most recent call last):
  File "/srv/shop/tasks/orders.py", line 88, in export_orders
    self.send(batch)
  File "/srv/shop/tasks/orders.py", line 131, in send
    erp.put("/orders", rows)
  File "/srv/shop/.venv/lib/python3.12/site-packages/httpx/_client.py", line 1188, in put
    return self.request("PUT", url, json=json)
  File "/srv/shop/.venv/lib/python3.12/site-packages/httpx/_client.py", line 825, in request
    raise HTTPStatusError(message, request=request, response=self)
httpx.HTTPStatusError: """
_MESSAGE: Final = "422 Unprocessable Entity: order 48112-7 has no VAT id, and its country is outside the EU"
_LIBRARIES: Final = "/srv/shop/.venv/lib/python3.12/site-packages/"


@dataclass
class BusyShop:
    """The ids of runs worth looking at."""

    running: str = ""
    failed: str = ""
    retrying: str = ""
    canvas: str = ""
    lost: str = ""
    queued: str = ""
    timed_out: str = ""


def tell(story: Story, now: float) -> BusyShop:
    """Tell a day up to `now`, and ship it; the same one each time."""
    chance = random.Random(7)

    def name() -> str:
        return str(uuid.UUID(int=chance.getrandbits(128), version=4))

    told = BusyShop()
    for number, host in enumerate(HOSTS):
        story.worker(f"celery@{host}", now - 93_000 + number * 40, host=host, pid=4100 + 300 * number)
    _day(story, now, chance, name)
    _ends(story, now, name, told)
    told.canvas = _images(story, now, name)
    told.failed = _export(story, now - 754, name)
    told.running = _import(story, now, name)
    told.queued = _queue(story, now, name)
    story.ship()
    return told


def _on(number: int, **facts: Any) -> dict[str, Any]:
    host = HOSTS[number % len(HOSTS)]
    return {"worker": f"celery@{host}", "host": host, "pid": 4100 + number} | facts


def _day(story: Story, now: float, chance: random.Random, name: Any) -> None:
    """Small runs over a day: more by day than by night, with a bad hour in the afternoon."""
    tasks = ("shop.sync_prices", "shop.send_receipt", "shop.resize_image", "shop.update_stock")
    for number in range(420):
        ago = chance.uniform(0.001, 0.999) ** 1.3 * 85_000 + 900
        is_bad_hour = 30_000 < ago < 36_000
        run = story.run(
            chance.choice(tasks), started=now - ago, id=name(), **_on(number), args=[number], trigger="auto"
        )
        run.now += chance.lognormvariate(0.2, 0.9)
        if chance.random() < (0.3 if is_bad_hour else 0.015):
            run.fail("ConnectionError", "price server: connection reset by peer")
        else:
            run.succeed()


def _ends(story: Story, now: float, name: Any, told: BusyShop) -> None:
    """One run of each kind of end, and one that is tried again."""
    nightly = story.run("shop.nightly_report", started=now - 2_410, id=name(), **_on(1), trigger="beat")
    nightly.stage("collect", took=101.0, total=12, unit="shops")
    nightly.stage("render", took=63.0, total=48, unit="pages")
    nightly.stage("mail", took=4.0)
    nightly.metadata(pages=48, recipients=212)
    nightly.succeed({"pages": 48})

    slow = story.run("shop.rebuild_search", started=now - 1_720, id=name(), **_on(2), trigger="beat")
    slow.stage("read", took=121.0, total=48_112, unit="products")
    slow.stage("index", took=179.0, total=48_112, done=31_400, unit="products", state="running", percent=61.0)
    slow.end(events.RUN_TIMED_OUT, limit="hard", seconds=300)
    told.timed_out = slow.id

    killed = story.run("shop.render_catalogue", started=now - 1_350, id=name(), **_on(0))
    killed.stage("render", took=41.0, total=96, done=37, unit="pages", state="running", percent=38.5)
    killed.log("page 37: 212 images, 1.9 GB")
    killed.end(events.RUN_LOST, reason="its process was killed (SIGKILL), maybe for its memory", signal=9)
    told.lost = killed.id

    stopped = story.run("shop.warm_caches", started=now - 1_130, id=name(), **_on(1))
    stopped.end(events.RUN_INTERRUPTED, how="cold")

    revoked = story.run("shop.send_newsletter", started=now - 980, id=name(), **_on(2), user="ada")
    revoked.now += 12
    revoked.end(events.RUN_CANCELLED, terminated=True, signal="SIGTERM")

    again = story.run("shop.fetch_rates", started=now - 47, id=name(), **_on(0), trigger="beat")
    again.stage("download", took=6.0, state="failed", total=4, done=1, unit="files")
    again.retry(begins=False)
    told.retrying = again.id


def _export(story: Story, started: float, name: Any) -> str:
    """A run that failed at its second try, with a log that tells why."""
    run = story.run(
        "shop.export_orders", started=started, id=name(), **_on(1), tenant="acme/berlin", user="ada",
        queue="slow", args=["2026-11-20"], kwargs={"target": "erp", "batch_size": 100},
    )  # fmt: skip
    run.plan("collect", "check", "send")
    for attempt in range(2):
        collect = run.stage("collect", took=8.0 + attempt, total=1_204, unit="orders")
        run.log("1204 orders since 2026-11-20", stage=collect)
        check = run.stage("check", took=19.0, total=1_204, unit="orders")
        if not attempt:
            run.log("ERP answers slowly: 4.1 s", level=30, stage=check, logger="shop.erp")
            run.retry(after=21.0)
    send = run.stage("send", took=0.1, total=13, done=0, unit="batches", state="running", percent=41.0)
    for batch in range(1, 8):
        run.log(f"batch {batch}: 100 orders sent", stage=send, after=4.6, context={"batch": batch})
        run.log(f"PUT /orders \x1b[32m200\x1b[0m in {140 + 31 * batch} ms", stage=send, stream="stdout")
        if batch == 5:
            run.log("order 47903-2: no phone number, sent without", level=30, stage=send)
    run.log("PUT /orders \x1b[31m422\x1b[0m in 88 ms", stage=send, stream="stdout", after=1.9)
    run.log(
        "batch 8 refused: order 48112-7 has no VAT id, and its country is outside the EU",
        level=40, stage=send, context={"order": "48112-7", "status": 422},
    )  # fmt: skip
    run.now += 0.2
    story.add(
        events.STAGE_FAILED, run.now, run.id, run.attempt,
        stage=send, done=7, total=13, elapsed=41.0, percent=63.0,
        error={"type": "HTTPStatusError", "message": "422 Unprocessable Entity"},
    )  # fmt: skip
    run.metadata(orders=1_204, sent=700, erp="https://erp.example/api", currency="EUR")
    run.end(events.RUN_FAILED, error=_error(), percent=63.0, usage=_usage(212))
    return run.id


def _import(story: Story, now: float, name: Any) -> str:
    """A run in the middle of its work: nested stages, measures, metadata, a log that grows."""
    run = story.run(
        "shop.import_catalogue", started=now - 96, id=name(), **_on(0), tenant="acme/berlin", user="ada",
        args=["s3://acme/catalogue-2026-11.zip"], kwargs={"dry_run": False}, stages=None,
    )  # fmt: skip
    run.plan("fetch", "unpack", "load", "publish")
    fetch = run.stage("fetch", took=11.0, total=48.2, unit="MB")
    run.log("fetched s3://acme/catalogue-2026-11.zip: 48.2 MB in 11 s", stage=fetch)
    unpack = run.stage("unpack", took=6.0, total=_FILES, unit="files")
    run.log("668 sheets, 3 of them empty", stage=unpack)
    load = run.stage(
        "load", took=1.0, total=_FILES, done=0, unit="files", state="running", percent=22.0,
        message="sheet 412 of 668: garden furniture",
    )  # fmt: skip
    run.stage("check", took=9.0, total=_FILES, unit="files", parent=load)
    rows = run.stage("rows", took=1.0, done=1, unit="rows", parent=load, state="running", percent=30.0)
    for number in range(1, 34):
        run.now = now - 64 + number * 1.9
        run.measure(
            rows_per_second=870.0 + 90 * ((number * 7) % 5) - 14 * number, memory_mb=180.0 + 4.1 * number
        )
        run.log(f"sheet {379 + number}: {900 + (number * 137) % 410} rows", stage=rows)
        if number in (9, 22):
            run.log(f"sheet {379 + number}: 2 rows without a price, kept as drafts", level=30, stage=rows)
    run.now = now - 1
    for stage, done, total, percent in ((load, 412, _FILES, 61.0), (rows, 398_212, None, 62.0)):
        story.add(
            events.STAGE_PROGRESSED, run.now, run.id, run.attempt,
            stage=stage, done=done, total=total, percent=percent,
            message="sheet 412 of 668: garden furniture" if stage == load else None,
        )  # fmt: skip
    run.metadata(supplier="Acme", sheets=_FILES, currency="EUR", source="catalogue-2026-11.zip")
    return run.id


def _images(story: Story, now: float, name: Any) -> str:
    """A canvas in its middle: a chain with a chord of 24 members, one of which failed and is tried again."""
    head = story.run("shop.refresh_images", started=now - 71, id=name(), **_on(2), chain_left=1)
    head.stage("list", took=2.0, total=24, unit="images")
    head.succeed()
    group, body = name(), name()
    for number in range(24):
        facts = _on(number, group=group, group_index=number, chord=body, chain_left=None)
        run = story.run(
            "shop.resize", started=now - 66 + number * 2.6, id=name(), canvas=head.canvas, parent=head.id,
            **facts, args=[f"img/{48_100 + number}.jpg"],
        )  # fmt: skip
        _member(run, number, now)
    return head.id


def _member(run: RunStory, number: int, now: float) -> None:
    if number < 18:
        run.stage("resize", took=4.0 + (number * 5) % 4, total=6, unit="sizes")
        run.succeed()
    elif number == 18:
        run.stage("resize", took=3.0, state="failed", total=6, done=2, unit="sizes")
        run.retry(begins=False)
    else:
        done = 24 - number
        run.stage(
            "resize", took=max(0.5, now - run.now - 0.5), total=6, done=done, unit="sizes", state="running",
            percent=done * 100 / 6,
        )  # fmt: skip


def _queue(story: Story, now: float, name: Any) -> str:
    waiting = [name() for _ in range(3)]
    for number, run in enumerate(waiting):
        story.add(
            events.RUN_QUEUED, now - 9 + number, run, None,
            task="shop.send_newsletter", queue="mail", trigger="manual", user="ada", canvas=run, retries=0,
            tenant="acme/berlin", args=[f"segment-{number}"],
        )  # fmt: skip
    return str(waiting[-1])


def _error() -> dict[str, Any]:
    frames = [
        ("/srv/shop/tasks/orders.py", 88, "export_orders", True),
        ("/srv/shop/tasks/orders.py", 131, "send", True),
        (_LIBRARIES + "httpx/_client.py", 1188, "put", False),
        (_LIBRARIES + "httpx/_client.py", 825, "request", False),
    ]
    return {
        "type": "HTTPStatusError",
        "module": "httpx",
        "message": _MESSAGE,
        "traceback": _TRACE + _MESSAGE,
        "frames": [
            {"file": file, "line": line, "function": function, "own": own}
            for file, line, function, own in frames
        ],
    }


def _usage(megabytes: int) -> dict[str, float]:
    return {"cpu_user": 14.2, "cpu_system": 1.1, "rss_max_bytes": megabytes * 1024 * 1024}
