"""What the API allows and how it scales: one frozen object, read from ``M2DAO_SERVE_*`` in the environment.

Where the services are is in ``cluster/settings.py``. The table of all settings here is in ``docs/reference/settings.md``; a test
holds the two together.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

from m2dao.errors import ConfigError

_PREFIX = "M2DAO_SERVE_"
MB = 1_000_000


def _setting(default: int | float, low: float, high: float, help: str):
    """One row of the table; the default's type is the setting's type, ``low`` and ``high`` belong to the range."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "help": help})


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Limits and sizes of the serving side. Every value is checked when the object is made."""

    max_upload_mb: int = _setting(64, 1, 4096, "Largest request body of POST /v1/renders, in MB; 413 beyond it.")
    max_audio_s: float = _setting(600.0, 1, 36_000, "Longest speech of one render, in seconds; 422 beyond it.")
    max_image_pixels: int = _setting(
        16_000_000, 4096, 200_000_000, "Most pixels of an uploaded background image; 422 beyond it."
    )
    decode_timeout_s: float = _setting(60.0, 1, 3600, "Longest time the decoding of one upload may take, in seconds.")
    decode_memory_mb: int = _setting(
        2048, 512, 65_536, "Address space of the subprocess that decodes an upload, in MB."
    )
    decode_processes: int = _setting(2, 1, 64, "Uploads an ingress replica decodes at the same time.")
    max_active_renders: int = _setting(
        16, 1, 100_000, "Renders a tenant may have queued and running together; 429 beyond it."
    )
    result_url_s: int = _setting(3600, 60, 604_800, "Life of a presigned result URL, in seconds.")
    lease_s: float = _setting(
        15.0, 1, 600, "A render whose worker is silent for this long is given to another one, in seconds."
    )
    max_attempts: int = _setting(3, 1, 100, "Times a render is tried when workers die or services fail.")
    render_concurrency: int = _setting(
        1, 1, 64, "Renders one replica works on at the same time; on a GPU they share its calls."
    )
    render_threads: int = _setting(2, 1, 256, "Threads of the CPU renderer in one replica.")
    replica_cpus: float = _setting(0.5, 0.0, 256, "Cores Ray reserves for a renderer replica.")
    replica_gpus: float = _setting(0.0, 0.0, 16, "GPUs (or a part of one) Ray reserves for a renderer replica.")
    min_replicas: int = _setting(1, 1, 1000, "Renderer replicas that are always kept.")
    max_replicas: int = _setting(4, 1, 1000, "Most renderer replicas.")
    ingress_replicas: int = _setting(1, 1, 100, "Replicas of the HTTP ingress.")
    target_wait_s: float = _setting(
        20.0, 0.5, 3600, "Replicas are added until the queued work would be done within this time, in seconds."
    )
    upscale_delay_s: float = _setting(
        1.0, 0, 3600, "How long more replicas must be wanted before they start, in seconds."
    )
    downscale_delay_s: float = _setting(60.0, 0, 36_000, "How long fewer must be wanted before some stop, in seconds.")
    drain_s: float = _setting(60.0, 1, 36_000, "How long a replica that stops may finish its renders, in seconds.")
    talker_budget_mb: int = _setting(2048, 16, 1_000_000, "Memory for identities in one replica, in MB.")
    disk_budget_mb: int = _setting(10_240, 16, 10_000_000, "Disk for downloaded identities on one node, in MB.")
    alias_ttl_s: float = _setting(
        10.0, 0.1, 600, "Longest time an alias is used without asking the registry again, in seconds."
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, low, high = getattr(self, field.name), field.metadata["low"], field.metadata["high"]
            if not low <= value <= high:
                raise ConfigError(env_name(field), f"a number from {low} to {high}", str(value))
        if self.max_replicas < self.min_replicas:
            raise ConfigError("M2DAO_SERVE_MAX_REPLICAS", f"at least {self.min_replicas}", str(self.max_replicas))

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> ServeConfig:
        """Read all settings; those that are not set keep their defaults.

        Raises:
            ConfigError: a value is not a number, is out of its range, or a name is not one of ours.
        """
        env = os.environ if env is None else env
        by_name = {env_name(field): field for field in dataclasses.fields(cls)}
        values = {}
        for name, text in env.items():
            if not name.startswith(_PREFIX) or not text:
                continue
            field = by_name.get(name)
            if field is None:
                raise ConfigError(name, f"one of {', '.join(sorted(by_name))}", "an unknown setting")
            number = type(field.default)
            try:
                values[field.name] = number(text)
            except ValueError:
                raise ConfigError(name, "a whole number" if number is int else "a number", repr(text)) from None
        return cls(**values)

    def to_env(self) -> dict[str, str]:
        """All settings as environment variables; ``ServeConfig.from_env(c.to_env()) == c``."""
        return {env_name(field): str(getattr(self, field.name)) for field in dataclasses.fields(self)}


def env_name(field: dataclasses.Field) -> str:
    """The environment variable of a setting."""
    return _PREFIX + field.name.upper()
