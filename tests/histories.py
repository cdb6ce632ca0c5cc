"""Recorded histories for tests of the store: what tasks, workers and shippers write, drawn by Hypothesis.

A history is a list of events as they lie in the journals of one or two hosts. `Teller` writes one by
hand; `histories()` draws them with all that happens to real runs: retries on the same child, forked
writers, reports of the main process, losses that turn out wrong, ends that come late.
"""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from plet_celery import events
from plet_celery.events import Event

JOURNALS = ("1" * 32, "2" * 32)
T0 = 1_790_000_000.0


class Writer:
    """One writer's file: every event has its own position."""

    def __init__(self, journal: str, name: str) -> None:
        self.journal = journal
        self.id = name
        self.offset = 0
        self.number = itertools.count(1)

    @property
    def after(self) -> list[int]:
        """The position behind its last event."""
        return [1, self.offset]


class Teller:
    """Writes events, in the order of their walls unless told otherwise."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Event]] = []
        self.now = T0
        self._names = itertools.count(1)
        self._writers: dict[str, Writer] = {}

    def writer(self, journal: str = JOURNALS[0], name: str | None = None) -> Writer:
        """Return a new writer, or the one of that name."""
        key = f"{journal}{name}"
        if name is None or key not in self._writers:
            made = Writer(journal, f"{next(self._names):08x}{journal[:1] * 24}")
            if name is None:
                return made
            self._writers[key] = made
        return self._writers[key]

    def tell(
        self,
        writer: Writer,
        kind: str,
        run: str | None,
        attempt: str | None,
        /,
        *,
        at: float | None = None,
        **data: Any,
    ) -> Event:
        """Append one event; time goes on by 10 ms."""
        self.now = round(self.now + 0.01, 3)
        event = Event(
            kind=kind,
            wall=self.now if at is None else at,
            mono=self.now - T0,
            run=run,
            attempt=attempt,
            data={name: value for name, value in data.items() if value is not None},
            writer=writer.id,
            segment=1,
            offset=writer.offset,
            number=next(writer.number),
        )
        writer.offset += 100
        self.told.append((writer.journal, event))
        return event

    def start(self, writer: Writer, run: str, attempt: str, *, pid: int = 7, **data: Any) -> Event:
        """Tell a `run.started` as a prefork child does."""
        facts: dict[str, Any] = {
            "task": "shop.import",
            "tracked": True,
            "worker": "celery@a",
            "host": writer.journal[:1],
            "pid": pid,
            "pool": "prefork",
            "retries": 0,
            "redelivered": False,
            "queue": "celery",
            "queued_at": round(self.now - 0.5, 3),
            "trigger": "api",
            "canvas": run,
        }
        return self.tell(writer, events.RUN_STARTED, run, attempt, **(facts | data))

    def end(self, writer: Writer, kind: str, run: str, attempt: str | None, **data: Any) -> Event:
        """Tell an end by the child."""
        return self.tell(writer, kind, run, attempt, **{"by": "child", "runtime": 0.25, **data})

    def report(self, writer: Writer, kind: str, run: str, *, pid: int | None = 7, **data: Any) -> Event:
        """Tell what the worker's main process saw: it knows no attempt id."""
        facts: dict[str, Any] = {
            "by": "main",
            "task": "shop.import",
            "worker": "celery@a",
            "queue": "celery",
            "pid": pid,
        }
        return self.tell(writer, kind, run, None, **(facts | data))

    def lose(
        self, shipper: Writer, gone: Writer, run: str, attempt: str, after: list[int], **data: Any
    ) -> Event:
        """Tell a loss by the shipper: `gone` has no event behind `after`."""
        facts: dict[str, Any] = {
            "by": "shipper",
            "task": "shop.import",
            "writer": gone.id,
            "after": after,
        } | data
        return self.tell(shipper, events.RUN_LOST, run, attempt, reason="its process died", **facts)

    def of(self, journal: str) -> list[Event]:
        """Return the events of one journal."""
        return [event for one, event in self.told if one == journal]


CHILD_ENDS: tuple[tuple[str, dict[str, Any]], ...] = (
    (events.RUN_SUCCEEDED, {"result": [1, 2]}),
    (events.RUN_FAILED, {"error": {"type": "ValueError", "module": "builtins", "message": "no"}}),
    (events.RUN_RETRIED, {"retries": 0, "reason": "again"}),
    (events.RUN_IGNORED, {"replaced": True, "reason": "Replaced by new task"}),
    (events.RUN_IGNORED, {"replaced": False}),
    (events.RUN_REJECTED, {"requeue": True}),
    (events.RUN_TIMED_OUT, {"limit": "soft", "seconds": 2}),
)
MAIN_ENDS: tuple[tuple[str, dict[str, Any]], ...] = (
    (events.RUN_LOST, {"reason": "signal 9 (SIGKILL)", "signal": "SIGKILL"}),
    (events.RUN_TIMED_OUT, {"limit": "hard", "seconds": 3}),
    (events.RUN_CANCELLED, {"terminated": True, "signal": "SIGTERM"}),
    (events.RUN_INTERRUPTED, {"how": "cold"}),
)
NEVER_RAN: tuple[tuple[str, dict[str, Any]], ...] = (
    (events.RUN_CANCELLED, {"terminated": False}),
    (events.RUN_EXPIRED, {"expires": "2026-01-01T00:00:00"}),
)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Event]]:
    """Draw (journal, event) pairs of one to three runs, in the order in which they were written."""
    teller = Teller()
    for index in range(draw(st.integers(1, 3))):
        _Run(draw, teller, f"{index:08d}-0000-4000-8000-000000000000").tell()
    if draw(st.booleans()):
        _worker(draw, teller)
    return teller.told


