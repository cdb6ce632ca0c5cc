"""Where the value of each option comes from, and what is said where it cannot be used.

Order of sources: Celery's conf (`plet_*`), then the environment (`PLET_*`), then the default;
only `PLET_ENABLED=0` in the environment wins over the conf, so that an operator can switch
recording off without a release.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel, SecretStr, ValidationError

from plet_celery.errors import SettingsError, shown
from plet_celery.objectives import Objective, to_plain
from plet_celery.settings import PREFIX, Settings
from plet_celery.settings_channels import ChannelSettings, function_name

_MAY_HOLD_SECRETS: Final = frozenset({"channels", "pages_url"})
"""Where somebody may have written an address with a token by mistake: it is refused, and not repeated."""


class Sourced(BaseModel):
    """One option with the place its value came from: `conf`, `environment` or `default`."""

    name: str
    value: Any
    source: str
    description: str


def load_settings(conf: Mapping[str, Any] | None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read, check and return the options.

    Args:
        conf: Celery's `app.conf`, or a plain mapping; only `plet_*` keys are read.
        environ: the environment (`os.environ` by default); only `PLET_*` is read.

    Raises:
        SettingsError: a `plet_*` name is unknown (names the nearest known one), or a value
            does not fit (names the setting, what is wrong, where it was set; never a secret's value).
    """
    given, sources = _gather(conf, os.environ if environ is None else environ)
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise SettingsError(_explain(error, given, sources)) from None


def describe_settings(
    conf: Mapping[str, Any] | None, environ: Mapping[str, str] | None = None
) -> list[Sourced]:
    """Return every option with value (secrets masked) and source, in the model's order."""
    environ = os.environ if environ is None else environ
    settings = load_settings(conf, environ)
    _, sources = _gather(conf, environ)
    return [
        Sourced(
            name=PREFIX + name,
            value=_masked(getattr(settings, name)),
            source=sources.get(name, "default"),
            description=field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]


def _gather(
    conf: Mapping[str, Any] | None, environ: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    given: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, value in _from_environment(environ).items():
        given[name], sources[name] = value, "environment"
    for name, value in _from_conf(conf or {}).items():
        if name == "enabled" and sources.get("enabled") == "environment" and _is_off(given["enabled"]):
            continue
        given[name], sources[name] = value, "conf"
    return given, sources


def _from_conf(conf: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for key in _plet_keys(conf):
        name = key.lower().removeprefix(PREFIX)
        if name not in Settings.model_fields:
            raise SettingsError(_unknown(key))
        given[name] = conf[PREFIX + name] if PREFIX + name in conf else conf[key]
    return given


def _plet_keys(conf: Mapping[str, Any]) -> Iterable[str]:
    # With config_from_object(…, namespace="CELERY") the conf holds CELERY_PLET_X but answers plet_x.
    namespace = (getattr(conf, "prefix", None) or "").lower()
    upper = {(PREFIX + name).upper() for name in Settings.model_fields}
    for key in dict.fromkeys(map(str, conf)):
        if key.startswith(PREFIX):
            yield key
        elif not namespace and key in upper:
            raise SettingsError(
                f"{key!r} in Celery's conf is not read; write {key.lower()!r} (Celery reads upper case "
                "only with a namespace: config_from_object(…, namespace='CELERY') and CELERY_PLET_…)"
            )
        elif namespace and key.lower().startswith(namespace + PREFIX):
            yield key.lower().removeprefix(namespace)


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    # An empty variable counts as unset, as a compose file writes it.
    given = {key: value for key, value in environ.items() if key.startswith("PLET_") and value.strip()}
    if not given:
        return {}
    # 0.1 s: only where there is something for it to read
    from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

    class _Environment(Settings, BaseSettings):
        model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    # Unknown PLET_* names are not ours to refuse: Kubernetes sets PLET_PORT for a service named plet.
    source = EnvSettingsSource(_Environment, case_sensitive=False, env_prefix="PLET_")
    source.env_vars = {
        key.lower(): _as_json(key.lower().removeprefix(PREFIX), value.strip()) for key, value in given.items()
    }
    try:
        return dict(source())
    except ValueError as error:
        raise SettingsError(
            f'{error} of the environment: a list is given as JSON, as in \'["a", "b"]\', '
            "a mapping as in '{\"a.*\": 0.1}'"
        ) from None
    except RecursionError:
        names = ", ".join(key for key, value in given.items() if _is_too_deep(value)) or "a value"
        raise SettingsError(
            f"{names} of the environment has too many [ or {{ within each other; no setting needs over 10"
        ) from None


def _is_too_deep(text: str) -> bool:
    try:
        json.loads(text)
    except RecursionError:
        return True
    except ValueError:
        pass
    return False


def _as_json(name: str, text: str) -> str:
    """Return `a,b` as a JSON list where the option is a list of names; a secret may hold commas."""
    field = Settings.model_fields.get(name)
    if field is None or field.annotation != tuple[str, ...] or text.startswith("["):
        return text
    return json.dumps([part.strip() for part in text.split(",") if part.strip()])


def _is_off(text: str) -> bool:
    return text.strip().lower() in {"0", "false", "no", "off", "n", "f"}


def _unknown(key: str) -> str:
    known = [PREFIX + name for name in Settings.model_fields]
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    return f"unknown setting {key!r}; the nearest known one is {nearest[0]!r} (all: celery plet config)"


def _explain(error: ValidationError, given: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    lines = []
    for one in error.errors():
        name = str(one["loc"][0])
        field = Settings.model_fields[name]
        secret = "Secret" in str(field.annotation)
        value = "***" if secret or name in _MAY_HOLD_SECRETS else shown(given.get(name))
        where = sources.get(name, "default")
        lines.append(
            f"{PREFIX}{name} = {value} (from {where}): {_key(one['loc'])}{one['msg']}; "
            f"{(field.description or '').rstrip('.')}; default {_masked(field.default)!r}"
        )
    return "\n".join(lines)


def _key(place: tuple[int | str, ...]) -> str:
    """Return which entry of a mapping is wrong, and what of it; of a list, its text tells."""
    names = [one for one in place[1:] if isinstance(one, str) and one.isprintable()]
    return f"{names[0]!r}: " + "".join(f"{one}: " for one in names[1:2]) if names else ""


def _masked(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return "***"
    if isinstance(value, tuple):
        return [_masked(item) for item in value]
    if isinstance(value, ChannelSettings):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, dict):
        return {name: _masked(item) for name, item in value.items()}
    if isinstance(value, Objective):
        return to_plain(value)
    return function_name(value) if callable(value) else value
