"""What the person's lips do, in head space, and teaching the audio encoder to say it.

Shapes: T frames, P mouth points, A components, D embedding, L rows a window, F features.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from m2dao.audio.features import DEFAULT_FEATURES
from m2dao.capture.dataset import Capture
from m2dao.motion.speech import SpeechConfig, SpeechDriver
from m2dao.training.recipes import Recipe

# Outer and inner lip contours and the chin of the 478-point face mesh.
_MOUTH_POINTS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415,
    152, 148, 377,
)  # fmt: skip
_HELD_OUT = 0.12  # of the training part, to stop before the encoder learns the recording by heart
_BATCH_FRAMES = 64
_NOISE = 0.4  # of a feature's standard deviation


def lip_articulation(
    landmarks: np.ndarray, viewmats: np.ndarray, K: np.ndarray, canonical: np.ndarray, num_train: int, size: int
) -> np.ndarray:
    """Principal components of the mouth's shape, the head's motion taken out.

    Each landmark's ray is cut with the depth its canonical point has in that frame.

    Args:
        landmarks: [T, 478, 3] pixels.
        viewmats: [T, 4, 4] head space to camera.
        K: [3, 3].
        canonical: [478, 3] metres.
        num_train: the components come from this many first frames.
        size: A.

    Returns:
        [T, A] float32; the first component has unit variance over the training part, the others less.
    """
    points = np.array(_MOUTH_POINTS)
    rotation, translation = viewmats[:, :3, :3], viewmats[:, None, :3, 3]
    depth = (np.einsum("tij,pj->tpi", rotation, canonical[points]) + translation)[..., 2]  # [T, P]
    x = (landmarks[:, points, 0] - K[0, 2]) / K[0, 0] * depth
    y = (landmarks[:, points, 1] - K[1, 2]) / K[1, 1] * depth
    camera = np.stack([x, y, depth], axis=-1)
    local = np.einsum("tpi,tij->tpj", camera - translation, rotation)[..., :2].reshape(len(landmarks), -1)
    mean = local[:num_train].mean(0)
    _, singular, axes = np.linalg.svd(local[:num_train] - mean, full_matrices=False)
    scale = singular[0] / np.sqrt(num_train)
    return ((local - mean) @ axes[:size].T / scale).astype(np.float32)


def fit_speech_driver(
    config: SpeechConfig,
    features: np.ndarray,
    articulation: np.ndarray,
    num_train: int,
    *,
    seed: int,
    num_steps: int,
    on_progress: Callable[[float], None] | None = None,
) -> tuple[SpeechDriver, dict[str, float]]:
    """Train the audio encoder on the recording's own lips.

    The last part of the training frames is held out; the state that predicts it best is kept.

    Args:
        config: features and sizes.
        features: [R, F] of the whole recording; only rows of training frames are used.
        articulation: [T, A].
        num_train: frames to learn from.
        seed: of initialisation and batches.
        num_steps: batches of consecutive frames.

    Returns:
        The driver, and ``{"held_out_r": correlation of the first component on the held-out frames}``.
    """
    torch.manual_seed(seed)
    driver = SpeechDriver(config)
    rows = torch.from_numpy(features[: num_train * config.rows_per_frame])
    driver.set_feature_statistics(rows)
    windows = driver.windows(rows, num_train)  # [T, L, F] views are copied per batch below
    target = torch.from_numpy(articulation[:num_train])
    num_learn = int(num_train * (1 - _HELD_OUT))
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(driver.parameters(), lr=2e-3, weight_decay=3e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    best_error, best_state, waited = float("inf"), None, 0
    batch = min(_BATCH_FRAMES, num_learn)
    for step in range(num_steps):
        driver.train()
        start = int(torch.randint(0, num_learn - batch + 1, (1,), generator=generator))
        optimizer.zero_grad()
        noisy = _augment(windows[start : start + batch], driver, generator)
        _articulation_loss(driver, noisy, target[start : start + batch]).backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            with torch.no_grad():
                driver.eval()
                error = float(_articulation_loss(driver, windows[num_learn:], target[num_learn:]))
            if error < best_error:
                best_error, waited = error, 0
                best_state = {name: value.clone() for name, value in driver.state_dict().items()}
            else:
                waited += 1
            if on_progress:
                on_progress(step / num_steps)
            if waited >= 10:
                break
    driver.load_state_dict(best_state)
    driver.eval()
    with torch.no_grad():
        raw = driver(windows)
        mean, std = raw.mean(0), raw.std(0).clamp_min(1e-3)
        driver.embedding_mean.copy_(mean)
        driver.embedding_std.copy_(std)
        # The linear head was trained on raw embeddings; fold the normalisation into it.
        driver.articulation.bias += driver.articulation.weight @ mean
        driver.articulation.weight *= std
        predicted = driver.articulation(driver(windows))
    held_out_r = float(np.corrcoef(predicted[num_learn:, 0], target[num_learn:, 0])[0, 1])
    return driver, {"held_out_r": held_out_r}


def _augment(windows: Tensor, driver: SpeechDriver, generator: torch.Generator) -> Tensor:
    """Noise of a part of each feature's spread: other voices differ by more than that."""
    noise = torch.randn(windows.shape, generator=generator) * driver.feature_std
    return windows + _NOISE * noise


def _articulation_loss(driver: SpeechDriver, windows: Tensor, target: Tensor) -> Tensor:
    """Smooth L1 on position and on speed."""
    predicted = driver.articulation(driver(windows))
    position = nn.functional.smooth_l1_loss(predicted, target)
    speed = nn.functional.smooth_l1_loss(predicted.diff(dim=0), target.diff(dim=0))
    return position + 0.5 * speed


def make_speech_driver(
    capture: Capture,
    recipe: Recipe,
    num_train: int,
    *,
    seed: int,
    on_progress: Callable[[float], None] | None = None,
) -> tuple[SpeechDriver, float]:
    """The driver of a capture and how well it predicts held-out lips (correlation of the first component)."""
    features = capture.feature(DEFAULT_FEATURES)
    config = SpeechConfig(
        features=DEFAULT_FEATURES,
        num_features=features.shape[1],
        rows_per_frame=len(features) // capture.num_frames,
        embedding_size=recipe.model.embedding_size,
    )
    articulation = lip_articulation(
        capture.landmarks,
        capture.viewmats,
        capture.K,
        capture.canonical_landmarks,
        num_train,
        config.articulation_size,
    )
    driver, figures = fit_speech_driver(
        config,
        features,
        articulation,
        num_train,
        seed=seed,
        num_steps=recipe.speech_steps,
        on_progress=on_progress,
    )
    return driver, figures["held_out_r"]
