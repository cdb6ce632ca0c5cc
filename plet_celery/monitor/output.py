"""What a monitor of its own writes: log records to stderr, one line each, times in UTC."""

from __future__ import annotations

import logging
import os
import sys
import time


def set_up_logging() -> None:
    """Write log records of this process to stderr."""
    formatter = logging.Formatter(f"[%(asctime)s] [%(levelname)s] [monitor {os.getpid()}] %(message)s")
    formatter.converter = time.gmtime
    formatter.default_msec_format = "%s.%03dZ"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
