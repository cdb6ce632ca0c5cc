"""Run log files: `LogFiles` writes a run's folder, `RunLog` reads it from the end or by the index."""

from __future__ import annotations

from plet_celery.logfiles.limits import LogLimits
from plet_celery.logfiles.line import Line
from plet_celery.logfiles.reading import Followed, RunLog, find_folders
from plet_celery.logfiles.searching import Found
from plet_celery.logfiles.writing import LogFiles

__all__ = ["Followed", "Found", "Line", "LogFiles", "LogLimits", "RunLog", "find_folders"]
