"""The shipper's own log: a file beside the journal, rotated at a size, and nothing else of it on disk."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import Final

from plet_celery.spawning import LOG_NAME

OUTPUT_MAX_BYTES: Final = 1 << 20
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


def set_up_logging() -> None:
    """Write log records to stderr, one line each, times in UTC."""
    formatter = logging.Formatter(f"[%(asctime)s] [%(levelname)s] [shipper {os.getpid()}] %(message)s")
    formatter.converter = time.gmtime
    formatter.default_msec_format = "%s.%03dZ"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)


class Output:
    """stdout and stderr of this process in `shipper.log`, also what libraries write there by themselves."""

    def __init__(self, directory: Path, max_bytes: int = OUTPUT_MAX_BYTES) -> None:
        self._path = directory / LOG_NAME
        self._max_bytes = max_bytes

    def open(self) -> None:
        """Send both streams to the file."""
        descriptor = os.open(self._path, _FLAGS, 0o600)
        try:
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
        finally:
            os.close(descriptor)

    def rotate_if_large(self) -> None:
        """Keep the full file as `shipper.log.1` and go on in a new one; a failure is told in the old one."""
        if os.fstat(2).st_size < self._max_bytes:
            return
        try:
            self._path.replace(self._path.with_name(f"{LOG_NAME}.1"))
            self.open()
        except OSError as error:
            logging.getLogger(__name__).warning("log was not rotated: path=%s error=%s", self._path, error)
