"""Where a run's log is read from: this host's files, else their copies in the mirror, else the store.

`windows.py` is what the pages ask, `source.py` what the terminal and `TrackedResult` follow.
"""

from __future__ import annotations
