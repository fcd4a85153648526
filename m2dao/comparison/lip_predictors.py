"""Compares what predicts lips from sound, before any picture: speech encoders, and small maps.

Each learns from the first seconds of a recording. It is judged by the lips of all that follows up to the test part,
which is left alone, and by its sync with the voices of others.
Shapes: S samples of whole frames, T frames, D components of articulation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from m2dao.audio.features import get_extractor
from m2dao.audio.lipsync import expected_lip_opening, sync_offset_and_confidence
from m2dao.audio.phones import Phones
from m2dao.capture.dataset import Capture
from m2dao.errors import InputError
from m2dao.evaluation.closures import compare_lips, speech_frames
from m2dao.timeline import FRAME_RATE, SAMPLES_PER_FRAME, split_recording
from m2dao.training.recipes import get_recipe
from m2dao.training.speech.articulation import ArticulationBasis, find_articulation_basis, mouth_shapes
from m2dao.training.speech.calibration import lip_gain
from m2dao.training.speech.fit_driver import fit_speech_driver, fit_speech_map, speech_config, spoken_recording

# Sound [S] -> articulation [T, D].
Predictor = Callable[[np.ndarray], np.ndarray]
_RECIPE = get_recipe("m2dao", 256)  # the encoders' settings are the same at all sizes


class LipLesson(NamedTuple):
    """What a predictor may learn from, and how a lip opening is read out of an articulation."""

    capture: Capture
    num_train: int
    basis: ArticulationBasis
    articulation: np.ndarray  # [T, D] of the whole recording
    readout: np.ndarray  # [D + 1]

    def opening(self, articulation: np.ndarray) -> np.ndarray:
        """Lip opening in outer-eye distances: [T, D] -> [T]."""
        return articulation @ self.readout[:-1] + self.readout[-1]


def lip_lesson(capture: Capture, seconds: float | None) -> LipLesson:
    """The first seconds of a capture's training part; all of it for None.

    Raises:
        InputError: the training part is not that long.
    """
    num_train = len(split_recording(capture.num_frames).train)
    if seconds is not None:
        if round(seconds * FRAME_RATE) > num_train:
            raise InputError("seconds to learn from", f"at most {num_train / FRAME_RATE:.1f}", f"{seconds:g}")
        num_train = round(seconds * FRAME_RATE)
    shapes = mouth_shapes(capture)
    basis = find_articulation_basis([shapes[:num_train]], _RECIPE.model.embedding_size)
    articulation = basis.of(shapes, num_train)
    seen = np.isfinite(capture.lip_opening[:num_train])
    design = np.column_stack([articulation[:num_train], np.ones(num_train)])[seen]
    readout = np.linalg.lstsq(design, capture.lip_opening[:num_train][seen], rcond=None)[0]
    return LipLesson(capture, num_train, basis, articulation, readout)


def fit_predictor(name: str, lesson: LipLesson, *, seed: int) -> Predictor:
    """The predictor called ``name``, stretched as a fit stretches it.

    Args:
        name: kind of encoder, or kind and features joined by a colon: ``network``, ``map:visemes+phones``.
        lesson: what it learns from.
        seed: of networks; maps have none.

    Raises:
        ConfigError: no such encoder or features.
    """
    encoder, _, features = name.partition(":")
    recipe = replace(_RECIPE, speech_encoder=encoder, speech_features=features or _RECIPE.speech_features)
    config = speech_config(lesson.capture, recipe)
    recording = spoken_recording(lesson.capture, config, lesson.num_train, lesson.basis)
    if encoder == "map":
        fitted = fit_speech_map(config, recording)
    else:
        fitted = fit_speech_driver(config, [recording], seed=seed, num_steps=recipe.speech_steps)
    driver = fitted._replace(gain=lip_gain(fitted.driver, recording, recipe.recorded_lips)).calibrated()
    extractor = get_extractor(config.features)

    @torch.no_grad()
    def predict(waveform: np.ndarray) -> np.ndarray:
        windows = driver.windows(extractor.extract(waveform), len(waveform) // SAMPLES_PER_FRAME)
        return (driver(windows) * fitted.driver.embedding_std + fitted.driver.embedding_mean).numpy()

    return predict


def judge_lips(lesson: LipLesson, predict: Predictor) -> dict:
    """What a predictor says of the frames after those it learned from, beside what the lips did."""
    capture = lesson.capture
    judged = slice(lesson.num_train, split_recording(capture.num_frames).validation.stop)
    waveform = _own_sound(capture)
    articulation = predict(waveform)
    told, seen = lesson.opening(articulation)[judged], capture.lip_opening[judged]
    figures = compare_lips(told, seen, speech_frames(waveform)[judged])
    known = np.isfinite(seen)
    errors = np.sqrt(((articulation - lesson.articulation)[judged] ** 2).sum(axis=1))
    return {
        "num_train": lesson.num_train,
        "num_judged": int(known.sum()),
        "r": float(np.corrcoef(told[known], seen[known])[0, 1]),
        "opening_ratio": figures.opening_ratio,
        "closure_ratio": figures.closure_ratio,
        "closure_precision": figures.closure_precision,
        "error": float(errors.mean()),
    }


def judge_sync(lesson: LipLesson, predict: Predictor, waveform: np.ndarray) -> dict:
    """How well predicted lips keep time with a sound [S], which may be anybody's."""
    num_frames = len(waveform) // SAMPLES_PER_FRAME
    waveform = waveform[: num_frames * SAMPLES_PER_FRAME]
    phones = Phones()
    expected = expected_lip_opening(phones.extract(waveform), phones.phones, num_frames)
    sync = sync_offset_and_confidence(expected, lesson.opening(predict(waveform)))
    return {"offset_frames": sync.offset_frames, "confidence": sync.confidence, "sure": sync.sure}


def _own_sound(capture: Capture) -> np.ndarray:
    return capture.waveform[: capture.num_frames * SAMPLES_PER_FRAME]
