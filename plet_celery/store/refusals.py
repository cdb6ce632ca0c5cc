"""What must not come back: events of runs that are being removed, or were, and of erased tenants.

A run is known by a digest of its id, so that nothing names it once it is gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.store import bulk
from plet_celery.store.schema import Tables

ERASED: Final = "erased"
_TENANTS: Final = "t"
"""How the digests of tenants begin: behind all hex digits."""
TENANT: Final = "tenant"
"""Reason of a row that refuses what a tenant's runs told before `marked_at`."""


def digest_of(run: str) -> str:
    """Return what stands for a run after it is gone."""
    return hashlib.sha256(run.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def tenant_digest(tenant: str) -> str:
    """Return what stands for a tenant that was erased."""
    return _TENANTS + digest_of(f"tenant\0{tenant}")[1:]


class Refusals:
    """Which events a batch must not bring back."""

    def __init__(self, connection: Connection, tables: Tables) -> None:
        self._connection = connection
        self._tables = tables

    def any(self) -> tuple[bool, bool]:
        """Tell whether there is anything that must not come back, and whether tenants are among it."""
        table = self._tables.removal
        # The last key: those of tenants come behind all others.
        last = self._connection.execute(sa.select(sa.func.max(table.c.digest))).scalar()
        return last is not None, last is not None and last >= _TENANTS

    def of(self, runs: Iterable[str], tenants: Mapping[str, tuple[str, float]]) -> dict[str, str]:
        """Return the refused among `runs` with their digests.

        Args:
            tenants: by run that is not stored: its tenant, and the wall time of its first event here.
        """
        table = self._tables.removal
        digests = {digest_of(run): run for run in runs}
        above = {run: [tenant_digest(one) for one in paths_of(path)] for run, (path, _) in tenants.items()}
        wanted = {*digests, *(one for some in above.values() for one in some)}
        columns = ("digest", "reason", "marked_at", "forget_at")
        found = {
            row[0]: row[1:]
            for row in bulk.fetch(self._connection, table, [(one,) for one in wanted], columns=columns)
        }
        refused = {run: digest for digest, run in digests.items() if digest in found}
        for run, some in above.items():
            erased = [found[one] for one in some if one in found and tenants[run][1] <= found[one][1]]
            if run not in refused and erased:
                refused[run] = digest_of(run)
                # What comes later does not name the tenant again.
                _, at, until = max(erased)
                row = (refused[run], None, ERASED, at, at, until, 0)
                bulk.insert(self._connection, table, [row])
        return refused

    def count(self, late: Mapping[str, int]) -> None:
        """Add events that came too late to the marks of their runs, by digest."""
        table = self._tables.removal
        for digest, count in sorted(late.items()):
            more = table.update().where(table.c.digest == digest).values(late=table.c.late + count)
            self._connection.execute(more)


def covers(tenant: str, other: str) -> bool:
    """Tell whether a tenant's path is `other` or above it: `acme` covers `acme/site1`, not `acme2`."""
    return other == tenant or other.startswith(tenant + "/")


def paths_of(tenant: str) -> list[str]:
    """Return a tenant's path and those above it: `a/b` gives `a/b`, `a`."""
    parts = tenant.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
