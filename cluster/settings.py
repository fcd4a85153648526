"""Every setting of the platform: one frozen object in groups, read from the environment.

``M2DAO_S3_BUCKET`` is ``settings.s3.bucket``. Each setting is looked up in three places, the first that has it wins:

1. the environment variable,
2. ``$M2DAO_HOME/stack.env``, which ``m2dao-cluster up`` writes for the services it started itself,
3. the default.

A misspelt ``M2DAO_`` name is refused. Secrets are of the type ``SecretStr``, so that they cannot reach a log.
The table of all settings is in ``docs/reference/settings.md``, made from this module.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from cluster.checks.values import is_bucket, is_ray_address, is_url
from cluster.environment import PREFIX, STACK_ENV_NAME, env_name, pick_settings, read_stack_env
from cluster.faults import Backoff
from cluster.groups.fits import FitSettings
from cluster.groups.group import MB as MB
from cluster.groups.group import Group, number
from cluster.groups.recordings import RecordingSettings
from cluster.groups.rollouts import RolloutSettings
from cluster.groups.serving import USUAL_REAL_TIME_FACTOR as USUAL_REAL_TIME_FACTOR
from cluster.groups.serving import ServeConfig as ServeConfig
from cluster.groups.webhooks import WebhookSettings
from m2dao.errors import ConfigError
from m2dao.secrets import hide


def _path(value: Path) -> Path:
    return value.expanduser().absolute()


_HttpUrl = Annotated[str, is_url("http", "https")]
_AbsolutePath = Annotated[Path, AfterValidator(_path)]


class RedisSettings(Group):
    """The state store."""

    url: Annotated[SecretStr, is_url("redis", "rediss")] | None = Field(
        default=None, description="State store (Redis or Valkey). Unset: `up` starts an embedded Valkey."
    )


class S3Settings(Group):
    """The object store."""

    endpoint: _HttpUrl | None = Field(
        default=None, description="Object store. Unset: `up` starts an embedded SeaweedFS."
    )
    public_endpoint: _HttpUrl | None = Field(
        default=None,
        description="Address put into presigned URLs, where clients reach the object store by another name than we do.",
    )
    bucket: Annotated[str, AfterValidator(is_bucket)] = Field(
        default="m2dao", description="Bucket that holds everything; made when missing."
    )
    region: str = Field(default="us-east-1", description="Region that requests are signed for.")
    access_key: SecretStr | None = Field(
        default=None,
        description="Access key of the object store. Embedded: made per home. Unset: the chain of boto3 decides "
        "(AWS_ variables, profiles, roles of a pod or a machine).",
    )
    secret_key: SecretStr | None = Field(
        default=None, description="Secret key of the object store, which goes with the access key."
    )
    session_token: SecretStr | None = Field(
        default=None, description="Session token, where the keys are temporary ones. Links live no longer than they do."
    )


class MlflowSettings(Group):
    """The model registry."""

    url: Annotated[SecretStr, is_url("http", "https")] | None = Field(
        default=None, description="Model registry (MLflow server). Unset: `up` starts an embedded one on sqlite."
    )


class RaySettings(Group):
    """The compute cluster."""

    address: Annotated[str, AfterValidator(is_ray_address)] | None = Field(
        default=None, description="Head of the Ray cluster, HOST:PORT. Unset: `up` starts a local head."
    )
    dashboard_url: _HttpUrl | None = Field(
        default=None, description="Ray dashboard, through which jobs are submitted. Embedded: a port on 127.0.0.1."
    )
    token_file: _AbsolutePath | None = Field(
        default=None,
        description="File that holds the Ray cluster's token. Embedded: made per home. "
        "Unset: Ray's own settings decide.",
    )
    pass_settings: bool = Field(
        default=False,
        description="Send settings that are not secret with the jobs for a cluster of your own. "
        "Otherwise those of its machines count: an address here may lead nowhere there.",
    )
    num_cpus: int | None = number(None, 1, 4096, "Cores the embedded Ray head offers. Unset: all of them.")
    memory_mb: int | None = number(
        None, 1000, 100_000_000, "Memory the embedded Ray head offers, in MB. Unset: all of the machine's."
    )
    object_store_mb: int = number(256, 80, 1_000_000, "Shared memory of the embedded Ray head, in MB.")


class ApiSettings(Group):
    """Where the HTTP API listens."""

    host: str = Field(
        default="127.0.0.1",
        description="Address the HTTP API listens on. "
        "Put a TLS-terminating proxy in front before opening it to a network.",
    )
    port: int = number(8000, 1, 65535, "Port of the HTTP API.")


class MetricsSettings(Group):
    """Where the keeper shows the platform's figures."""

    host: str = Field(default="127.0.0.1", description="Address the keeper shows metrics on. They name no tenant.")
    port: int = number(0, 0, 65535, "Port the keeper shows metrics on. 0: none. Embedded: a free port.")


