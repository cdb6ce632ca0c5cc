"""Log lines, metadata and measures: what is kept, what is cut, what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from listwriter import ListWriter

from plet_celery.run import Run

MakeRun = Callable[..., Run]


class Hostile:
    """Its repr does whatever the test asks for."""

    def __init__(self, act: Callable[[], str]) -> None:
        self._act = act

    def __repr__(self) -> str:
        return self._act()

    __str__ = __repr__


def _raise(error: BaseException) -> str:
    raise error


def _recurse() -> str:
    return _recurse()


HOSTILE = [
    Hostile(lambda: _raise(ValueError("no"))),
    Hostile(lambda: _raise(SystemExit(3))),
    Hostile(_recurse),
    Hostile(lambda: 7),  # type: ignore[arg-type, return-value]
    Hostile(lambda: "x" * 10_000_000),
]


def test_own_lines_carry_level_logger_stage_and_context(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()

    with run.stage("load"):
        run.log("warning", "odd row", row=17, password="hunter2")

    line = writer.of("log.written")[0]
    assert (line["level"], line["logger"], line["stream"], line["stage"]) == (30, "proj.load", "task", 1)
    assert line["context"] == {"row": 17, "password": "***"}
    assert (line["i"], line["o"]) == (1, 0)


def test_lines_are_numbered_and_know_their_byte_offset(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()

    for text in ("one", "zwölf", "three"):
        run.log("info", text)

    assert [(line["i"], line["o"]) for line in writer.of("log.written")] == [(1, 0), (2, 3), (3, 9)]


def test_a_long_line_becomes_parts_and_a_very_long_one_is_cut(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()

    run.log("info", "x" * 20_000)
    run.log("info", "y" * 1_000_000)

    parts = writer.of("log.written")
    assert [part["part"] for part in parts[:3]] == [[1, 3], [2, 3], [3, 3]]
    assert "".join(part["text"] for part in parts[:3]) == "x" * 20_000
    assert len(parts[3:]) == 8
    assert parts[3]["cut"] == 1_000_000 - 65_536 + len("…[cut]")
    assert parts[-1]["text"].endswith("…[cut]")


def test_binary_and_escapes_and_our_own_marker_stay_text(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()

    run.log("info", '\x1b[31mred\x1b]0;title\x07 \x1e{"c":"00000000"} \0 \udcff')
    run.log("info", b"\xff\x00\x1e")  # type: ignore[arg-type]

    for text in writer.texts():
        text.encode()
        assert "\0" not in text
    assert "\x1b[31m" in writer.texts()[0]


def test_a_burst_above_the_rate_is_dropped_and_told(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run(log_rate=1e-9 + 0.001, log_burst=10)

    for number in range(25):
        run.log("info", f"line {number}")
    run.finish("run.succeeded", {})

    assert writer.drops == {"rate_limit": 15}
    assert writer.texts()[-1] == "— 15 lines dropped by the rate limit —"


def test_lines_below_the_level_are_not_written(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run(log_level=30)

    run.log("info", "quiet")
    run.log("error", "loud")
    run.write_log(20, "printed", logger="stdout", stream="stdout")

    assert writer.texts() == ["loud", "printed"]


def test_secrets_in_text_never_reach_the_journal(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()

    with run.stage("load") as stage:
        stage.message = "via postgresql://bob:canary77@db/x"
        stage.result = {"api_key": "canary77"}
        run.log("info", "Authorization: Bearer canary77canary77canary77")
        run.metadata["token"] = "canary77"
        run.metadata["nested"] = {"password": ["canary77"]}
    with pytest.raises(ValueError, match="canary77"), run.stage("fail"):
        raise ValueError("password=canary77")
    run.finish("run.failed", {"error": run.describe_error(ValueError("token: canary77"))})

    assert "canary77" not in str(writer.events)


@pytest.mark.parametrize("value", HOSTILE, ids=["raises", "exits", "recurses", "no text", "huge"])
def test_hostile_objects_become_placeholders(make_run: MakeRun, writer: ListWriter, value: Any) -> None:
    run = make_run()

    run.metadata["thing"] = value
    run.log("info", value)
    run.log("info", "context", thing=value)
    run.measure(thing=value)
    with run.stage(value) as stage:
        stage.message = value
        stage.result = value
        stage.total = value
        stage.set(value)

    assert len(str(writer.events)) < 100_000
    assert writer.of("metadata.set")[0]["value"]


def test_metadata_takes_any_value(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    twice: list[Any] = []
    twice += [twice, twice]

    for key, value in {
        "cycle": cycle,
        "twice": twice,
        "bytes": b"\xff\xfe",
        "nan": math.nan,
        "big": 2**200,
        "huge": "x" * 10_000_000,
        "wide": list(range(100_000)),
        "set": {1, 2},
        "key": {(1, 2): None},
        "surrogate": "\udcff\0",
    }.items():
        run.metadata[key] = value

    kept = {one["key"]: one["value"] for one in writer.of("metadata.set")}
    assert len(kept) == 10
    assert kept["nan"] == "nan"
    assert kept["big"] == str(2**200)
    assert len(kept["huge"]) <= 8192
    assert len(kept["wide"]) == 201
    assert all(len(str(value)) < 200_000 for value in kept.values())


def test_metadata_reads_like_a_mapping_and_forgets_removed_keys(
    make_run: MakeRun, writer: ListWriter
) -> None:
    run = make_run()

    run.metadata["a"] = 1
    run.metadata.update(b=2)
    del run.metadata["a"]

    assert dict(run.metadata) == {"b": 2}
    assert writer.of("metadata.set")[-1] == {"key": "a", "i": 3}
    with pytest.raises(KeyError):
        run.metadata["a"]


def test_too_many_metadata_keys_are_told(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()

    for number in range(300):
        run.metadata[f"key {number}"] = number

    assert len(writer.of("metadata.set")) == 200
    assert "more than 200 keys" in writer.texts()[0]


def test_measures_keep_finite_numbers_only(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()

    run.measure(gap=0.5, rows=3)
    run.measure(gap=math.nan, rows=4)
    run.measure(gap="x")  # type: ignore[arg-type]

    assert writer.of("measure.recorded") == [
        {"values": {"gap": 0.5, "rows": 3}, "i": 1},
        {"values": {"rows": 4}, "i": 2},
    ]
    assert len(writer.texts()) == 2


def test_nothing_is_written_after_the_end(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()
    run.finish("run.succeeded", {})

    run.log("info", "late")
    run.metadata["late"] = 1
    run.measure(late=1)
    run.finish("run.failed", {})
    with run.stage("late"):
        pass

    assert [kind for kind, _ in writer.events] == ["run.succeeded"]


def test_an_error_keeps_type_message_and_own_frames(make_run: MakeRun) -> None:
    run = make_run()
    try:
        int([])  # type: ignore[call-overload]
    except TypeError as failure:
        error = run.describe_error(failure)

    assert (error["type"], error["module"]) == ("TypeError", "builtins")
    assert error["frames"][-1]["own"] is True
    assert error["frames"][-1]["function"] == "test_an_error_keeps_type_message_and_own_frames"
    assert "Traceback (most recent call last)" in error["traceback"]
