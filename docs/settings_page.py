"""Writes docs/settings.md from the model, so that the page cannot fall behind it.

python docs/settings_page.py
"""

from __future__ import annotations

from pathlib import Path

from pydantic.fields import FieldInfo

from plet_celery.settings import PREFIX, Settings

PAGE = Path(__file__).with_name("settings.md")

# The first option of each group, with the group's heading.
HEADINGS = {
    "rules": "Alerts",
    "monitor": "Monitor",
    "channels": "Channels",
    "enabled": "What is recorded",
    "home": "Where things live",
    "segment_max_bytes": "Journal (the task's side)",
    "run_max_log_bytes": "Bounds per run",
    "shipper": "Shipper",
    "retention_days": "Store",
    "insecure_open": "Pages",
}

_INTRODUCTION = """\
# Settings

<!-- Written by docs/settings_page.py from plet_celery/settings.py; change it there. -->

An option is `plet_x` in Celery's conf, and `PLET_X` in the environment. The conf wins over the environment,
and that over the default; only `PLET_ENABLED=0` in the environment wins over the conf, so that recording can
be switched off without a release.

    app.conf.plet_retention_days = 14               # Celery
    CELERY_PLET_RETENTION_DAYS = 14                 # Django: config_from_object(…, namespace="CELERY")
    PLET_RETENTION_DAYS=14 celery -A shop worker    # environment

Durations are seconds; other units are in the name (`_days`, `_bytes`, `_percent`). In the environment, lists
are JSON or names separated by commas (lists of secrets: JSON), truth values are 1/0, true/false, yes/no,
on/off; an empty variable counts as unset. An unknown `plet_*` name in the conf is an error that names the
nearest known one; unknown `PLET_*` variables are left alone.

`celery -A shop plet config` prints every option with its value and where it came from. Secrets (marked below)
are shown as `***` there; `celery report` and `inspect conf` mask them, too.
"""


def page() -> str:
    """Return the whole page."""
    lines = [_INTRODUCTION]
    for name, field in Settings.model_fields.items():
        if name in HEADINGS:
            lines += [f"## {HEADINGS[name]}\n", "| option | type | default | meaning |", "|---|---|---|---|"]
        lines.append(
            f"| `{PREFIX}{name}` | {_type(field)} | {_default(field)} | {_escaped(field.description or '')} |"
        )
        if _next_has_heading(name):
            lines.append("")
    return "\n".join(lines) + "\n"


def _next_has_heading(name: str) -> bool:
    names = list(Settings.model_fields)
    following = names[names.index(name) + 1 :]
    return bool(following) and following[0] in HEADINGS


def _type(field: FieldInfo) -> str:
    text = str(field.annotation)
    if "Secret" in text:
        return "list of secrets" if "tuple" in text else "secret"
    if "Callable" in text:
        return "function, or text"
    if "Literal" in text:
        return ", ".join(f"`{choice}`" for choice in getattr(field.annotation, "__args__", ()))
    if text == "dict[str, typing.Any]":
        return "`{name pattern: [objective]}`"
    if text.startswith("dict[str, dict"):
        return "`{rule: {key: value}}`"
    if "ChannelSettings" in text:
        return "`{name: channel}`"
    if text.startswith("dict"):
        return "`{name pattern: number}`"
    names = {"bool": "true or false", "int": "whole number", "float": "number", "str": "text"}
    for kind, name in names.items():
        if kind in text:
            return ("list of names" if "tuple" in text else name) + _bounds(field)
    raise TypeError(f"no word for {text}")


def _bounds(field: FieldInfo) -> str:
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    found = [
        f"{sign} {_number(getattr(rule, attribute))}"
        for rule in field.metadata
        for attribute, sign in signs.items()
        if hasattr(rule, attribute)
    ]
    return f" {', '.join(found)}" if found else ""


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value == ():
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return _number(value)
    return ", ".join(f"`{item}`" for item in value) if isinstance(value, tuple) else f"`{value}`"


def _number(value: float) -> str:
    if isinstance(value, int) and value and value % 1024 == 0:
        for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
            if value % (1 << shift) == 0:
                return f"{value >> shift} {unit}"
    return f"{value:,}".removesuffix(".0")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(page())
