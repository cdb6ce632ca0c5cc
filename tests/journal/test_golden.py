"""A journal as version 1 of the format wrote it is read for ever; golden/ is never written anew."""

from __future__ import annotations

import shutil
from pathlib import Path

from plet_celery.journal_reader import Reader

GOLDEN = Path(__file__).with_name("golden")
WRITER = "600dc0de" * 4
RUN = "8f1c22ab-5a5e-4d0c-9f38-2f1f0f0f0f0f"


def test_format_1_is_read(tmp_path: Path) -> None:
    # A copy: a checkout may belong to another user, or have second names.
    directory = Path(shutil.copytree(GOLDEN, tmp_path / "golden"))

    batch = Reader(directory).read()

    assert (batch.damaged, batch.gaps, batch.unsupported) == ([], {}, {})
    assert [(event.kind, event.segment, event.offset, event.number) for event in batch.events] == [
        ("run.started", 1, 335, 2),
        ("stage.started", 1, 723, 3),
        ("log.written", 1, 951, 5),
        ("shop.unknown", 2, 332, 7),
        ("run.failed", 2, 517, 8),
    ]
    assert batch.positions == {WRITER: (2, 884)}
    assert batch.drops == {WRITER: {"rate_limit": 3, "shed_debug_log": 12}}
    started, stage, line, unknown, failed = batch.events
    assert {event.run for event in batch.events} == {RUN}
    assert (started.wall, started.mono, started.attempt) == (1795000000.5, 100.75, "0123456789abcdef")
    assert stage.data == {"stage": 1, "name": "download", "total": 2, "unit": "files", "percent": 0.0}
    assert line.data["text"] == "line one\nline two \x1b[31mred\x1b[0m ünï"
    assert unknown.data == {"any": [1, None, {"x": 1.5}]}
    assert failed.data["error"]["message"] == "no such “table”"
    header = batch.headers[WRITER]
    assert (header.pid, header.role, header.parent) == (42, "child", "c0ffee00" * 4)
