"""A talking head of any number of Gaussians that shows nobody, for benchmarks.

Its Gaussians lie as a fit leaves them (most near the surface, with a mean screen radius), its fields have the sizes of
the recipe ``m2dao`` and random weights. So it costs as much to render as a fitted identity, and shows noise.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from m2dao.audio.features import DEFAULT_FEATURES, get_extractor
from m2dao.gaussians.params import GaussianParams, raw_gaussians
from m2dao.identity.checkpoint import StoredIdentity
from m2dao.identity.manifest import IdentityManifest
from m2dao.motion.facial import EXPRESSION_SIZE
from m2dao.motion.initialization import initialized_by
from m2dao.motion.speech import SpeechConfig, SpeechDriver
from m2dao.motion.talking_head import TAG_LIPS, TAG_SKIN, TAG_TORSO, ModelConfig, TalkingHead
from m2dao.timeline import FRAME_RATE, SAMPLE_RATE

HEAD_HALF_AXES_M = (0.08, 0.11, 0.09)
HEAD_DISTANCE_M = 0.55
FOCAL_PER_SIZE = 2.0  # focal length in image sizes: the head fills most of the frame
MEAN_RADIUS_PX = 5.0
_SHARES = {"facial": 0.6, "oral": 0.15, "torso": 0.25}  # of all Gaussians, as the recipe caps them
_TRACK_FRAMES = 250


def shell(num: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Gaussians in and under the surface of an ellipsoid like a head.

    Args:
        num: N.
        size: pixels of the picture for which the mean screen radius holds.

    Returns:
        means [N, 3] and scales [N, 3], metres.
    """
    directions = torch.nn.functional.normalize(torch.randn(num, 3, generator=generator), dim=1)
    depth = 0.15 * torch.rand(num, 1, generator=generator) ** 2  # most lie near the surface
    # A drawn radius is 3.33 standard deviations of an opaque Gaussian, eps2d included, rounded up.
    sigma_px = math.sqrt(max((MEAN_RADIUS_PX / 3.33) ** 2 - 0.3, 0.1))
    spread = torch.exp(0.35 * torch.randn(num, 3, generator=generator))
    means = directions * torch.tensor(HEAD_HALF_AXES_M) * (1 - depth)
    return means, 0.87 * spread * sigma_px * HEAD_DISTANCE_M / (FOCAL_PER_SIZE * size)


def make_specimen(*, size: int, num_gaussians: int, seed: int = 0) -> StoredIdentity:
    """Make one in memory.

    Args:
        size: pixels.
        num_gaussians: of all groups together.
        seed: of everything random.
    """
    with initialized_by(seed):
        return _specimen(size, num_gaussians, torch.Generator().manual_seed(seed))


def _specimen(size: int, num_gaussians: int, generator: torch.Generator) -> StoredIdentity:
    reference = torch.eye(4)
    reference[2, 3] = HEAD_DISTANCE_M
    config = ModelConfig()
    counts = {name: max(1, round(share * num_gaussians)) for name, share in _SHARES.items()}
    groups = _groups(config, size, counts, generator)
    box = torch.tensor([[-0.15] * 3, [0.15] * 3])
    head = TalkingHead(
        config,
        groups,
        head_box=box,
        mouth_box=0.5 * box,
        torso_box=box + torch.tensor([0.0, 0.1, HEAD_DISTANCE_M]),
        lip_probes=torch.zeros(6, 3),
        eye_probes=torch.zeros(1, 3),
        reference_viewmat=reference,
    )
    with torch.no_grad():  # fields start at zero; here everything moves a little
        for field in head.fields.values():
            for name, weight in field.field.named_parameters():
                if name.startswith("weights."):
                    weight.normal_(std=0.05, generator=generator)
    time_s = np.arange(_TRACK_FRAMES) / FRAME_RATE
    poses = torch.zeros(_TRACK_FRAMES, 6)
    poses[:, 1] = torch.from_numpy(0.08 * np.sin(2 * np.pi * 0.3 * time_s)).float()
    focal_px, center = FOCAL_PER_SIZE * size, size / 2
    return StoredIdentity(
        IdentityManifest(
            recipe="specimen",
            size=size,
            K=[[focal_px, 0.0, center], [0.0, focal_px, center], [0.0, 0.0, 1.0]],
            model={},
            speech={},
            num_gaussians=counts,
            fit={"num_train": _TRACK_FRAMES},
            capture_sha256="0" * 64,
        ),
        head.eval().requires_grad_(False),
        _speech(config.embedding_size).eval().requires_grad_(False),
        {
            "poses": poses,
            "slow_poses": poses.clone(),
            "expression": torch.zeros(_TRACK_FRAMES, EXPRESSION_SIZE),
            "reference_viewmat": reference,
            "cuts": torch.zeros(0, dtype=torch.int64),
        },
        np.full((size, size, 3), 90, np.uint8),
    )


def _groups(
    config: ModelConfig, size: int, counts: dict[str, int], generator: torch.Generator
) -> dict[str, GaussianParams]:
    """Ellipsoids of Gaussians: face, mouth and shoulders."""
    return {
        "facial": _group(counts["facial"], size, generator, TAG_SKIN, config.sh_degree, torch.ones(3), torch.zeros(3)),
        "oral": _group(
            counts["oral"],
            size,
            generator,
            TAG_LIPS,
            config.sh_degree,
            torch.tensor([0.4, 0.2, 0.1]),
            torch.tensor([0.0, 0.05, -0.08]),
        ),
        "torso": _group(
            counts["torso"],
            size,
            generator,
            TAG_TORSO,
            0,
            torch.tensor([1.8, 0.4, 0.3]),
            torch.tensor([0.0, 0.12, HEAD_DISTANCE_M + 0.05]),
        ),
    }


def babble(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise in syllables, float32 [S] at 16 kHz: something to chew on for the audio features."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    voice = np.sin(2 * np.pi * 130 * time_s) + 0.5 * rng.normal(size=len(time_s))
    return (0.15 * voice * np.clip(np.sin(2 * np.pi * 2.2 * time_s), 0, 1)).astype(np.float32)


def _group(
    num: int, size: int, generator: torch.Generator, tag: int, sh_degree: int, stretch: Tensor, shift: Tensor
) -> GaussianParams:
    means, scales = shell(num, size, generator)
    means = means * stretch + shift
    shades = 0.5 + 0.3 * torch.sin(40 * means + torch.arange(3)) + 0.05 * torch.randn(num, 3, generator=generator)
    raw = raw_gaussians(means, shades, scales[:, 0], sh_degree=sh_degree)
    raw["scales"] = scales.log()
    raw["quats"] = torch.randn(num, 4, generator=generator)
    raw["opacities"] = torch.logit(0.1 + 0.85 * torch.rand(num, generator=generator))
    if tag == TAG_TORSO:
        raw["follow"] = torch.randn(num, generator=generator)
    return GaussianParams(raw, torch.full((num,), tag))


def _speech(embedding_size: int) -> SpeechDriver:
    extractor = get_extractor(DEFAULT_FEATURES)
    return SpeechDriver(
        SpeechConfig(
            features=DEFAULT_FEATURES,
            num_features=extractor.dim,
            rows_per_frame=extractor.rate_hz // FRAME_RATE,
            embedding_size=embedding_size,
        )
    )
