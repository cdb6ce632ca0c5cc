"""docs/json.md says what `records.to_json` gives: every field, its type, and an example."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from plet_celery.store import records
from plet_celery.store.records import (
    Attempt,
    EventRow,
    HostStatus,
    LogLine,
    Measure,
    MeasurePoint,
    Page,
    Run,
    Stage,
    to_json,
)

PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
AT = 1_790_000_000.42
ISO = "2026-09-21T14:13:20.420Z"
ERROR = {"type": "ValueError", "module": "builtins", "message": "bad row", "traceback": "…", "frames": []}
POINT = MeasurePoint(at=AT, value=1.5, number=1, stage=1)
LINE = LogLine(
    attempt=1, line=1, at=AT, level=30, logger="shop", stage=1, text="words", context={"url": "https://x"}
)

FILLED: dict[str, msgspec.Struct] = {
    "Run": Run(
        id="a" * 36,
        short_id="a" * 8,
        task="shop.load",
        state="failed",
        tenant="acme",
        trigger="api",
        user="ada",
        queue="imports",
        worker="celery@a",
        host="a",
        percent=50.0,
        stage="download",
        current=1.0,
        total=2.0,
        unit="files",
        message="one of two",
        eta={"p50": 1.5},
        queued_at=AT,
        not_before=AT,
        started_at=AT,
        ended_at=AT,
        waited=0.5,
        runtime=1.5,
        attempt=1,
        attempts=1,
        retries=0,
        tracked=True,
        error=ERROR,
        result={"rows": 3},
        metadata={"shop": "berlin"},
        args=["x"],
        kwargs={"dry": False},
        canvas="c",
        root_id="r",
        parent_id="p",
        group_id="g",
        replaced=False,
        log_folders=["acme/x"],
        log_lines=1,
        dropped=0,
        reason="why",
        as_of=AT,
        unreachable_since=AT,
        version=2,
    ),
    "Attempt": Attempt(
        id="b" * 32,
        run_id="a" * 36,
        number=1,
        state="failed",
        task="shop.load",
        worker="celery@a",
        host="a",
        pid=7,
        pool="prefork",
        queue="imports",
        started_at=AT,
        ended_at=AT,
        runtime=1.5,
        retries=0,
        redelivered=False,
        error=ERROR,
        result={"rows": 3},
        reason="why",
        percent=50.0,
        log_lines=1,
        log_folder="acme/x",
        placeholder=False,
        usage={"cpu_user": 0.5, "cpu_system": 0.5, "rss_max_bytes": 1},
        clock="mono",
        ended_by="child",
        events_dropped=0,
    ),
    "Stage": Stage(
        run_id="a" * 36,
        attempt_id="b" * 32,
        number=2,
        name="download",
        state="failed",
        parent=1,
        weight=1.0,
        current=1.0,
        total=2.0,
        unit="files",
        percent=50.0,
        message="one of two",
        result={"rows": 3},
        error=ERROR,
        started_at=AT,
        ended_at=AT,
        elapsed=1.5,
    ),
    "Event": EventRow(
        run_id="a" * 36,
        attempt_id="b" * 32,
        kind="run.retried",
        at=AT,
        level=30,
        text="words",
        data={
            "started": AT,
            "queued_at": AT,
            "when": AT,
            "since": AT,
            "retries": 1,
            "at": AT,
            "text": "words",
        },
        position=("w" * 32, 1, 400),
    ),
    "Log line": LINE,
    "Measure": Measure(run_id="a" * 36, attempt_id="b" * 32, name="rows", points=[POINT]),
    "Measure point": POINT,
    "Host status": HostStatus(
        host="a",
        journal="c" * 32,
        machine="d" * 16,
        boot="e" * 36,
        pid=7,
        plet="0.1.0",
        epoch=3,
        lease_age=912.5,
        unreachable_since=AT,
        left_at=AT,
        lost_at=AT,
        beat_at=AT,
        backlog_bytes=10,
        writers=2,
        skew=-31.5,
        is_skewed=True,
        as_of=AT,
        taken_at=AT,
    ),
    "Page": Page(items=[LINE], next="opaque", previous="opaque"),
}
TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "time": (str,),
    "number": (int, float),
    "seconds": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "list": (list,),
    "any": (object,),
}


def section(title: str) -> str:
    """Return the text below one heading of the page."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/json.md has no section {title!r}"
    return found[1]


