"""Tell a service manager how the shipper is: systemd's notify protocol, a datagram of `NAME=value` lines.

Source: sd_notify(3). Without `NOTIFY_SOCKET` everything here does nothing.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)


class ServiceManager:
    """The other end of `NOTIFY_SOCKET`; a lost one is told once, and never fails the shipper."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # An abstract socket's name starts with a zero byte, which a variable cannot hold.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watched = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._status = ""
        self._failed = False

    def ready(self, status: str) -> None:
        """Say that the start is over; `status` is the line that `systemctl status` shows."""
        self._status = status
        self._send("READY=1", f"STATUS={status}")

    def alive(self, status: str) -> None:
        """Say that the process is not frozen; its status, when it has changed."""
        lines = ["WATCHDOG=1"] if self._watched else []
        if status != self._status:
            self._status = status
            lines.append(f"STATUS={status}")
        if lines:
            self._send(*lines)

    def stopping(self, status: str) -> None:
        """Say that it is about to end."""
        self._send("STOPPING=1", f"STATUS={status}")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                # A manager that does not read must not stop the shipping.
                channel.setblocking(False)
                channel.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._failed:
                log.warning("service manager does not listen: error=%s", error)
            self._failed = True