class TraceSettings(Group):
    """Where spans of traces go; nowhere by default."""

    endpoint: _HttpUrl | None = Field(
        default=None,
        description="Collector of traces (OTLP over HTTP), such as http://collector:4318. Unset: "
        "OTEL_EXPORTER_OTLP_ENDPOINT counts, and without that none are sent.",
    )
    files: bool = Field(
        default=False,
        description="Write spans to files in `$M2DAO_HOME/traces` too, for `m2dao-cluster trace`. Kept for a week.",
    )


class AuditSettings(Group):
    """How much is kept of who has done what."""

    entries: int = number(100_000, 100, 10_000_000, "Entries of a tenant's audit trail, and as many on client tokens.")


class UsageSettings(Group):
    """How long it is known what tenants used."""

    keep_days: int = number(400, 1, 36_500, "Days for which `/v1/usage` tells what a tenant used.")


class JobSettings(Group):
    """How jobs wait for what is ours to mend."""

    retry_base_s: float = number(1.0, 0.001, 3600, "First wait after an outage, in seconds; it doubles each time.")
    retry_max_s: float = number(30.0, 0.001, 3600, "Longest wait of a job that met an outage, in seconds.")

    @property
    def backoff(self) -> Backoff:
        """The waits as an object."""
        return Backoff(base_s=self.retry_base_s, max_s=self.retry_max_s)