def documented(title: str) -> dict[str, str]:
    """Return the documented fields of a section with their types."""
    return dict(re.findall(r"^\| `(\w+)` \| ([a-z ]+) \| .+ \|$", section(title), re.MULTILINE))


def fits(value: Any, documented_type: str) -> bool:
    """Return whether a JSON value has the type that the page gives it."""
    kind, _, nullable = documented_type.partition(" or ")
    if value is None:
        return nullable == "null" or kind == "any"
    if kind in ("number", "seconds") and isinstance(value, bool):
        return False
    if kind == "time" and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value):
        return False
    return isinstance(value, TYPES[kind])


def test_every_record_has_its_section_and_the_other_way_round() -> None:
    public = {
        found
        for found in vars(records).values()
        if isinstance(found, type) and issubclass(found, msgspec.Struct) and found is not msgspec.Struct
    }

    assert {type(record) for record in FILLED.values()} == public
    assert set(re.findall(r"^## (.+)$", PAGE, re.MULTILINE)) == set(FILLED)


@pytest.mark.parametrize("title", FILLED)
def test_the_fields_of_a_record_are_those_of_the_page(title: str) -> None:
    given = to_json(FILLED[title])

    assert list(documented(title)) == list(FILLED[title].__struct_fields__) == list(given)
    assert None not in given.values(), "fill every field, or its format is not tested"
    assert {
        name: given[name] for name, kind in documented(title).items() if not fits(given[name], kind)
    } == {}


@pytest.mark.parametrize("title", FILLED)
def test_a_field_is_a_time_exactly_where_the_page_says_so(title: str) -> None:
    times = {name for name, kind in documented(title).items() if kind.startswith("time")}

    assert {name for name, value in to_json(FILLED[title]).items() if value == ISO} == times


@pytest.mark.parametrize("title", FILLED)
def test_what_may_be_unknown_is_documented_as_null(title: str) -> None:
    record = FILLED[title]
    info = msgspec.inspect.type_info(type(record))
    assert isinstance(info, msgspec.inspect.StructType)
    nullable = {field.name for field in info.fields if fits_none(field.type)}

    assert {name for name, kind in documented(title).items() if fits(None, kind)} == nullable


def fits_none(kind: msgspec.inspect.Type) -> bool:
    """Return whether a field's type takes None."""
    if isinstance(kind, msgspec.inspect.UnionType):
        return kind.includes_none
    return isinstance(kind, (msgspec.inspect.AnyType, msgspec.inspect.NoneType))


@pytest.mark.parametrize("title", FILLED)
def test_the_example_has_every_field_in_its_type(title: str) -> None:
    found = re.findall(r"```json\n(.*?)```", section(title), re.DOTALL)

    assert len(found) == 1
    example = json.loads(found[0])
    fields = documented(title)
    assert list(example) == list(fields)
    assert {name: example[name] for name, kind in fields.items() if not fits(example[name], kind)} == {}


def test_the_times_inside_an_event_are_those_the_page_names() -> None:
    data = to_json(FILLED["Event"])["data"]

    row = next(line for line in section("Event").splitlines() if line.startswith("| `data` |"))
    named = set(re.findall(r"`(\w+)`", row)) - {"data"}
    assert {name for name, value in data.items() if value == ISO} == named


def test_records_in_lists_and_pages_are_given_in_full() -> None:
    line = to_json(LINE)

    assert line["at"] == ISO
    assert to_json([LINE, LINE]) == [line, line]
    assert to_json(FILLED["Page"]) == {"items": [line], "next": "opaque", "previous": "opaque"}
    assert to_json(FILLED["Measure"])["points"] == [{"at": ISO, "value": 1.5, "number": 1, "stage": 1}]
    assert to_json(FILLED["Event"])["position"] == ["w" * 32, 1, 400]
    assert json.loads(json.dumps(line)) == line


def test_a_time_is_given_in_milliseconds_even_where_there_are_none() -> None:
    assert records.iso(1_790_000_000) == "2026-09-21T14:13:20.000Z"
