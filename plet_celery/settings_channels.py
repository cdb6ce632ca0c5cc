"""What a project says of a channel, a part of `settings.py`: who is told of which alerts, and by what.

Addresses and keys are secrets, so they stand in lists of their own, each as `channel=secret`: Celery
masks a list by the setting's name, but looks into a mapping and shows what it holds.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_serializer,
    model_validator,
)

NAME_MAX: Final = 64
KEY_MIN: Final = 16
"""Characters of a webhook's key; what is shorter can be guessed."""
BUILT_IN: Final = ("log", "signals")
"""Channels that are there without being named; an entry of that name changes them."""
ADDRESSED: Final = frozenset({"webhook", "notify"})
_NAME = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{NAME_MAX - 1}}}")
_STRANGE = re.compile(r"[^\x21-\x7e]")
_ADDRESSES: Final = frozenset({"url", "urls", "address", "secret_url", "webhook", "uri"})
_KEYS: Final = frozenset({"key", "secret", "secret_key", "token", "signature"})


class ChannelSettings(BaseModel):
    """One entry of `plet_channels`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    kind: Literal["log", "call", "signals", "webhook", "notify"]
    enabled: bool = True
    severity: Literal["warning", "critical"] = "warning"
    """The lowest that it is told of."""
    tasks: tuple[str, ...] = ()
    """Name patterns; what is about no task is not told then. Empty: everything."""
    tenants: tuple[str, ...] = ()
    """Paths, each with what is below; what is about no tenant is not told then. Empty: everything."""
    resolved: bool = True
    """Whether it is told of the end, too."""
    timeout: float = Field(default=10.0, gt=0, le=60)
    """Seconds that one message may take."""
    function: Callable[[Any], Any] | str | None = None
    """What a `call` calls, or its dotted path."""
    allow_private: bool = False
    """A `webhook` may reach addresses that are not public."""
    allow_http: bool = False
    """A `webhook` may go without encryption."""
    proxy: Annotated[str, AfterValidator(lambda url: _checked_proxy(url))] | None = None
    """`http://host:port` through which a `webhook` goes; the environment's is never used."""

    @model_validator(mode="before")
    @classmethod
    def _names_the_right_place(cls, given: Any) -> Any:
        strange = (
            {str(name) for name in given} - cls.model_fields.keys() if isinstance(given, Mapping) else set()
        )
        if strange & _ADDRESSES:
            raise ValueError("an address is a secret; write 'name=address' into plet_channel_secret_urls")
        if strange & _KEYS:
            raise ValueError("a key is a secret; write 'name=key' into plet_channel_secret_keys")
        if strange:
            raise ValueError(f"it has unknown keys; the known ones are {', '.join(cls.model_fields)}")
        return given

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> ChannelSettings:
        if (self.function is None) == (self.kind == "call"):
            raise ValueError("a channel of the kind 'call' has a function, and no other kind has")
        if isinstance(self.function, str) and not re.search("[.:]", self.function):
            raise ValueError("its function is no dotted path; write it as shop.alerts:tell")
        if inspect.isgeneratorfunction(self.function) or inspect.isasyncgenfunction(self.function):
            raise ValueError("its function has a yield in it, so calling it runs nothing; take that out")
        if self.kind != "webhook" and (self.allow_private or self.allow_http or self.proxy):
            raise ValueError("allow_private, allow_http and proxy are for channels of the kind 'webhook'")
        return self

    @field_serializer("function")
    def _function_name(self, function: Callable[[Any], Any] | str | None) -> str | None:
        return function_name(function) if function is not None else None


def function_name(function: Callable[[Any], Any] | str) -> str:
    """Return how a function is named for people, and for a process that does not import it."""
    if isinstance(function, str):
        return function
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '?')}:{name}"


def checked_channels(channels: dict[str, ChannelSettings]) -> dict[str, ChannelSettings]:
    """Refuse names that are none, and another kind under the name of a built-in channel."""
    for name, channel in channels.items():
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"a channel's name is 1 to {NAME_MAX} of a-z, 0-9, _ and -, beginning with a letter or digit"
            )
        if name in BUILT_IN and channel.kind != name:
            raise ValueError(f"the channel {name!r} is built in; another kind needs another name")
    return channels


