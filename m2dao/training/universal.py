"""Universal motion: learned from several people, for a fit to start from.

People share the oral and facial fields and the audio encoders; Gaussians, torso and the pose's part stay each person's
own. Fields of different faces live in boxes that are aligned by the landmarks, axis by axis: so the same cell of a
tri-plane is the same place in every face. A fit that starts here changes what it starts from as it needs. The
difference is the person's residual.

    UNIVERSAL/universal.json       format, configurations, what it was learned from, sha256 of the tensors
             /universal.safetensors

Shapes: L = 478 landmarks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from m2dao.errors import CheckpointCorrupt, CheckpointUnsupported, ConfigError
from m2dao.files import file_sha256
from m2dao.formats import UNIVERSAL
from m2dao.identity.folders import replaced_folder
from m2dao.identity.tensors import load_tensors, part_of, save_tensors
from m2dao.motion.facial import FacialField
from m2dao.motion.initialization import initialized_by
from m2dao.motion.speech import SpeechConfig, SpeechDriver
from m2dao.motion.talking_head import ModelConfig, TalkingHead
from m2dao.regions import AROUND_MOUTH, NUM_LANDMARKS
from m2dao.training.speech.articulation import SHAPE_SIZE, ArticulationBasis
from m2dao.training.speech.fit_driver import SpeechStart

TENSORS_NAME = "universal.safetensors"
_MAX_MANIFEST_BYTES, _MAX_TENSORS_BYTES = 1 << 20, 1 << 28


class UniversalMotion(NamedTuple):
    """What is shared between people."""

    model: ModelConfig
    speech: SpeechStart
    template: Tensor  # [L, 3] metres, the landmarks that stand for every face
    boxes: dict[str, Tensor]  # "head" and "mouth": [2, 3] metres, where the fields live on the template
    motion: dict[str, Tensor]  # shared parameters, by name in the head
    sources: list[str]  # content hashes of the captures it was learned from

    @property
    def sha256(self) -> str:
        """Tells one universal motion from another."""
        digest = hashlib.sha256()
        for name, value in sorted(_tensors(self).items()):
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def box_for(self, part: str, canonical: Tensor) -> Tensor:
        """Where a field lives on another face.

        Args:
            part: ``head`` or ``mouth``.
            canonical: [L, 3] landmarks of that face, metres.

        Returns:
            [2, 3] corners.
        """
        marks = list(AROUND_MOUTH) if part == "mouth" else slice(None)
        scale, shift = _axis_fit(self.template[marks], canonical[marks])
        return self.boxes[part] * scale + shift


def _axis_fit(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift of each axis that take points [P, 3] nearest to others, by least squares."""
    centered, wanted = source - source.mean(0), target - target.mean(0)
    scale = ((centered * wanted).sum(0) / centered.square().sum(0).clamp_min(1e-9)).clamp(0.5, 2.0)
    return scale, target.mean(0) - scale * source.mean(0)


def shared_names(head: TalkingHead) -> list[str]:
    """Names of the head's parameters that are everybody's."""
    own = {f"facial.{FacialField.POSE_WEIGHTS_NAME}"}  # what the pose moves is where this face's depths are wrong
    return [name for name, _ in head.named_parameters() if name.startswith(("facial.", "oral.")) and name not in own]


def shared_motion(head: TalkingHead) -> dict[str, Tensor]:
    """A copy of the shared parameters of a head, on the CPU."""
    parameters = dict(head.named_parameters())
    return {name: parameters[name].detach().to("cpu", copy=True) for name in shared_names(head)}


@torch.no_grad()
def install_motion(head: TalkingHead, motion: dict[str, Tensor]) -> None:
    """Give a head shared parameters.

    Raises:
        ConfigError: they are of another kind of head.
    """
    parameters = dict(head.named_parameters())
    wanted = {name: parameters[name].shape for name in shared_names(head)}
    given = {name: value.shape for name, value in motion.items()}
    if wanted != given:
        odd = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
        raise ConfigError(
            "universal motion", "the shared parameters of this recipe's head", f"others: {', '.join(odd[:3])}"
        )
    for name, value in motion.items():
        parameters[name].copy_(value)


