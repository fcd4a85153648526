"""Identity checkpoints: hashed folders of plain tensors, complete or absent, never pickled.

identity.json            manifest: format, recipe, camera, model, hashes of the files below
gaussians.safetensors    raw parameters of each group, ``<group>.<name>``; all but the means in half precision
motion.safetensors       ``head.*`` the fields, ``speech.*`` the speech encoders; what is learned in half precision
signals.safetensors      poses, slow_poses, expression, reference_viewmat, cuts
plate.png                clean background
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from m2dao.errors import CheckpointCorrupt, FitDiverged
from m2dao.files import file_sha256
from m2dao.formats import IDENTITY
from m2dao.gaussians.params import GaussianParams
from m2dao.identity import manifest as layout
from m2dao.identity.folders import replaced_folder
from m2dao.identity.manifest import IdentityManifest, verify_identity
from m2dao.identity.old_formats import cuts_of_version_4
from m2dao.identity.tensors import load_tensors, part_of, save_tensors
from m2dao.motion.facial import EXPRESSION_SIZE, POSE_SIZE
from m2dao.motion.initialization import initialized_by
from m2dao.motion.poses import pose_features
from m2dao.motion.speech import SpeechConfig, SpeechDriver
from m2dao.motion.talking_head import GROUPS, ModelConfig, TalkingHead
from m2dao.pictures import read_picture

_SIGNALS = {
    "poses": (None, 6),
    "slow_poses": (None, 6),
    "expression": (None, EXPRESSION_SIZE),
    "reference_viewmat": (4, 4),
    "cuts": (None,),
}


class StoredIdentity(NamedTuple):
    """What a checkpoint holds."""

    manifest: IdentityManifest
    head: TalkingHead
    speech: SpeechDriver
    signals: dict[str, Tensor]  # poses, slow_poses [T, 6], expression [T, 8], reference_viewmat [4, 4], cuts [C]
    plate: np.ndarray  # [H, W, 3] uint8


def save_identity(folder: Path, identity: StoredIdentity) -> IdentityManifest:
    """Write a checkpoint; an existing one is replaced only once the new one is whole.

    Args:
        folder: where; must be absent or an identity.
        identity: what; the manifest's ``files``, ``model``, ``speech`` and ``num_gaussians`` are filled in here.

    Raises:
        InputError: the folder holds something else.
        FitDiverged: a parameter is not finite.
    """
    with replaced_folder(Path(folder), IDENTITY) as aside:
        return _write_files(aside, identity)


def _write_files(folder: Path, identity: StoredIdentity) -> IdentityManifest:
    head, speech = identity.head, identity.speech
    tensors = {f"{name}.{key}": value for name in head.groups for key, value in head.groups[name].tensors().items()}
    rounded = {name for name, value in tensors.items() if value.is_floating_point() and not name.endswith(".means")}
    _save(folder / layout.GAUSSIANS_NAME, tensors, rounded)
    fields = {f"head.{key}": value for key, value in head.state_dict().items() if not key.startswith("groups.")}
    fields |= {f"speech.{key}": value for key, value in speech.state_dict().items()}
    learned = [("head", name) for name, _ in head.named_parameters() if not name.startswith("groups.")]
    learned += [("speech", name) for name, _ in speech.named_parameters()]
    _save(folder / layout.MOTION_NAME, fields, {f"{owner}.{name}" for owner, name in learned})
    save_tensors({key: value.contiguous() for key, value in identity.signals.items()}, folder / layout.SIGNALS_NAME)
    ok, png = cv2.imencode(".png", cv2.cvtColor(identity.plate, cv2.COLOR_RGB2BGR))
    assert ok
    (folder / layout.PLATE_NAME).write_bytes(png.tobytes())
    files = {
        name: {"sha256": file_sha256(folder / name), "bytes": (folder / name).stat().st_size}
        for name in layout.FILE_NAMES
    }
    manifest = replace(
        identity.manifest,
        files=files,
        model=asdict(head.config),
        speech=asdict(speech.config),
        num_gaussians={name: len(head.groups[name]) for name in head.groups},
    )
    (folder / IDENTITY.manifest).write_text(manifest.to_json())
    return manifest


@initialized_by(0)  # those of the files replace them
def load_identity(folder: Path) -> StoredIdentity:
    """Read and check a checkpoint.

    Raises:
        CheckpointCorrupt: a file is missing, altered or does not fit the manifest.
        CheckpointUnsupported: another format or version.
    """
    folder = Path(folder)
    manifest = verify_identity(folder)
    motion = _load_tensors(folder / layout.MOTION_NAME)
    head = _rebuild_head(folder, manifest, motion)
    try:
        speech = SpeechDriver(SpeechConfig(**manifest.speech))
        _load_state(speech, motion, "speech.", folder / layout.MOTION_NAME)
    except TypeError as error:
        raise CheckpointCorrupt(str(folder), "a valid speech configuration", str(error)) from error
    signals = _load_signals(folder / layout.SIGNALS_NAME, manifest.version)
    _check_signals(folder, signals)
    plate = read_picture(folder / layout.PLATE_NAME)
    if plate is None or plate.shape != (manifest.size, manifest.size, 3):
        raise CheckpointCorrupt(
            str(folder / layout.PLATE_NAME), f"a {manifest.size} px square picture", "something else"
        )
    _set_pose_range(head, signals)
    head.eval().requires_grad_(False)
    speech.eval().requires_grad_(False)
    return StoredIdentity(manifest, head, speech, signals, cv2.cvtColor(plate, cv2.COLOR_BGR2RGB))


def _set_pose_range(head: TalkingHead, signals: dict[str, Tensor]) -> None:
    """Keep the face within the poses of its recording, see :class:`FacialField`."""
    both = [signals[name].cpu().numpy() for name in ("poses", "slow_poses")]
    head.facial.set_pose_range(pose_features(*both)[:, :POSE_SIZE])


def _save(path: Path, tensors: dict[str, Tensor], rounded: set[str]) -> None:
    """Write tensors, those named in half precision.

    Raises:
        FitDiverged: one is not finite, or too large for it.
    """
    stored = {name: (value.half() if name in rounded else value).contiguous() for name, value in tensors.items()}
    beyond = [name for name in rounded if not torch.isfinite(stored[name]).all()]
    if beyond:
        raise FitDiverged(f"identity {path.parent.name}", "parameters below 65504", f"beyond it in {min(beyond)}")
    save_tensors(stored, path)


def _load_tensors(path: Path) -> dict[str, Tensor]:
    """As :func:`load_tensors`, half precision as single."""
    tensors = load_tensors(path)
    return {name: value.float() if value.dtype == torch.float16 else value for name, value in tensors.items()}


def _load_signals(path: Path, version: int) -> dict[str, Tensor]:
    signals = _load_tensors(path)
    if version == 4 and "poses" in signals:
        signals["cuts"] = cuts_of_version_4(signals["poses"])
    return signals


def _rebuild_head(folder: Path, manifest: IdentityManifest, motion: dict[str, Tensor]) -> TalkingHead:
    source = str(folder / layout.GAUSSIANS_NAME)
    by_group: dict[str, dict[str, Tensor]] = {}
    for key, value in _load_tensors(folder / layout.GAUSSIANS_NAME).items():
        group, _, name = key.partition(".")
        by_group.setdefault(group, {})[name] = value
    try:
        config = ModelConfig(**manifest.model)
        expected = GROUPS if config.has_torso else GROUPS[:2]
        if set(by_group) != set(expected):
            raise CheckpointCorrupt(source, f"groups {', '.join(expected)}", ", ".join(sorted(by_group)))
        groups = {name: GaussianParams.from_tensors(by_group[name], source=source) for name in expected}
        head = TalkingHead(
            config,
            groups,
            head_box=motion["head.head_box"],
            mouth_box=motion["head.mouth_box"],
            torso_box=motion["head.torso_box"],
            lip_probes=motion["head.oral.lip_probes"],
            eye_probes=motion["head.facial.eye_probes"],
            reference_viewmat=_load_tensors(folder / layout.SIGNALS_NAME)["reference_viewmat"],
        )
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointCorrupt(str(folder), "tensors that fit the manifest", str(error)) from error
    own = {f"head.{key}": value for key, value in head.state_dict().items() if key.startswith("groups.")}
    _load_state(head, motion | own, "head.", folder / layout.MOTION_NAME)
    return head


def _load_state(module: torch.nn.Module, tensors: dict[str, Tensor], prefix: str, path: Path) -> None:
    state = part_of(tensors, prefix)
    kinds = {key: value.dtype for key, value in module.state_dict().items()}
    odd = [key for key, value in state.items() if value.dtype != kinds.get(key, value.dtype)]
    if odd:
        raise CheckpointCorrupt(str(path), f"{odd[0]} as {kinds[odd[0]]}", f"{state[odd[0]].dtype}")
    try:
        module.load_state_dict(state, strict=True, assign=True)  # the tensors read become the module's own
    except RuntimeError as error:
        raise CheckpointCorrupt(str(path), "tensors that fit the manifest", str(error)) from error
    if not all(torch.isfinite(value).all() for value in state.values() if value.is_floating_point()):
        raise CheckpointCorrupt(str(path), "finite numbers", "NaN or infinity")


def _check_signals(folder: Path, signals: dict[str, Tensor]) -> None:
    path = str(folder / layout.SIGNALS_NAME)
    for name, shape in _SIGNALS.items():
        if name not in signals or signals[name].ndim != len(shape):
            raise CheckpointCorrupt(path, f"tensor {name} {list(shape)}", "no such tensor")
        if any(want is not None and want != have for want, have in zip(shape, signals[name].shape, strict=True)):
            raise CheckpointCorrupt(path, f"{name} {list(shape)}", f"{list(signals[name].shape)}")
        if not torch.isfinite(signals[name]).all():
            raise CheckpointCorrupt(path, "finite numbers", f"NaN or infinity in {name}")
    lengths = {len(signals[name]) for name in ("poses", "slow_poses", "expression")}
    if len(lengths) != 1 or min(lengths) < 50:
        raise CheckpointCorrupt(path, "tracks of one length, at least 50 frames", f"lengths {sorted(lengths)}")
    cuts = [0, *signals["cuts"].tolist(), min(lengths)]
    if signals["cuts"].dtype != torch.int64 or any(a >= b for a, b in itertools.pairwise(cuts)):
        raise CheckpointCorrupt(path, "cuts as rising numbers of frames", f"{cuts[1:-1]}"[:200])