class _Run:
    def __init__(self, draw: st.DrawFn, teller: Teller, name: str) -> None:
        self.draw = draw
        self.teller = teller
        self.name = name
        self.tenant = draw(st.sampled_from([None, "acme", "acme/north"]))
        self.attempts = itertools.count(1)

    def tell(self) -> None:
        draw, teller = self.draw, self.teller
        if draw(st.booleans()):
            producer = teller.writer(draw(st.sampled_from(JOURNALS)), "producer")
            facts: dict[str, Any] = {
                "task": "shop.import",
                "trigger": "api",
                "canvas": self.name,
                "retries": 0,
            }
            teller.tell(producer, events.RUN_QUEUED, self.name, None, tenant=self.tenant, **facts)
        if draw(st.integers(0, 9)) == 0:
            kind, data = draw(st.sampled_from(NEVER_RAN))
            main = teller.writer(JOURNALS[0], "main")
            teller.report(main, kind, self.name, pid=None, tenant=self.tenant, **data)
        for retries in range(draw(st.integers(0, 3))):
            self._attempt(retries)
        if draw(st.integers(0, 5)) == 0:
            writer = teller.writer(draw(st.sampled_from(JOURNALS)), "child")
            error = {"type": "KeyError", "message": "x"}
            teller.end(
                writer, events.RUN_FAILED, self.name, None, upstream="other", error=error, tenant=self.tenant
            )

    def _attempt(self, retries: int) -> None:
        draw, teller = self.draw, self.teller
        journal = draw(st.sampled_from((*JOURNALS, JOURNALS[0])))
        child = teller.writer(journal, "child") if draw(st.booleans()) else teller.writer(journal)
        attempt = f"{self.name[:8]}{next(self.attempts):024d}"
        pid = draw(st.sampled_from([7, 7, 8]))
        started = draw(st.integers(0, 9)) > 0
        if started:
            stages = draw(st.sampled_from([None, [["a", 1], ["b", 2]]]))
            facts: dict[str, Any] = {"retries": retries, "tenant": self.tenant, "stages": stages}
            teller.start(child, self.name, attempt, pid=pid, **facts)
        self._body(child, attempt)
        if draw(st.integers(0, 2)) == 0:
            self._body(teller.writer(journal), attempt)
        after = child.after
        shipper, main = teller.writer(journal, "shipper"), teller.writer(journal, "main")
        if draw(st.integers(0, 3)) == 0:
            teller.lose(shipper, child, self.name, attempt, after, tenant=self.tenant)
        if draw(st.integers(0, 3)) == 0:
            kind, data = draw(st.sampled_from(MAIN_ENDS))
            teller.report(main, kind, self.name, pid=pid, tenant=self.tenant, **data)
        if draw(st.integers(0, 3)) > 0:
            kind, data = draw(st.sampled_from(CHILD_ENDS))
            teller.end(child, kind, self.name, attempt, tenant=self.tenant, **data)
        elif draw(st.booleans()):
            self._body(child, attempt)

    def _body(self, writer: Writer, attempt: str) -> None:
        draw, teller, run = self.draw, self.teller, self.name
        number, written = itertools.count(1), 0
        for _ in range(draw(st.integers(0, 6))):
            what = draw(st.integers(0, 7))
            stage = draw(st.integers(1, 3))
            i = next(number)
            if what == 0:
                data: dict[str, Any] = {
                    "stage": stage,
                    "name": "abc"[stage - 1],
                    "total": draw(st.sampled_from([None, 5])),
                }
                teller.tell(writer, events.STAGE_STARTED, run, attempt, **data)
            elif what == 1:
                data = {
                    "stage": stage,
                    "done": i,
                    "percent": i * 5.0,
                    "message": draw(st.sampled_from([None, "m"])),
                }
                teller.tell(writer, events.STAGE_PROGRESSED, run, attempt, **data)
            elif what == 2:
                kind = draw(
                    st.sampled_from([events.STAGE_SUCCEEDED, events.STAGE_FAILED, events.STAGE_SKIPPED])
                )
                teller.tell(
                    writer, kind, run, attempt, stage=stage, done=i, elapsed=0.5, name="abc"[stage - 1]
                )
            elif what in (3, 4):
                level = draw(st.sampled_from([20, 30, 40]))
                teller.tell(
                    writer,
                    events.LOG_WRITTEN,
                    run,
                    attempt,
                    level=level,
                    stream="log",
                    text=f"line {i}",
                    i=i,
                    o=written,
                )
                # As if the lines between were long: chunks come and go.
                written += draw(st.sampled_from([6, 9_000, 40_000]))
            elif what == 5:
                teller.tell(writer, events.MEASURE_RECORDED, run, attempt, values={"gap": i / 2}, i=i)
            elif what == 6:
                key = draw(st.sampled_from("xy"))
                teller.tell(
                    writer,
                    events.METADATA_SET,
                    run,
                    attempt,
                    key=key,
                    value=draw(st.sampled_from([None, i])),
                    i=i,
                )
            else:
                kind = draw(st.sampled_from([events.EVENTS_DROPPED, "custom.thing", events.PROCESS_EXITED]))
                teller.tell(writer, kind, run, attempt, count=i, reasons={"disk_full": i})


def _worker(draw: st.DrawFn, teller: Teller) -> None:
    main = teller.writer(JOURNALS[0], "main")
    facts: dict[str, Any] = {"worker": "celery@a", "host": "a", "pid": 3}
    for kind in (events.WORKER_STARTED, events.HOST_BEAT, events.WORKER_STOPPING, events.WORKER_STOPPED):
        if draw(st.booleans()):
            teller.tell(main, kind, None, None, **facts)
