"""Tells which variables of an environment are settings, and reads ``stack.env``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from m2dao.errors import ConfigError

PREFIX = "M2DAO_"
STACK_ENV_NAME = "stack.env"
COMMIT_VARIABLE = "M2DAO_COMMIT"  # set where an image is built, which has no repository
# The engine's own (m2dao/assets.py), the mark of the stack's processes, and the key in the examples of the docs.
_NOT_SETTINGS = {"M2DAO_ASSETS_DIR", "M2DAO_CACHE", "M2DAO_STACK_PROCESS", "M2DAO_KEY", COMMIT_VARIABLE}
# Kubernetes puts the address of every Service into every pod: a Service m2dao-serve-svc makes M2DAO_SERVE_SVC_PORT.
_INJECTED_NAME = re.compile(r"M2DAO_\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")
_INJECTED_VALUE = re.compile(r"(tcp|udp|sctp)://")


def env_name(name: str) -> str:
    """The environment variable of a setting: ``M2DAO_S3_BUCKET`` for ``"s3.bucket"``."""
    return PREFIX + name.replace(".", "_").upper()


def pick_settings(env: Mapping[str, str], known: Collection[str]) -> dict[str, str]:
    """The settings among the variables of an environment, without empty ones.

    Raises:
        ConfigError: a name looks like a setting and is none.
    """
    ours = {}
    for name, value in env.items():
        if not name.startswith(PREFIX) or not value or name in _NOT_SETTINGS:
            continue
        if _INJECTED_NAME.fullmatch(name) and (name not in known or _INJECTED_VALUE.match(value)):
            continue
        if name not in known:
            close = _close_to(name, known)
            remedy = f"is it {' or '.join(close)}?" if close else "correct the name or unset it"
            raise ConfigError(name, "the name of a setting", "an unknown name", remedy)
        ours[name] = value
    return ours


def _close_to(name: str, known: Collection[str]) -> list[str]:
    ends = difflib.get_close_matches(name.removeprefix(PREFIX), [entry.removeprefix(PREFIX) for entry in known], n=3)
    return [PREFIX + end for end in ends]


def read_stack_env(path: Path) -> dict[str, str]:
    """The ``NAME=value`` lines of ``stack.env``; an empty table when there is no such file.

    Raises:
        ConfigError: the file cannot be read or a line is not ``M2DAO_NAME=value``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), "a readable text file", str(error)) from error
    table = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not re.fullmatch(r"M2DAO_[A-Z0-9_]+", name):
            remedy = "run m2dao-cluster up anew"
            raise ConfigError(f"{path}, line {number}", "M2DAO_NAME=value", "something else", remedy)
        table[name] = value
    return table
