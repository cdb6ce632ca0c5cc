"""The store: runs and all below them in a SQL database.

`open_store` gives a Store; `queries` reads, `records` are what it returns. Importing this loads
SQLAlchemy, so a task process never does.
"""

from plet_celery.store.batches import IngestResult
from plet_celery.store.lease import Lease, Positions
from plet_celery.store.limits import IngestLimits
from plet_celery.store.migrating import SchemaStatus
from plet_celery.store.neighbours import include_name
from plet_celery.store.store import OpenAttempt, Store, check_schema, migrate, migrate_sql, open_store

__all__ = [
    "IngestLimits",
    "IngestResult",
    "Lease",
    "OpenAttempt",
    "Positions",
    "SchemaStatus",
    "Store",
    "check_schema",
    "include_name",
    "migrate",
    "migrate_sql",
    "open_store",
]