def no_mapping(given: Any) -> Any:
    """Refuse a mapping of secrets: Celery would show them in `celery report` and to Flower."""
    if isinstance(given, Mapping):
        raise ValueError("it is a mapping, whose secrets Celery shows; write a list of 'channel=secret'")
    return given


def checked_urls(
    channels: Mapping[str, ChannelSettings], given: tuple[SecretStr, ...]
) -> tuple[SecretStr, ...]:
    """Refuse addresses that fit no channel, and channels without one; no message holds an address."""
    urls = _checked_names(given, [name for name, one in channels.items() if one.kind in ADDRESSED])
    for name, channel in channels.items():
        if channel.kind not in ADDRESSED:
            continue
        if len(urls.get(name, ())) != 1:
            raise ValueError(
                f"the channel {name!r} has {'several addresses' if name in urls else 'no address'}; "
                f"write one as '{name}=…'"
            )
        url = urls[name][0]
        if channel.kind == "webhook":
            try:
                check_web_url(url, ("https", "http") if channel.allow_http else ("https",))
            except ValueError as error:
                raise ValueError(f"the address of the channel {name!r} {error}") from None
        elif not re.match("[A-Za-z][A-Za-z0-9+.-]*://", url):
            raise ValueError(f"the address of the channel {name!r} is no Apprise URL, such as mailto://…")
    return given


def checked_keys(
    channels: Mapping[str, ChannelSettings], given: tuple[SecretStr, ...]
) -> tuple[SecretStr, ...]:
    """Refuse keys that fit no webhook, and webhooks without one; no message holds a key."""
    keys = _checked_names(given, [name for name, one in channels.items() if one.kind == "webhook"])
    for name, channel in channels.items():
        if channel.kind == "webhook" and not keys.get(name):
            raise ValueError(f"the webhook {name!r} has no key to sign with; write one as '{name}=…'")
        if any(len(key) < KEY_MIN for key in keys.get(name, ())):
            raise ValueError(f"a key of the channel {name!r} is shorter than {KEY_MIN} characters")
    return given


def named_secrets(given: Iterable[SecretStr]) -> dict[str, tuple[str, ...]]:
    """Return the secrets of each channel, in their order; entries look like `channel=secret`."""
    found: dict[str, tuple[str, ...]] = {}
    for secret in given:
        name, _, value = secret.get_secret_value().partition("=")
        found[name.strip()] = (*found.get(name.strip(), ()), value.strip())
    return found


def check_web_url(url: str, schemes: tuple[str, ...] = ("https", "http")) -> None:
    """Refuse what is no plain web address.

    Raises:
        ValueError: what is wrong, as the rest of a sentence; the address is not repeated.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("is no URL") from None
    if parts.scheme not in schemes:
        raise ValueError(f"does not begin with {' or '.join(f'{one}://' for one in schemes)}")
    if not parts.hostname or _STRANGE.search(url):
        raise ValueError("has no host, or characters that are none of a URL's (quote them as %20)")
    if port == 0:
        raise ValueError("has the port 0, at which nobody listens; write its port, or none")
    if "@" in parts.netloc:
        raise ValueError("has a user or password in it; these are not sent")


def _checked_names(given: tuple[SecretStr, ...], names: list[str]) -> dict[str, tuple[str, ...]]:
    for number, secret in enumerate(given, 1):
        name, _, value = secret.get_secret_value().partition("=")
        # What stands before the = may be a part of the secret: it is not repeated.
        if name.strip() not in names or not value.strip():
            known = ", ".join(names) or "none"
            raise ValueError(
                f"entry {number} is not 'channel=secret' with a channel that takes one (there: {known})"
            )
    return named_secrets(given)


def _checked_proxy(url: str) -> str:
    try:
        check_web_url(url, ("http",))
    except ValueError as error:
        raise ValueError(f"the proxy {error}") from None
    return url
