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
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from cluster.checks.values import is_bucket, is_origins, is_ray_address, is_url
from cluster.environment import PREFIX, STACK_ENV_NAME, env_name, pick_settings, read_stack_env
from cluster.faults import Backoff
from m2dao.errors import ConfigError
from m2dao.secrets import hide

MB = 1_000_000
_MEMORY_OF_A_REPLICA_MB = 1000  # without identities; measured 650, and a render needs some
USUAL_REAL_TIME_FACTOR = 0.5  # of a render: seconds of work for a second of video, until it was measured


def _number(default: float | None, low: float, high: float, help: str) -> Any:
    """A number from ``low`` to ``high``."""
    return Field(default, ge=low, le=high, description=help)


def _path(value: Path) -> Path:
    return value.expanduser().absolute()


_HttpUrl = Annotated[str, is_url("http", "https")]
_AbsolutePath = Annotated[Path, AfterValidator(_path)]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class RedisSettings(_Group):
    """The state store."""

    url: Annotated[SecretStr, is_url("redis", "rediss")] | None = Field(
        default=None, description="State store (Redis or Valkey). Unset: `up` starts an embedded Valkey."
    )


class S3Settings(_Group):
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


class MlflowSettings(_Group):
    """The model registry."""

    url: Annotated[SecretStr, is_url("http", "https")] | None = Field(
        default=None, description="Model registry (MLflow server). Unset: `up` starts an embedded one on sqlite."
    )


class RaySettings(_Group):
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
    num_cpus: int | None = _number(None, 1, 4096, "Cores the embedded Ray head offers. Unset: all of them.")
    memory_mb: int | None = _number(
        None, 1000, 100_000_000, "Memory the embedded Ray head offers, in MB. Unset: all of the machine's."
    )
    object_store_mb: int = _number(256, 80, 1_000_000, "Shared memory of the embedded Ray head, in MB.")


class ApiSettings(_Group):
    """Where the HTTP API listens."""

    host: str = Field(
        default="127.0.0.1",
        description="Address the HTTP API listens on. "
        "Put a TLS-terminating proxy in front before opening it to a network.",
    )
    port: int = _number(8000, 1, 65535, "Port of the HTTP API.")


class MetricsSettings(_Group):
    """Where the keeper shows the platform's figures."""

    host: str = Field(default="127.0.0.1", description="Address the keeper shows metrics on. They name no tenant.")
    port: int = _number(0, 0, 65535, "Port the keeper shows metrics on. 0: none. Embedded: a free port.")


class JobSettings(_Group):
    """How jobs wait for what is ours to mend."""

    retry_base_s: float = _number(1.0, 0.001, 3600, "First wait after an outage, in seconds; it doubles each time.")
    retry_max_s: float = _number(30.0, 0.001, 3600, "Longest wait of a job that met an outage, in seconds.")

    @property
    def backoff(self) -> Backoff:
        """The waits as an object."""
        return Backoff(base_s=self.retry_base_s, max_s=self.retry_max_s)


