"""The tables of counts and durations per five minutes: a row per journal and series, and histograms."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Integer, Table

from plet_celery.store.columns import QUEUE_MAX, TASK_MAX, TENANT_MAX, TableMaker, key, required


def _series() -> tuple[Column[Any], ...]:
    return (
        required("journal_id", key(32)),
        required("bucket", BigInteger()),
        required("task", key(TASK_MAX)),
        required("queue", key(QUEUE_MAX)),
        required("tenant", key(TENANT_MAX)),
        required("state", key(16)),
    )


_SERIES: Final = ("journal_id", "bucket", "task", "queue", "tenant", "state")


def rollup_table(make: TableMaker) -> Table:
    table = make(
        "rollup",
        *_series(),
        required("count", BigInteger()),
        required("runtime_count", BigInteger()),
        required("runtime_us", BigInteger()),
        required("waited_count", BigInteger()),
        required("waited_us", BigInteger()),
        primary=_SERIES,
        dense=True,
    )
    make.index(table, "bucket", "bucket")
    return table


def rollup_bin_table(make: TableMaker) -> Table:
    table = make(
        "rollup_bin",
        *_series(),
        required("measure", key(8)),
        required("bin", Integer()),
        required("count", BigInteger()),
        primary=(*_SERIES, "measure", "bin"),
        dense=True,
    )
    make.index(table, "bucket", "bucket")
    return table


def rollup_tenant_table(make: TableMaker) -> Table:
    return make(
        "rollup_tenant",
        required("journal_id", key(32)),
        required("tenant", key(TENANT_MAX)),
        primary=("journal_id", "tenant"),
        dense=True,
    )
