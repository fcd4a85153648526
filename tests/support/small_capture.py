"""A capture made by code in a second: the tiny identity, filmed while it moves. Its truth is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from m2dao.audio.features import feature_version, get_extractor
from m2dao.capture.faces.signals import EXPRESSION_NAMES
from m2dao.capture.writer import CaptureWriter
from m2dao.identity import Talker
from m2dao.motion.poses import pose_differences, pose_features, viewmat_from_difference
from m2dao.motion.talking_head import FrameConditions
from m2dao.timeline import SAMPLES_PER_FRAME
from m2dao.training.recipes import Recipe, get_recipe
from tests.support.tiny_identity import make_tiny_identity

MOUTH_POINTS = {
    13: (0.0, 0.036),
    14: (0.0, 0.044),
    61: (-0.02, 0.04),
    291: (0.02, 0.04),
    0: (0.0, 0.03),
    17: (0.0, 0.05),
}


def small_recipe(name: str = "m2dao") -> Recipe:
    """A recipe that fits the small capture in seconds."""
    seeds = {"facial": 300, "oral": 40, "inner": 20, "torso": 80}
    recipe = replace(get_recipe(name, 64), densify_every=25, speech_steps=50, seeds=seeds)
    return replace(recipe, poses="frame_by_frame") if recipe.poses == "tracked" else recipe  # a ball has no face


def make_small_capture(folder: Path, *, num_frames: int = 132, size: int = 64, seed: int = 0) -> Path:
    """Write a capture of ``num_frames`` frames of the tiny identity turning its head and its jaw."""
    folder = Path(folder)
    talker = Talker.load(make_tiny_identity(folder.with_name(folder.name + ".identity"), size=size, seed=seed))
    rng = np.random.default_rng(seed)
    time_s = np.arange(num_frames) / 25
    differences = np.zeros((num_frames, 6), np.float32)
    differences[:, 1] = 0.12 * np.sin(2 * np.pi * 0.4 * time_s)
    differences[:, 3] = 0.01 * np.sin(2 * np.pi * 0.25 * time_s)
    reference = talker.reference_viewmat
    viewmats = np.stack([viewmat_from_difference(row, reference).numpy() for row in differences])
    opening = np.clip(np.sin(2 * np.pi * 1.3 * time_s), 0, 1).astype(np.float32)
    loud = np.repeat(opening, SAMPLES_PER_FRAME)
    waveform = (0.3 * loud * np.sin(2 * np.pi * 180 * np.arange(len(loud)) / 16_000)).astype(np.float32)
    waveform += 0.001 * rng.normal(size=len(waveform)).astype(np.float32)
    canonical = _landmarks(rng)
    landmarks = np.stack(
        [
            _project(_opened(canonical, gap), view, talker.manifest.K)
            for gap, view in zip(opening, viewmats, strict=True)
        ]
    )
    expression = np.zeros((num_frames, len(EXPRESSION_NAMES)), np.float32)
    with CaptureWriter(folder) as writer:
        for index in range(num_frames):
            rgb, masks = _filmed(talker, viewmats[index], opening[index])
            writer.add_frame(index, rgb, masks)
        writer.add_png("plate.png", talker.plate)
        writer.add_sound("audio.wav", waveform)
        writer.add_tensors(
            "features.safetensors", {n: get_extractor(n).extract(waveform) for n in ("logmel", "phones")}
        )
        writer.add_tensors(
            "tracks.safetensors",
            {
                "viewmats": viewmats.astype(np.float32),
                "K": np.asarray(talker.manifest.K, np.float32),
                "landmarks": landmarks.astype(np.float32),
                "canonical_landmarks": canonical.astype(np.float32),
                "blendshapes": np.zeros((num_frames, 52), np.float32),
                "lip_opening": 0.1 * opening,
                "lip_width": np.full(num_frames, 0.4, np.float32),
                "blink": np.zeros((num_frames, 2), np.float32),
                "expression": expression,
                "valid": np.ones(num_frames, np.uint8),
            },
        )
        features = {name: feature_version(name) for name in ("logmel", "phones")}
        writer.finish(
            {"num_frames": num_frames, "size": size, "features": features, "expression_names": list(EXPRESSION_NAMES)}
        )
    return folder


def _landmarks(rng: np.random.Generator) -> np.ndarray:
    """[478, 3] points on the front of the ball, the mouth's where the mouth is."""
    angle, radius = rng.uniform(0, 2 * np.pi, 478), 0.07 * np.sqrt(rng.uniform(0, 1, 478))
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    points[152], points[9] = (0.0, 0.075), (0.0, -0.03)
    for index, place in MOUTH_POINTS.items():
        points[index] = place
    return np.concatenate([points, -np.sqrt(np.maximum(0.08**2 - (points**2).sum(1), 0))[:, None]], axis=1)


def _opened(canonical: np.ndarray, gap: float) -> np.ndarray:
    moved = canonical.copy()
    moved[[14, 17, 84, 314, 152], 1] += 0.01 * gap
    return moved


def _project(points: np.ndarray, viewmat: np.ndarray, K: list) -> np.ndarray:
    camera = points @ viewmat[:3, :3].T + viewmat[:3, 3]
    pixels = camera @ np.asarray(K).T
    return np.concatenate([pixels[:, :2] / pixels[:, 2:], (camera[:, 2:] - viewmat[2, 3]) * K[0][0]], axis=1)


def _filmed(talker: Talker, viewmat: np.ndarray, gap: float) -> tuple[np.ndarray, np.ndarray]:
    """A frame and its masks, rendered by the identity itself."""
    view = torch.from_numpy(viewmat).float()
    sound = torch.full((talker.speech.config.embedding_size,), float(gap))
    pose = pose_differences(viewmat[None], talker.reference_viewmat.numpy())[0]
    conditions = FrameConditions(view, pose_features(pose, pose), sound, torch.zeros(len(EXPRESSION_NAMES)))
    out = talker.render_conditions(conditions)
    alpha, head = out.alphas[0, ..., 0].numpy(), out.colors[0, ..., 3].numpy()
    rgb = out.colors[0, ..., :3].numpy() + (1 - alpha[..., None]) * talker.plate / 255
    rows, cols = np.mgrid[: talker.size, : talker.size] + 0.5
    mouth = ((cols / talker.size - 0.5) / 0.07) ** 2 + ((rows / talker.size - 0.63) / 0.05) ** 2 < 1
    shares = np.stack([head * ~mouth, head * mouth, 0 * head, np.maximum(alpha - head, 0)], axis=-1)
    return (np.clip(rgb, 0, 1) * 255).round().astype(np.uint8), np.floor(np.clip(shares, 0, 1) * 255).astype(np.uint8)