class Settings(BaseSettings):
    """Every setting of the platform. Made by ``from_env``; the constructor reads no environment."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,  # M2DAO_S3_SECRET_KEY is s3.secret_key
        frozen=True,
        validate_default=True,
        hide_input_in_errors=True,
    )

    home: _AbsolutePath = Field(
        default=Path(".m2dao"), description="Folder of the embedded stack: data, logs, credentials, process records."
    )
    redis: RedisSettings = RedisSettings()
    s3: S3Settings = S3Settings()
    mlflow: MlflowSettings = MlflowSettings()
    ray: RaySettings = RaySettings()
    api: ApiSettings = ApiSettings()
    metrics: MetricsSettings = MetricsSettings()
    traces: TraceSettings = TraceSettings()
    jobs: JobSettings = JobSettings()
    audit: AuditSettings = AuditSettings()
    usage: UsageSettings = UsageSettings()
    webhooks: WebhookSettings = WebhookSettings()
    fit: FitSettings = FitSettings()
    recordings: RecordingSettings = RecordingSettings()
    rollout: RolloutSettings = RolloutSettings()
    serve: ServeConfig = ServeConfig()
    key_pepper: SecretStr = Field(
        default=SecretStr(""),
        description="Secret mixed into the stored hashes of API keys; changing it voids all keys. "
        "Embedded: made per home. Needed with a Redis of your own, by every process that uses it.",
    )
    key_pepper_other: SecretStr = Field(
        default=SecretStr(""),
        description="Another pepper under which keys are looked for too, while it is being changed: the next one at "
        "first, then the one before.",
    )
    allow_uncontained_decoders: bool = Field(
        default=False,
        description="Decode uploads and recordings even where this site cannot contain the process: without Linux "
        "namespaces, Landlock or seccomp.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least severe log line that is written."
    )
    start_timeout_s: int = number(120, 1, 3600, "How long `up` waits for each embedded service, in seconds.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed counts: ``from_env`` alone reads the environment."""
        return (init_settings,)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None, *, use_stack: bool = True) -> Settings:
        """Read all settings; see the module's docstring for the order. An empty variable counts as unset.

        From then on their secrets are taken out of every error and log line of this process.

        Args:
            env: the environment; ``os.environ`` when not given.
            use_stack: whether ``stack.env`` counts. ``up`` leaves it out: what an earlier ``up`` wrote must not
                look like a service of the site's own.

        Raises:
            ConfigError: a name is misspelt, a value is out of its range, or ``stack.env`` cannot be read.
        """
        given = pick_settings(os.environ if env is None else env, all_settings())
        home = _path(Path(given.get("M2DAO_HOME", cls.model_fields["home"].default)))
        stack = read_stack_env(home / STACK_ENV_NAME) if use_stack else {}
        values = {**stack, **given, "M2DAO_HOME": str(home)}
        source = EnvSettingsSource(cls)
        source.env_vars = {name.lower(): values[name] for name in all_settings() if values.get(name)}
        try:
            settings = cls(**source())
        except ValidationError as error:
            raise _refusal(error) from None  # the cause would hold the value
        names = [row.name for row in all_settings().values() if row.secret]
        hide(secret for name in names for secret in _secrets_of(settings.plain(name)))
        return settings

    def with_env(self, changes: Mapping[str, str]) -> Settings:
        """The same settings but for these variables."""
        return Settings.from_env({**self.to_env(), **changes}, use_stack=False)

    def plain(self, name: str) -> str | None:
        """The setting ``name``, such as ``"redis.url"``, as text with its secrets; None when unset."""
        value = functools.reduce(getattr, name.split("."), self)
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        return None if text is None or text == "" else str(text)

    def require(self, name: str) -> str:
        """The setting ``name``, which must be set, as text and with its secrets.

        Raises:
            ConfigError: it is not set; says what to do.
        """
        value = self.plain(name)
        if value is None:
            env = env_name(name)
            raise ConfigError(env, "a value", "none", f"start the embedded stack (m2dao-cluster up) or set {env}")
        return value

    def to_env(self, *, secrets: bool = True, serve: bool = True) -> dict[str, str]:
        """All settings that are set, as environment variables; ``Settings.from_env(s.to_env()) == s``.

        Args:
            secrets: whether passwords and keys are among them.
            serve: whether the group ``serve`` is.
        """
        rows = {env: row for env, row in all_settings().items() if (secrets or not row.secret)}
        names = {env: row.name for env, row in rows.items() if serve or not row.name.startswith("serve.")}
        return {env: value for env, name in names.items() if (value := self.plain(name)) is not None}


class Setting(NamedTuple):
    """One row of the table of settings."""

    name: str  # "s3.bucket"
    default: str  # as text; empty where there is none, and 600 for 600.0
    help: str
    secret: bool


@functools.cache
def all_settings() -> dict[str, Setting]:
    """The table of all settings, by their environment variables."""
    rows: dict[str, FieldInfo] = {}
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, Group):
            rows |= {f"{name}.{part}": inner for part, inner in type(field.default).model_fields.items()}
        else:
            rows[name] = field
    defaults = Settings.model_construct()
    return {
        env_name(name): Setting(
            name=name,
            default=re.sub(r"\.0$", "", defaults.plain(name) or ""),
            help=field.description or "",
            secret="SecretStr" in str(field.annotation),
        )
        for name, field in rows.items()
    }


def _secrets_of(value: str | None) -> tuple[str, ...]:
    """What nobody may read of a secret setting: of a URL its password, as it is written and as it is sent."""
    if value is None:
        return ()
    if "://" not in value:
        return (value,)
    password = urlsplit(value).password or ""
    return (password, unquote(password))


def _refusal(error: ValidationError) -> ConfigError:
    """The first of pydantic's complaints as our error."""
    first = error.errors()[0]
    expected = re.sub(r"^(Value error, |Input should (be )?)|, unable to .*", "", first["msg"])
    got = "something else" if first["type"] == "url" else repr(first["input"])
    return ConfigError(env_name(".".join(map(str, first["loc"]))), expected, got)
