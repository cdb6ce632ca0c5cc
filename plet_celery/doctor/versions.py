"""Python and the packages that matter, as they are installed here."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Final

from plet_celery.doctor.finding import Finding, Level
from plet_celery.settings_channels import ChannelSettings

_PACKAGES: Final = ("plet-celery", "celery", "kombu", "billiard", "redis", "flower", "SQLAlchemy", "msgspec")
_DRIVERS: Final = {
    "postgresql": ("psycopg", "postgres"),
    "mysql": ("pymysql", "mysql"),
    "mariadb": ("pymysql", "mysql"),
}


def versions(dialect: str) -> dict[str, str]:
    """Return name → version; of the driver, too, that the store's `dialect` needs. Missing ones are empty."""
    names = [*_PACKAGES, *([_DRIVERS[dialect][0]] if dialect in _DRIVERS else [])]
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def decide_versions(found: Mapping[str, str], *, dialect: str) -> Finding:
    """Say which versions there are, and whether the driver is missing."""
    driver, extra = _DRIVERS.get(dialect, ("", ""))
    text = " · ".join(f"{name} {version}" for name, version in found.items() if version)
    if driver and not found.get(driver):
        return Finding(
            check="versions",
            level=Level.ERROR,
            text=f"the driver {driver} of the store is not installed ({text})",
            fix=f"pip install 'plet-celery[{extra}]'",
            docs="docs/production.md#choose-a-database",
            data=dict(found),
        )
    return Finding(check="versions", level=Level.OK, text=text, data=dict(found))


def decide_flower(missing: Sequence[str]) -> Finding:
    """Say whether the pages fit into the installed Flower; `missing` is of `flowerhooks.missing_hooks`."""
    if missing:
        return Finding(
            check="versions.flower",
            level=Level.WARNING,
            text=f"this Flower is another one than plet knows: {'; '.join(missing)}",
            fix="pip install 'flower>=2.2,<2.3'",
            docs="docs/pages.md#troubles",
            data={"missing": list(missing)},
        )
    return Finding(
        check="versions.flower", level=Level.OK, text="the pages fit into this Flower, below /plet/"
    )


def decide_apprise(channels: Mapping[str, ChannelSettings], is_installed: bool) -> Iterator[Finding]:
    """Say that channels need Apprise, where it is missing."""
    names = sorted(name for name, one in channels.items() if one.kind == "notify" and one.enabled)
    if names and not is_installed:
        yield Finding(
            check="versions.apprise",
            level=Level.ERROR,
            text=f"nobody is told by {', '.join(names)}: Apprise is not installed",
            fix="pip install 'plet-celery[notify]'",
            docs="docs/channels.md#by-e-mail-slack-telegram-",
            data={"channels": names},
        )
