"""Checks of the values of settings."""

from __future__ import annotations

import re
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr
from pydantic_core import PydanticCustomError

_Text = TypeVar("_Text", str, SecretStr)


def is_url(*schemes: str) -> AfterValidator:
    """The check of a URL; its error does not repeat the value, which may hold a password."""

    def check(value: _Text) -> _Text:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        try:
            parts = urlsplit(text)
            usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is no number
            usable = False
        if not usable:
            raise PydanticCustomError("url", " or ".join(f"{scheme}://HOST[:PORT]" for scheme in schemes))
        return type(value)(text.rstrip("/"))

    return AfterValidator(check)


def is_bucket(value: str) -> str:
    """The check of a bucket's name."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", value):
        raise ValueError("3 to 63 lower-case letters, digits and hyphens")
    return value


def is_origins(value: str) -> str:
    """The check of origins by comma."""
    origins = [part.strip().rstrip("/") for part in value.split(",") if part.strip()]
    if not all(part == "*" or re.fullmatch(r"https?://[A-Za-z0-9.\[\]:_-]+", part) for part in origins):
        raise ValueError("https://HOST[:PORT], several by comma, or *")
    return ",".join(origins)


def is_ray_address(value: str) -> str:
    """The check of the address of a Ray head."""
    host, _, port = value.rpartition(":")
    if value == "auto" or (host and port.isdigit() and 0 < int(port) < 65536):
        return value
    raise ValueError("HOST:PORT or auto")