def average_motion(motions: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several people's fits from one start (federated averaging, McMahan et al., 2017)."""
    return {name: torch.stack([motion[name] for motion in motions]).mean(0) for name in motions[0]}


def _tensors(universal: UniversalMotion) -> dict[str, Tensor]:
    tensors = {f"motion.{name}": value for name, value in universal.motion.items()}
    tensors |= {f"speech.{name}": value for name, value in universal.speech.driver.state_dict().items()}
    tensors |= {f"box.{name}": value for name, value in universal.boxes.items()}
    basis = universal.speech.basis
    tensors["articulation.axes"] = torch.from_numpy(np.ascontiguousarray(basis.axes, np.float32))
    tensors["articulation.scale"] = torch.tensor([basis.scale], dtype=torch.float32)
    tensors["template"] = universal.template
    return {name: value.detach().contiguous() for name, value in tensors.items()}


def save_universal(folder: Path, universal: UniversalMotion) -> None:
    """Write universal motion; an existing one is replaced only once the new one is whole.

    Raises:
        InputError: the folder holds something else.
    """
    with replaced_folder(Path(folder), UNIVERSAL) as aside:
        save_tensors(_tensors(universal), aside / TENSORS_NAME)
        manifest = {
            **UNIVERSAL.header,
            "model": dataclasses.asdict(universal.model),
            "speech": dataclasses.asdict(universal.speech.driver.config),
            "sources": universal.sources,
            "sha256": file_sha256(aside / TENSORS_NAME),
        }
        (aside / UNIVERSAL.manifest).write_text(json.dumps(manifest, indent=2) + "\n")


@initialized_by(0)  # those of the files replace them
def load_universal(folder: Path) -> UniversalMotion:
    """Read and check universal motion.

    Raises:
        CheckpointCorrupt: a file is missing, altered or malformed.
        CheckpointUnsupported: another format or version.
    """
    folder = Path(folder)
    manifest, tensors = _read(folder)
    source = str(folder / TENSORS_NAME)
    try:
        driver = SpeechDriver(SpeechConfig(**manifest["speech"]))
        driver.load_state_dict(part_of(tensors, "speech."))
        basis = ArticulationBasis(tensors["articulation.axes"].double().numpy(), float(tensors["articulation.scale"]))
        universal = UniversalMotion(
            model=ModelConfig(**manifest["model"]),
            speech=SpeechStart(driver.eval(), basis),
            template=tensors["template"],
            boxes=part_of(tensors, "box."),
            motion=part_of(tensors, "motion."),
            sources=[str(name) for name in manifest["sources"]],
        )
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointCorrupt(source, "tensors that fit the manifest", str(error)[:300]) from error
    shapes = {
        "template": tuple(universal.template.shape),
        **{name: tuple(box.shape) for name, box in universal.boxes.items()},
    }
    expected = {"template": (NUM_LANDMARKS, 3), "head": (2, 3), "mouth": (2, 3)}
    if shapes != expected or basis.axes.shape != (driver.config.embedding_size, SHAPE_SIZE) or not basis.scale > 0:
        raise CheckpointCorrupt(source, f"shapes {expected}", f"{shapes}, articulation {basis.axes.shape}")
    return universal


def _read(folder: Path) -> tuple[dict, dict[str, Tensor]]:
    """Manifest and tensors, checked against each other."""
    path, tensors_path = folder / UNIVERSAL.manifest, folder / TENSORS_NAME
    remedy = "make it again with m2dao universal"
    for file, most in ((path, _MAX_MANIFEST_BYTES), (tensors_path, _MAX_TENSORS_BYTES)):
        if not file.is_file():
            raise CheckpointCorrupt(str(folder), f"universal motion with {file.name}", "no such file", remedy)
        if file.stat().st_size > most:
            raise CheckpointCorrupt(str(file), f"at most {most} bytes", str(file.stat().st_size), remedy)
    try:
        manifest = json.loads(path.read_text())
        kind = manifest["format"], manifest["version"]
        digest = manifest["sha256"]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointCorrupt(str(path), "a manifest", str(error), remedy) from error
    if kind != (UNIVERSAL.name, UNIVERSAL.version):
        raise CheckpointUnsupported(str(path), str(UNIVERSAL), f"{kind[0]} version {kind[1]}", remedy)
    if (found := file_sha256(tensors_path)) != digest:
        raise CheckpointCorrupt(str(tensors_path), f"sha256 {digest}", f"sha256 {found}", remedy)
    tensors = load_tensors(tensors_path, remedy=remedy)
    if not all(torch.isfinite(value).all() for value in tensors.values() if value.is_floating_point()):
        raise CheckpointCorrupt(str(tensors_path), "finite numbers", "NaN or infinity", remedy)
    return manifest, tensors
