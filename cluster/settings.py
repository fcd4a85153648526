"""Where the services are and how to reach them: one frozen object, read from the environment.

Each setting is looked up in three places, the first that has it wins:

1. the environment variable,
2. ``$M2DAO_HOME/stack.env``, which ``m2dao-cluster up`` writes for the services it started itself,
3. the default.

The table of all settings is in ``docs/reference/settings.md``; a test holds the two together.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from m2dao.errors import ConfigError

STACK_ENV_NAME = "stack.env"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


def _text(name: str, value: str) -> str:
    return value


def _path(name: str, value: str) -> Path:
    return Path(value).expanduser().absolute()


def _url(*schemes: str) -> Callable[[str, str], str]:
    def parse(name: str, value: str) -> str:
        try:
            parts = urlsplit(value)
            usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is no number
            usable = False
        if not usable:
            # The value may hold a password, so it is not repeated.
            raise ConfigError(name, " or ".join(f"{s}://HOST[:PORT]" for s in schemes), "something else")
        return value.rstrip("/")

    return parse


def _ray_address(name: str, value: str) -> str:
    host, _, port = value.rpartition(":")
    if value == "auto" or (host and port.isdigit() and 0 < int(port) < 65536):
        return value
    raise ConfigError(name, "HOST:PORT or auto", repr(value))


def _bucket(name: str, value: str) -> str:
    if not _BUCKET.fullmatch(value):
        raise ConfigError(name, "3 to 63 lower-case letters, digits and hyphens", repr(value))
    return value


def _whole(low: int, high: int) -> Callable[[str, str], int]:
    def parse(name: str, value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise ConfigError(name, f"a whole number from {low} to {high}", repr(value))
        return number

    return parse


def _one_of(*choices: str) -> Callable[[str, str], str]:
    def parse(name: str, value: str) -> str:
        if value not in choices:
            raise ConfigError(name, " or ".join(choices), repr(value))
        return value

    return parse


def _setting(env: str, parse: Callable, default: str | None, help: str, *, secret: bool = False):
    """One row of the table. ``default`` is text, parsed like the environment; None leaves the setting unset."""
    metadata = {"env": env, "parse": parse, "default": default, "help": help, "secret": secret}
    return dataclasses.field(
        default=None if default is None else parse(env, default), metadata=metadata, repr=not secret
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting of the platform. Secrets are left out of ``repr``, so that they cannot reach a log."""

    home: Path = _setting(
        "M2DAO_HOME", _path, ".m2dao", "Folder of the embedded stack: data, logs, credentials, process records."
    )
    redis_url: str | None = _setting(
        "M2DAO_REDIS_URL",
        _url("redis", "rediss"),
        None,
        "State store (Redis or Valkey). Unset: `up` starts an embedded Valkey.",
        secret=True,
    )
    s3_endpoint: str | None = _setting(
        "M2DAO_S3_ENDPOINT",
        _url("http", "https"),
        None,
        "Object store. Unset: `up` starts an embedded SeaweedFS.",
    )
    s3_public_endpoint: str | None = _setting(
        "M2DAO_S3_PUBLIC_ENDPOINT",
        _url("http", "https"),
        None,
        "Address put into presigned URLs, where clients reach the object store by another name than we do.",
    )
    s3_bucket: str = _setting("M2DAO_S3_BUCKET", _bucket, "m2dao", "Bucket that holds everything; made when missing.")
    s3_region: str = _setting("M2DAO_S3_REGION", _text, "us-east-1", "Region that requests are signed for.")
    s3_access_key: str | None = _setting(
        "M2DAO_S3_ACCESS_KEY", _text, None, "Access key of the object store. Embedded: made per home.", secret=True
    )
    s3_secret_key: str | None = _setting(
        "M2DAO_S3_SECRET_KEY", _text, None, "Secret key of the object store. Embedded: made per home.", secret=True
    )
    mlflow_url: str | None = _setting(
        "M2DAO_MLFLOW_URL",
        _url("http", "https"),
        None,
        "Model registry (MLflow server). Unset: `up` starts an embedded one on sqlite.",
        secret=True,
    )
    ray_address: str | None = _setting(
        "M2DAO_RAY_ADDRESS", _ray_address, None, "Head of the Ray cluster, HOST:PORT. Unset: `up` starts a local head."
    )
    ray_dashboard_url: str | None = _setting(
        "M2DAO_RAY_DASHBOARD_URL",
        _url("http", "https"),
        None,
        "Ray dashboard, through which jobs are submitted. Embedded: a port on 127.0.0.1.",
    )
    ray_token_file: Path | None = _setting(
        "M2DAO_RAY_TOKEN_FILE",
        _path,
        None,
        "File that holds the Ray cluster's token. Embedded: made per home. Unset: Ray's own settings decide.",
    )
    ray_num_cpus: int | None = _setting(
        "M2DAO_RAY_NUM_CPUS", _whole(1, 4096), None, "Cores the embedded Ray head offers. Unset: all of them."
    )
    ray_object_store_mb: int = _setting(
        "M2DAO_RAY_OBJECT_STORE_MB", _whole(80, 1_000_000), "256", "Shared memory of the embedded Ray head, in MB."
    )
    api_host: str = _setting(
        "M2DAO_API_HOST",
        _text,
        "127.0.0.1",
        "Address the HTTP API listens on. Put a TLS-terminating proxy in front before opening it to a network.",
    )
    api_port: int = _setting("M2DAO_API_PORT", _whole(1, 65535), "8000", "Port of the HTTP API.")
    key_pepper: str = _setting(
        "M2DAO_KEY_PEPPER",
        _text,
        "",
        "Secret mixed into the stored hashes of API keys; changing it voids all keys. Embedded: made per home.",
        secret=True,
    )
    log_level: str = _setting(
        "M2DAO_LOG_LEVEL",
        _one_of("DEBUG", "INFO", "WARNING", "ERROR"),
        "INFO",
        "Least severe log line that is written.",
    )
    start_timeout_s: int = _setting(
        "M2DAO_START_TIMEOUT_S", _whole(1, 3600), "120", "How long `up` waits for each embedded service, in seconds."
    )

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None, *, use_stack: bool = True) -> Settings:
        """Read all settings; see the module's docstring for the order.

        Args:
            env: the environment; ``os.environ`` when not given.
            use_stack: whether ``stack.env`` counts. ``up`` leaves it out: what an earlier ``up`` wrote must not
                look like a service of the site's own.

        Raises:
            ConfigError: a value is out of its range, or ``stack.env`` cannot be read.
        """
        env = os.environ if env is None else env
        by_name = {f.metadata["env"]: f for f in dataclasses.fields(cls)}
        home_field = by_name["M2DAO_HOME"]
        home = _path("M2DAO_HOME", env.get("M2DAO_HOME") or home_field.metadata["default"])
        stack = read_stack_env(home / STACK_ENV_NAME) if use_stack else {}
        values = {**stack, **{k: v for k, v in env.items() if v}}
        given = {f.name: f.metadata["parse"](name, values[name]) for name, f in by_name.items() if values.get(name)}
        return cls(**{**given, "home": home})

    def require(self, *names: str) -> None:
        """Check that the settings with these attribute names are set.

        Raises:
            ConfigError: naming the first one that is missing and what to do.
        """
        for field in dataclasses.fields(self):
            if field.name in names and getattr(self, field.name) in (None, ""):
                env = field.metadata["env"]
                raise ConfigError(env, "a value", "none", f"start the embedded stack (m2dao-cluster up) or set {env}")

    def to_env(self) -> dict[str, str]:
        """All settings that are set, as environment variables; ``Settings.from_env(s.to_env()) == s``."""
        pairs = ((f.metadata["env"], getattr(self, f.name)) for f in dataclasses.fields(self))
        return {name: str(value) for name, value in pairs if value not in (None, "")}


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
            raise ConfigError(
                f"{path}, line {number}", "M2DAO_NAME=value", "something else", "run m2dao-cluster up anew"
            )
        table[name] = value
    return table
