"""One tree of errors: each message gives the fact, the value, the way out."""

from __future__ import annotations

from typing import Final

_SHOWN_MAX: Final = 100
"""Characters of a value that an error quotes; the type and the beginning tell which one it is."""


class PletError(Exception):
    """Base of every error that plet_celery raises."""


class SettingsError(PletError):
    """A setting is unknown, or its value cannot be used."""


class HomeError(PletError):
    """A directory plet must own (home, journal, runs) is missing, unsafe or not writable."""


class JournalError(PletError):
    """The journal directory or one of its files cannot be used."""


class JournalCorrupt(JournalError):
    """A complete record fails its checksum; the reader resumes at the next one."""


class StoreError(PletError):
    """The store answered, but cannot be used as it is."""


class StoreUnavailable(StoreError):
    """The store cannot be reached (down, locked, no permission); try again later."""


class StoreMissing(StoreUnavailable):
    """The SQLite file is not there: nothing was ever recorded, or it is looked for in another place."""


class SchemaError(StoreError):
    """The store's schema is missing, older than needed, or newer than this version knows."""


class StaleWrite(StoreError):
    """Another shipper holds this journal's lease; the caller must step down."""


class RunNotFound(PletError):
    """No run has this id, prefix or name."""


class RunAmbiguous(PletError):
    """A prefix fits several runs."""


class AlertNotFound(PletError):
    """No alert has this id or prefix."""


class SilenceNotFound(PletError):
    """No silence has this id."""


class LogNotFound(PletError):
    """A run's log is neither on this host nor in the store."""


class ServiceFailed(PletError):
    """A part of the development stack did not start or has died."""


def shown(value: object) -> str:
    """Return a value as an error quotes it: its `repr`, cut at 100 characters.

    It never raises: of a value that cannot be shown it is the type, such as `<a Money>`.
    """
    try:
        text = repr(value)
    # A user's class may fail at that, Python at an integer of 5000 digits or a list 100 000 deep.
    except Exception:
        return f"<a {type(value).__name__}>"
    return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 1]}…"
