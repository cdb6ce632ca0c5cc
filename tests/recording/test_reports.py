# mypy: disable-error-code="untyped-decorator"
"""What a worker's main process tells of a run, whatever becomes of Celery's own part in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery import Celery
from kombu.message import Message
from listwriter import ListWriter

from plet_celery.reports import report_requests


@pytest.mark.parametrize(
    ("terminated", "signal", "expired", "kind", "data"),
    [
        (True, "SIGTERM", False, "run.cancelled", {"terminated": True, "signal": "SIGTERM"}),
        (False, None, False, "run.cancelled", {"terminated": False}),
        (False, None, True, "run.expired", {"expires": ""}),
    ],
)
def test_a_revoked_run_is_told_also_where_the_backend_does_not_take_it(
    monkeypatch: pytest.MonkeyPatch, terminated: bool, signal: str | None, expired: bool, kind: str, data: Any
) -> None:
    app = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)

    @app.task(name="shop.load", shared=False)
    def load() -> None: ...

    writer = ListWriter()
    report_requests(app, writer, lambda _: True, forks=True)
    request = _request(app, "shop.load")

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("the result backend is away")

    monkeypatch.setattr(request.task.backend, "mark_as_revoked", refuse)

    with pytest.raises(ConnectionError):
        request._announce_revoked("revoked", terminated, signal, expired)

    (told,) = writer.of(kind)
    assert told["by"] == "main" and data.items() <= told.items()


def _request(app: Celery, name: str) -> Any:
    """What a worker makes of a message of this task."""
    made = app.amqp.as_task_v2("4b4dd2b1", name, (), {})
    message = Message(
        body=json.dumps(made.body),
        headers=made.headers,
        properties=made.properties,
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={"exchange": "", "routing_key": "celery"},
    )
    task: Any = app.tasks[name]
    return task.Request(message, app=app, task=task, hostname="celery@test", headers=made.headers)