class ServeConfig(_Group):
    """What the API allows and how it scales."""

    allowed_origins: Annotated[str, AfterValidator(is_origins)] | None = Field(
        default=None,
        description="Origins of web pages that may call the API and fetch results, by comma, such as "
        "`https://app.example.com`; `*` for all. Unset: pages cannot, only servers.",
    )
    max_upload_mb: int = _number(64, 1, 4096, "Largest request body of POST /v1/renders, in MB; 413 beyond it.")
    request_rate: float = _number(50.0, 0.1, 100_000, "Requests a second that a tenant may make; 429 beyond it.")
    request_burst: float = _number(200.0, 20, 1_000_000, "Requests that a tenant may make at once; 429 beyond it.")
    max_uploads: int = _number(8, 1, 1000, "Uploads of a tenant at the same time; 429 beyond it.")
    upload_timeout_s: float = _number(120.0, 1, 3600, "Longest time of a request body, in seconds; 408 beyond it.")
    upload_min_kb_s: float = _number(16.0, 0.1, 100_000, "Slowest request body, in kB a second; 408 below it.")
    upload_disk_mb: int = _number(8192, 64, 10_000_000, "Temporary disk of an ingress, in MB; 503 beyond it.")
    max_audio_s: float = _number(600.0, 1, 36_000, "Longest speech of one render, in seconds; 422 beyond it.")
    max_image_pixels: int = _number(
        16_000_000, 4096, 200_000_000, "Most pixels of an uploaded background image; 422 beyond it."
    )
    decode_timeout_s: float = _number(60.0, 1, 3600, "Longest time the decoding of one upload may take, in seconds.")
    decode_memory_mb: int = _number(2048, 512, 65_536, "Address space of the subprocess that decodes an upload, in MB.")
    decode_processes: int = _number(4, 1, 64, "Uploads an ingress replica decodes at the same time.")
    decode_wait_s: float = _number(10.0, 0.1, 600, "Longest wait for a decoder, in seconds; 503 beyond it.")
    sounds_in_redis_mb: int = _number(
        128,
        0,
        100_000,
        "Memory of Redis for sounds of open renders, 1 MB each at most; others go to the object store.",
    )
    max_active_renders: int = _number(
        16, 1, 100_000, "Renders a tenant may have queued and running together; 429 beyond it."
    )
    max_running_renders: int = _number(
        16, 1, 100_000, "Renders of a tenant that run at the same time; the others wait, so that no tenant has all."
    )
    result_url_s: int = _number(3600, 60, 604_800, "Life of a presigned result URL, in seconds.")
    lease_s: float = _number(
        15.0, 1, 600, "A render whose worker is silent for this long is given to another one, in seconds."
    )
    max_attempts: int = _number(3, 1, 100, "Times a render is tried when workers die or services fail.")
    render_concurrency: int = _number(
        1, 1, 64, "Renders one replica works on at the same time; on a GPU they share its calls."
    )
    render_threads: int = _number(1, 1, 256, "Threads of a replica. More make one render quicker, all no faster.")
    replica_cpus: float | None = _number(
        None, 1.0, 256, "Cores reserved for a replica, no fewer than its threads. Unset: one for each thread."
    )
    replica_gpus: float = _number(0.0, 0.0, 16, "GPUs (or a part of one) Ray reserves for a renderer replica.")
    replica_memory_mb: int | None = _number(
        None,
        100,
        10_000_000,
        "Memory reserved for a renderer replica, in MB. Unset: its memory for identities and 1000 beside.",
    )
    ingress_memory_mb: int = _number(
        1000, 100, 1_000_000, "Memory reserved for a replica of the ingress with its decoders, in MB."
    )
    min_replicas: int = _number(1, 1, 1000, "Renderer replicas that are always kept.")
    max_replicas: int = _number(4, 1, 1000, "Most renderer replicas.")
    ingress_replicas: int = _number(1, 1, 100, "Replicas of the HTTP ingress.")
    target_wait_s: float = _number(
        20.0, 0.5, 3600, "Replicas are added until the queued work would be done within this time, in seconds."
    )
    upscale_delay_s: float = _number(
        1.0, 0, 3600, "How long more replicas must be wanted before they start, in seconds."
    )
    downscale_delay_s: float = _number(60.0, 0, 36_000, "How long fewer must be wanted before some stop, in seconds.")
    drain_s: float = _number(
        300.0, 1, 36_000, "Time of a stopping replica to finish, in seconds; at least half of the longest speech."
    )
    talker_budget_mb: int = _number(2048, 16, 1_000_000, "Memory for identities in one replica, in MB.")
    disk_budget_mb: int = _number(10_240, 16, 10_000_000, "Disk for downloaded identities on one node, in MB.")

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins of pages that may call the API."""
        return tuple(filter(None, (self.allowed_origins or "").split(",")))

    @model_validator(mode="after")
    def _replica_bounds_agree(self) -> ServeConfig:
        if self.max_replicas < self.min_replicas:
            raise ConfigError("M2DAO_SERVE_MAX_REPLICAS", f"at least {self.min_replicas}", str(self.max_replicas))
        return self

    @model_validator(mode="after")
    def _a_drain_lasts_as_long_as_the_longest_render(self) -> ServeConfig:
        longest_s = self.max_audio_s * USUAL_REAL_TIME_FACTOR
        if self.drain_s < longest_s:
            expected = f"at least {longest_s:g} s, which a render of {self.max_audio_s:g} s of speech takes"
            remedy = "raise it, or lower M2DAO_SERVE_MAX_AUDIO_S"
            raise ConfigError("M2DAO_SERVE_DRAIN_S", expected, f"{self.drain_s:g}", remedy)
        return self

    @model_validator(mode="after")
    def _a_replica_reserves_the_cores_of_its_threads(self) -> ServeConfig:
        if self.reserved_cpus < self.render_threads:
            expected = f"at least {self.render_threads}, the threads of a replica"
            remedy = "unset it, or lower M2DAO_SERVE_RENDER_THREADS"
            raise ConfigError("M2DAO_SERVE_REPLICA_CPUS", expected, f"{self.reserved_cpus:g}", remedy)
        return self

    @model_validator(mode="after")
    def _a_replica_reserves_the_memory_of_its_identities(self) -> ServeConfig:
        if self.reserved_memory_mb < self.talker_budget_mb:
            expected = f"at least {self.talker_budget_mb}, the memory of its identities"
            remedy = "unset it, or lower M2DAO_SERVE_TALKER_BUDGET_MB"
            raise ConfigError("M2DAO_SERVE_REPLICA_MEMORY_MB", expected, str(self.replica_memory_mb), remedy)
        return self

    @property
    def reserved_memory_mb(self) -> int:
        """Memory that a renderer replica reserves: of its identities and of its own, unless the site says otherwise."""
        if self.replica_memory_mb is None:
            return self.talker_budget_mb + _MEMORY_OF_A_REPLICA_MB
        return self.replica_memory_mb

    @property
    def backend(self) -> str:
        """By what replicas render. The settings say so, never what a machine happens to have."""
        return "gsplat" if self.replica_gpus else "cpu"

    @property
    def reserved_cpus(self) -> float:
        """Cores that a renderer replica reserves: those that its threads use, unless the site says otherwise."""
        return float(self.render_threads) if self.replica_cpus is None else self.replica_cpus


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
    jobs: JobSettings = JobSettings()
    serve: ServeConfig = ServeConfig()
    key_pepper: SecretStr = Field(
        default=SecretStr(""),
        description="Secret mixed into the stored hashes of API keys; changing it voids all keys. "
        "Embedded: made per home. Needed with a Redis of your own, by every process that uses it.",
    )
    allow_uncontained_decoders: bool = Field(
        default=False,
        description="Decode uploads and recordings even where this site cannot contain the process: without Linux "
        "namespaces, Landlock or seccomp.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least severe log line that is written."
    )
    start_timeout_s: int = _number(120, 1, 3600, "How long `up` waits for each embedded service, in seconds.")

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
        if isinstance(field.default, _Group):
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
