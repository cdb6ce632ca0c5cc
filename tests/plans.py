"""What an engine says it would do for a query: the steps that grow with the number of runs."""

from __future__ import annotations

import re
from typing import Any

from plet_celery.store.prepared import Statement

_LED = re.compile(r"\brun\.(state|task|tenant|worker|queue|canvas) = ")
SORTED_MAX = 2_000
"""Rows that a plan may sort: a fiftieth of all."""


def faults(connection: Any, query: Any) -> list[str]:
    """Return the steps of a query's plan that read all of `run`, or sort more than runs of one time.

    Args:
        query: one of the toolkit, or a prepared statement; of one that sorts it is known that it sorts few.
    """
    if isinstance(query, Statement):
        return _faults(connection, query.text, query.values, query.sorts)
    return faults_of(connection, str(query.compile(connection, compile_kwargs={"literal_binds": True})))


def faults_of(connection: Any, text: str) -> list[str]:
    """Return the steps of a statement's plan as `faults` does."""
    return _faults(connection.execution_options(no_parameters=True), text, None, False)


def _faults(connection: Any, text: str, values: Any, sorts: bool) -> list[str]:
    return {"sqlite": _sqlite_faults, "postgresql": _postgres_faults}.get(
        connection.dialect.name, _mariadb_faults
    )(connection, text, values, sorts)


def _sqlite_faults(connection: Any, text: str, values: Any, sorts: bool) -> list[str]:
    plan = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)]
    # Where a column of an index is asked for, it leads: in the order of time all runs might be read.
    is_led = _LED.search(text) is not None
    return [
        step
        for step in plan
        if ("TEMP B-TREE FOR ORDER BY" in step and not sorts)
        or (is_led and step.startswith("SCAN run USING INDEX ix_run_newest"))
        # Rows that were limited already may be counted as they are.
        or (step.startswith("SCAN") and not any(one in step for one in ("USING", "anon_", "CONSTANT ROW")))
    ]


def _postgres_faults(connection: Any, text: str, values: Any, sorts: bool) -> list[str]:
    (plan,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {text}", values).scalar()
    nodes, found = [plan["Plan"]], []
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", ())
        # A bounded number of rows may be sorted: those of one canvas, or of a filter that few pass.
        too_many = node["Node Type"] == "Sort" and node["Plan Rows"] > SORTED_MAX and not sorts
        if node["Node Type"] == "Seq Scan" or too_many:
            found.append(f"{node['Node Type']} of {node['Plan Rows']} rows in {plan}")
    return found


def _mariadb_faults(connection: Any, text: str, values: Any, sorts: bool) -> list[str]:
    rows = [dict(row._mapping) for row in connection.exec_driver_sql(f"EXPLAIN {text}", values)]
    found = []
    for row in rows:
        if row["type"] == "ALL" and not str(row["table"]).startswith("<derived"):
            found.append(f"reads all: {rows}")
        if "filesort" in str(row["Extra"]) and int(str(row["rows"]).split()[0]) > SORTED_MAX and not sorts:
            found.append(f"sorts: {rows}")
    return found
