"""Settings of the API and of the replicas that render."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from cluster.checks.values import is_origins
from cluster.groups.group import Group, number
from m2dao.errors import ConfigError

_MEMORY_OF_A_REPLICA_MB = 1000  # without identities; measured 650, and a render needs some
USUAL_REAL_TIME_FACTOR = 0.5  # of a render: seconds of work for a second of video, until it was measured


class ServeConfig(Group):
    """What the API allows and how it scales."""

    allowed_origins: Annotated[str, AfterValidator(is_origins)] | None = Field(
        default=None,
        description="Origins of web pages that may call the API and fetch results, by comma, such as "
        "`https://app.example.com`; `*` for all. Unset: pages cannot, only servers.",
    )
    max_upload_mb: int = number(64, 1, 4096, "Largest request body of POST /v1/renders, in MB; 413 beyond it.")
    request_rate: float = number(50.0, 0.1, 100_000, "Requests a second that a tenant may make; 429 beyond it.")
    request_burst: float = number(200.0, 20, 1_000_000, "Requests that a tenant may make at once; 429 beyond it.")
    max_uploads: int = number(8, 1, 1000, "Uploads of a tenant at the same time; 429 beyond it.")
    upload_timeout_s: float = number(120.0, 1, 3600, "Longest time of a request body, in seconds; 408 beyond it.")
    upload_min_kb_s: float = number(16.0, 0.1, 100_000, "Slowest request body, in kB a second; 408 below it.")
    upload_disk_mb: int = number(8192, 64, 10_000_000, "Temporary disk of an ingress, in MB; 503 beyond it.")
    max_audio_s: float = number(600.0, 1, 36_000, "Longest speech of one render, in seconds; 422 beyond it.")
    max_image_pixels: int = number(
        16_000_000, 4096, 200_000_000, "Most pixels of an uploaded background image; 422 beyond it."
    )
    decode_timeout_s: float = number(60.0, 1, 3600, "Longest time the decoding of one upload may take, in seconds.")
    decode_memory_mb: int = number(2048, 512, 65_536, "Address space of the subprocess that decodes an upload, in MB.")
    decode_processes: int = number(4, 1, 64, "Uploads an ingress replica decodes at the same time.")
    decode_wait_s: float = number(10.0, 0.1, 600, "Longest wait for a decoder, in seconds; 503 beyond it.")
    sounds_in_redis_mb: int = number(
        128,
        0,
        100_000,
        "Memory of Redis for sounds of open renders, 1 MB each at most; others go to the object store.",
    )
    max_active_renders: int = number(
        16, 1, 100_000, "Renders a tenant may have queued and running together; 429 beyond it."
    )
    max_running_renders: int = number(
        16, 1, 100_000, "Renders of a tenant that run at the same time; the others wait, so that no tenant has all."
    )
    result_url_s: int = number(3600, 60, 604_800, "Life of a presigned result URL, in seconds.")
    lease_s: float = number(
        15.0, 1, 600, "A render whose worker is silent for this long is given to another one, in seconds."
    )
    max_attempts: int = number(3, 1, 100, "Times a render is tried when workers die or services fail.")
    render_concurrency: int = number(
        1, 1, 64, "Renders one replica works on at the same time; on a GPU they share its calls."
    )
    render_threads: int = number(1, 1, 256, "Threads of a replica. More make one render quicker, all no faster.")
    replica_cpus: float | None = number(
        None, 1.0, 256, "Cores reserved for a replica, no fewer than its threads. Unset: one for each thread."
    )
    replica_gpus: float = number(0.0, 0.0, 16, "GPUs (or a part of one) Ray reserves for a renderer replica.")
    replica_memory_mb: int | None = number(
        None,
        100,
        10_000_000,
        "Memory reserved for a renderer replica, in MB. Unset: its memory for identities and 1000 beside.",
    )
    ingress_memory_mb: int = number(
        1000, 100, 1_000_000, "Memory reserved for a replica of the ingress with its decoders, in MB."
    )
    min_replicas: int = number(
        1, 0, 1000, "Renderer replicas that are always kept. With 0 the first render starts one, and waits for it."
    )
    max_replicas: int = number(4, 1, 1000, "Most renderer replicas.")
    ingress_replicas: int = number(1, 1, 100, "Replicas of the HTTP ingress.")
    target_wait_s: float = number(
        20.0, 0.5, 3600, "Replicas are added until the queued work would be done within this time, in seconds."
    )
    upscale_delay_s: float = number(
        1.0, 0, 3600, "How long more replicas must be wanted before they start, in seconds."
    )
    downscale_delay_s: float = number(60.0, 0, 36_000, "How long fewer must be wanted before some stop, in seconds.")
    drain_s: float = number(
        300.0, 1, 36_000, "Time of a stopping replica to finish, in seconds; at least half of the longest speech."
    )
    talker_budget_mb: int = number(2048, 16, 1_000_000, "Memory for identities in one replica, in MB.")
    disk_budget_mb: int = number(10_240, 16, 10_000_000, "Disk for downloaded identities on one node, in MB.")

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
        """Memory that a renderer replica reserves: of its identities and its own, or what the site says."""
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
