"""What a channel is."""

from __future__ import annotations

from typing import Protocol

from plet_celery.alertsignals import AlertMessage


class Undelivered(Exception):
    """A message was not taken; the text says why, for people: no secret, nothing of an answer's body."""


class Channel(Protocol):
    """Somebody who can be told. `repr` shows no secret."""

    @property
    def name(self) -> str:
        """As `plet_channels` names it."""

    @property
    def kind(self) -> str:
        """`log`, `call`, `signals`, `webhook` or `notify`."""

    @property
    def timeout(self) -> float:
        """Seconds that one message may take."""

    @property
    def needs_app(self) -> bool:
        """Whether only a process that has loaded the user's app can send."""

    @property
    def target(self) -> str:
        """Where it goes, for people: never a secret."""

    def send(self, message: AlertMessage, *, now: float) -> str:
        """Deliver a message; return in a few words what became of it.

        Args:
            now: wall time of this try.

        Raises:
            Undelivered: it was not taken; it is sent again later.
        """
