"""A small identity without a fit, made by the engine's own parts: something real to load."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import torch

from m2dao.audio.features import DEFAULT_FEATURES, get_extractor
from m2dao.gaussians.params import GaussianParams, raw_gaussians
from m2dao.identity.checkpoint import StoredIdentity, save_identity
from m2dao.identity.manifest import IdentityManifest
from m2dao.motion.facial import EXPRESSION_SIZE
from m2dao.motion.speech import SpeechConfig, SpeechDriver
from m2dao.motion.talking_head import TAG_INNER_MOUTH, TAG_LIPS, TAG_SKIN, TAG_TORSO, ModelConfig, TalkingHead

NUM_TRACK_FRAMES = 150
DISTANCE_M = 0.8


def make_tiny_identity(folder: Path, *, size: int = 64, seed: int = 0, hue: float = 0.1) -> Path:
    """Write an identity of a few hundred Gaussians: a coloured ball with a mouth on a torso."""
    torch.manual_seed(seed)
    rgb = torch.tensor(colorsys.hsv_to_rgb(hue, 0.6, 0.9))
    config = ModelConfig()
    groups = {
        "facial": _ball(300, 0.08, rgb, TAG_SKIN, degree=1),
        "oral": _mouth(),
        "torso": _torso(rgb * 0.5),
    }
    reference = torch.eye(4)
    reference[2, 3] = DISTANCE_M
    box = torch.tensor([[-0.15, -0.15, -0.15], [0.15, 0.15, 0.15]])
    head = TalkingHead(
        config,
        groups,
        head_box=box,
        mouth_box=box * 0.4,
        torso_box=box + torch.tensor([0.0, 0.1, DISTANCE_M]),
        lip_probes=torch.tensor([[0.0, 0.03, -0.07], [0.0, 0.05, -0.07], [-0.02, 0.04, -0.07], [0.02, 0.04, -0.07]]),
        eye_probes=torch.tensor([[-0.03, -0.03, -0.06], [0.03, -0.03, -0.06]]),
        reference_viewmat=reference,
    )
    with torch.no_grad():  # sound moves something, so that tests can tell a speaking identity from a still one
        for name in ("facial", "oral"):
            for weight in getattr(head, name).field.weights:
                weight.view(len(weight), -1, 13)[..., :3].normal_(std=1.0)  # positions alone: nothing grows or fades
    extractor = get_extractor(DEFAULT_FEATURES)
    speech = SpeechDriver(
        SpeechConfig(
            features=DEFAULT_FEATURES,
            num_features=extractor.dim,
            rows_per_frame=extractor.rate_hz // 25,
            embedding_size=config.embedding_size,
        )
    )
    time_s = torch.arange(NUM_TRACK_FRAMES) / 25
    poses = torch.zeros(NUM_TRACK_FRAMES, 6)
    for axis, (extent, per_s) in {0: (0.05, 0.41), 1: (0.1, 0.3), 3: (0.01, 0.23)}.items():  # no common period
        poses[:, axis] = extent * torch.sin(2 * torch.pi * per_s * time_s)
    expression = torch.zeros(NUM_TRACK_FRAMES, EXPRESSION_SIZE)
    expression[::50, :2] = 1.0
    signals = {"poses": poses, "slow_poses": poses * 0.5, "expression": expression, "reference_viewmat": reference}
    signals["cuts"] = torch.zeros(0, dtype=torch.int64)
    focal = 2.5 * size
    manifest = IdentityManifest(
        recipe="m2dao",
        size=size,
        K=[[focal, 0.0, size / 2], [0.0, focal, size / 2], [0.0, 0.0, 1.0]],
        model={},
        speech={},
        num_gaussians={},
        fit={"steps": 0, "seconds": 0.0, "seed": seed, "num_train": NUM_TRACK_FRAMES},
        capture_sha256="0" * 64,
    )
    plate = np.full((size, size, 3), (40, 60, 90), np.uint8)
    save_identity(Path(folder), StoredIdentity(manifest, head, speech, signals, plate))
    return Path(folder)


def _ball(num: int, radius_m: float, rgb: torch.Tensor, tag: int, *, degree: int) -> GaussianParams:
    means = radius_m * torch.nn.functional.normalize(torch.randn(num, 3), dim=-1)
    colors = (rgb + 0.1 * torch.randn(num, 3)).clamp(0, 1)
    raw = raw_gaussians(means, colors, torch.full((num,), radius_m * 0.12), sh_degree=degree)
    return GaussianParams(raw, torch.full((num,), tag))


def _mouth() -> GaussianParams:
    means = torch.randn(60, 3) * torch.tensor([0.015, 0.006, 0.002]) + torch.tensor([0.0, 0.04, -0.075])
    raw = raw_gaussians(means, torch.tensor([0.7, 0.2, 0.2]).repeat(60, 1), torch.full((60,), 0.004), sh_degree=1)
    tags = torch.full((60,), TAG_LIPS)
    tags[40:] = TAG_INNER_MOUTH
    return GaussianParams(raw, tags)


def _torso(rgb: torch.Tensor) -> GaussianParams:
    means = torch.rand(80, 3) * torch.tensor([0.28, 0.1, 0.01]) + torch.tensor([-0.14, 0.08, DISTANCE_M + 0.12])
    raw = raw_gaussians(means, rgb.repeat(80, 1), torch.full((80,), 0.014), sh_degree=0)
    raw["follow"] = torch.zeros(80)
    return GaussianParams(raw, torch.full((80,), TAG_TORSO))
