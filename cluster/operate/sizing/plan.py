"""Turns identities, streams and fits a day into machines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from cluster.operate.sizing.figures import Figure
from cluster.settings import MB, ServeConfig
from m2dao.errors import ConfigError

_DAY_S = 24 * 3600
_WEEK_DAYS = 7
_VIDEO_DAYS = 8  # renders are swept by the janitor when they are older


def _assumed(default: float, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What nobody has measured, and every site has its own number of."""

    headroom: float = _assumed(0.3, "part of each machine that is left free, for peaks and lost machines")
    mean_load: float = _assumed(0.3, "mean over the day of the streams, as a part of the most")
    render_s: float = _assumed(10.0, "seconds of speech of a render")
    video_kb_s: float = _assumed(60.0, "kB of a second of video")
    sound_kb_s: float = _assumed(32.0, "kB of a second of uploaded sound (plain speech of 16 kHz)")
    versions: float = _assumed(3.0, "versions that are kept of an identity")
    recording_s: float = _assumed(60.0, "seconds of a recording")
    recording_mb: float = _assumed(60.0, "MB of a recording")
    capture_mb: float = _assumed(60.0, "MB of a prepared recording")
    fit_minutes: float = _assumed(10.0, "minutes of a fit (--minutes of m2dao-train fit)")
    fit_cores: float = _assumed(1.0, "cores of a fit (M2DAO_FIT_CPUS)")
    fit_gb: float = _assumed(2.0, "GB of memory of a fit (M2DAO_FIT_MEMORY_MB)")
    fit_hours: float = _assumed(24.0, "hours of the day in which fits are made")
    node_cores: float = _assumed(16.0, "cores of a CPU machine (m7i.4xlarge in ray_cluster.yaml)")
    node_gb: float = _assumed(64.0, "GB of memory of a CPU machine")
    gpu_streams: float = _assumed(0.0, "streams that one GPU machine carries; 0: not measured, none are planned")
    gpu_share: float = _assumed(0.0, "part of the streams that GPU machines carry")

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            least = 0.0 if each.name.startswith("gpu_") else 1e-9
            if not (math.isfinite(value) and value >= least):
                raise ConfigError(f"--{each.name.replace('_', '-')}", "a number above 0", f"{value:g}")
        for name in ("headroom", "mean_load", "gpu_share"):
            if getattr(self, name) > (0.9 if name == "headroom" else 1.0):
                raise ConfigError(f"--{name.replace('_', '-')}", "a part, such as 0.3", f"{getattr(self, name):g}")
        if self.gpu_share and not self.gpu_streams:
            remedy = "measure it: m2dao bench render --backend gsplat --streams N"
            raise ConfigError("--gpu-share", "--gpu-streams beside it", "none", remedy)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a platform is to carry.

    Args:
        identities: people that are fitted.
        streams: renders at the same time at the most, each as fast as it is spoken.
        fits_per_day: new versions a day.
        size: side of the pictures in pixels.
    """

    identities: int
    streams: int
    fits_per_day: int
    size: int = 256


@dataclass(frozen=True)
class Line:
    """One result of a plan: what is needed, and how that follows."""

    name: str
    value: float
    unit: str
    because: str


def make_plan(wish: Wish, figures: Mapping[str, Figure], assumed: Assumptions) -> list[Line]:
    """What the wish needs, line by line."""
    return [*_renderers(wish, figures, assumed), *_fits(wish, figures, assumed), *_stores(wish, figures, assumed)]


def _renderers(wish: Wish, figures: Mapping[str, Figure], assumed: Assumptions) -> list[Line]:
    config, usable = ServeConfig(), 1 - assumed.headroom
    cores = figures[f"stream_cores_{wish.size}"].value / figures["saturation"].value
    on_gpus = wish.streams * assumed.gpu_share
    on_cpus = wish.streams - on_gpus
    uploads_s = wish.streams / assumed.render_s
    ingress = uploads_s * figures["upload_core_s"].value
    replica_gb = max(config.reserved_memory_mb, figures["resident_mb"].value) / 1000
    replicas = math.ceil(on_cpus * cores)
    by_cores = (replicas + ingress) / (assumed.node_cores * usable)
    by_memory = replicas * replica_gb / (assumed.node_gb * usable)
    nodes = math.ceil(max(by_cores, by_memory))
    gpus = math.ceil(on_gpus / (assumed.gpu_streams * usable)) if on_gpus else 0
    return [
        Line("renderer replicas", replicas, "", f"{on_cpus:g} streams x {cores:.2f} cores, a core for each replica"),
        Line("ingress", round(ingress, 1), "cores", f"{uploads_s:g} uploads a second"),
        Line(
            "CPU machines for renders",
            nodes,
            "",
            f"by cores {by_cores:.1f}, by memory {by_memory:.1f} ({replica_gb:.2f} GB each)",
        ),
        Line("GPU machines for renders", gpus, "", f"{on_gpus:g} streams" if on_gpus else "none asked for"),
    ]


def _fits(wish: Wish, figures: Mapping[str, Figure], assumed: Assumptions) -> list[Line]:
    usable = 1 - assumed.headroom
    fit_s = assumed.fit_minutes * 60 * figures["fit_overhead"].value
    core_s = fit_s * assumed.fit_cores + assumed.recording_s * figures["prepare_core_s"].value
    at_once = wish.fits_per_day * core_s / assumed.fit_cores / (assumed.fit_hours * 3600)
    by_cores = at_once * assumed.fit_cores / (assumed.node_cores * usable)
    by_memory = at_once * assumed.fit_gb / (assumed.node_gb * usable)
    nodes = math.ceil(max(by_cores, by_memory)) if wish.fits_per_day else 0
    first = wish.identities * core_s / (max(nodes, 1) * assumed.node_cores * usable) / _DAY_S
    return [
        Line("core hours of a fit", round(core_s / 3600, 2), "h", "preparation, steps and evaluation"),
        Line("fits at once", round(at_once, 1), "", f"{wish.fits_per_day} fits in {assumed.fit_hours:g} hours"),
        Line("CPU machines for fits", nodes, "", f"by cores {by_cores:.1f}, by memory {by_memory:.1f}"),
        Line("all identities once", round(first, 1), "days", "on these machines, should every fit be made anew"),
    ]


def _stores(wish: Wish, figures: Mapping[str, Figure], assumed: Assumptions) -> list[Line]:
    video_s = wish.streams * assumed.mean_load * _DAY_S
    renders = video_s / assumed.render_s
    kept_gb = wish.identities * assumed.versions * figures["version_bytes"].value / 1e9
    raw_gb = wish.identities * (assumed.recording_mb + assumed.capture_mb) / 1000
    video_gb, sound_gb = video_s * assumed.video_kb_s / 1e6, video_s * assumed.sound_kb_s / 1e6
    redis_mb = (
        wish.identities * figures["redis_bytes_per_identity"].value
        + renders * _WEEK_DAYS * figures["redis_bytes_per_render"].value
    ) / MB + ServeConfig().sounds_in_redis_mb
    network = wish.streams * (2 * assumed.video_kb_s + assumed.sound_kb_s) * 8 / 1000
    days_gb = _VIDEO_DAYS * video_gb
    seen_s = figures["reconcile_10000_s"].value
    fits_gb = wish.fits_per_day * (assumed.recording_mb + assumed.capture_mb) / 1000
    return [
        Line("object store, identities", round(kept_gb, 1), "GB", f"{assumed.versions:g} versions each"),
        Line("object store, recordings", round(raw_gb, 1), "GB", "with their captures, one recording each"),
        Line("object store, videos", round(days_gb, 1), "GB", f"{_VIDEO_DAYS} days of {video_gb:.1f} GB"),
        Line("object store, written a day", round(video_gb + fits_gb, 1), "GB", "videos, recordings and captures"),
        Line("renders a day", round(renders), "", f"{assumed.mean_load:g} of {wish.streams} streams, all day"),
        Line("Redis, memory", round(redis_mb / (1 - assumed.headroom)), "MB", "identities, a week of renders, sounds"),
        Line("Redis, connections", wish.streams + 50, "", "one for each replica, and the services"),
        Line(
            "network of the API",
            round(network),
            "Mbit/s",
            f"sound in, video stored and fetched; {sound_gb:.0f} GB a day in",
        ),
        Line("MLflow", 1, "machine", f"2 cores, 4 GB, Postgres; changes by hand are seen within {seen_s:g} s"),
    ]


def as_text(wish: Wish, figures: Mapping[str, Figure], assumed: Assumptions, lines: list[Line]) -> str:
    """The plan for people: what is needed, what was measured, what was assumed."""
    used = {
        name: f for name, f in figures.items() if not name.startswith("stream_cores_") or name.endswith(f"_{wish.size}")
    }
    text = [
        f"plan for {wish.identities} identities, {wish.streams} streams at {wish.size} px",
        f"and {wish.fits_per_day} fits a day",
        "",
        "needed",
        *(f"  {line.name:28} {line.value:>9,.10g} {line.unit:7} {line.because}" for line in lines),
        "",
        "measured",
    ]
    for figure in used.values():
        text += [f"  {figure.value:>9,.10g} {figure.unit or 'ratio'}: {figure.what}"]
        text += [f"            {figure.command}", f"            {figure.source}, {figure.hardware}"]
    text += ["", "assumed, not measured (each is an option)"]
    for each in fields(assumed):
        option = "--" + each.name.replace("_", "-")
        text += [f"  {option:15} {getattr(assumed, each.name):>6g}  {each.metadata['help']}"]
    return "\n".join(line.rstrip() for line in text)


def as_dict(wish: Wish, figures: Mapping[str, Figure], assumed: Assumptions, lines: list[Line]) -> dict[str, Any]:
    """The plan for programs."""
    return {
        "wish": asdict(wish),
        "needed": [asdict(line) for line in lines],
        "measured": [asdict(figure) for figure in figures.values()],
        "assumed": asdict(assumed),
    }
