"""What is drawn of a run, as pure functions of records: timeline, canvas, measures, how runs ended."""

from __future__ import annotations
