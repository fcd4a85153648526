"""`identity.json`: what an identity checkpoint says of itself, and the hashes of its files."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from m2dao.errors import CheckpointCorrupt, CheckpointUnsupported
from m2dao.files import file_sha256
from m2dao.formats import IDENTITY, IDENTITY_READ

GAUSSIANS_NAME = "gaussians.safetensors"
MOTION_NAME = "motion.safetensors"
SIGNALS_NAME = "signals.safetensors"
PLATE_NAME = "plate.png"
FILE_NAMES = (GAUSSIANS_NAME, MOTION_NAME, SIGNALS_NAME, PLATE_NAME)
_MAX_MANIFEST_BYTES = 1 << 20
_MAX_FILE_BYTES = 1 << 30
_MAX_SIZE_PX = 2048


@dataclass(frozen=True, kw_only=True)
class IdentityManifest:
    """Everything about an identity that is not a tensor.

    Args:
        recipe: name of the recipe it was fitted with.
        size: width and height of its pictures in pixels.
        K: [3][3] intrinsics for that size.
        model: fields of the model configuration.
        speech: which audio features, how many rows a window.
        num_gaussians: by group.
        fit: steps, seconds, seed, frames trained on.
        capture_sha256: the content hash of the capture it was fitted to.
        poses, soft_masks: how that capture was read, see the recipe.
        files: sha256 and bytes by file name.
        version: of the format it was read from; it is written in the latest.
    """

    recipe: str
    size: int
    K: list[list[float]]
    model: dict
    speech: dict
    num_gaussians: dict[str, int]
    fit: dict
    capture_sha256: str
    frame_rate: int = 25
    poses: str = "refined"
    soft_masks: bool = True
    files: dict[str, dict] = field(default_factory=dict)
    version: int = IDENTITY.version

    def to_json(self) -> str:
        fields = dataclasses.asdict(self)
        return json.dumps({**IDENTITY.header, **fields, "version": IDENTITY.version}, indent=2) + "\n"


def read_manifest(folder: Path) -> IdentityManifest:
    """Parse `identity.json`.

    Raises:
        CheckpointCorrupt: it is missing or malformed.
        CheckpointUnsupported: it is of another format or version.
    """
    path = Path(folder) / IDENTITY.manifest
    remedy = "fit or download the identity again"
    if not path.is_file():
        raise CheckpointCorrupt(str(folder), f"an identity folder with {IDENTITY.manifest}", "no such file", remedy)
    if path.stat().st_size > _MAX_MANIFEST_BYTES:
        raise CheckpointCorrupt(str(path), f"at most {_MAX_MANIFEST_BYTES} bytes", f"{path.stat().st_size}", remedy)
    try:
        data = json.loads(path.read_text())
        if not isinstance(data, dict):
            raise TypeError("not an object")
        form, version = data.pop("format", None), data.get("version")
        if form != IDENTITY.name or version not in IDENTITY_READ:
            known = f"{IDENTITY.name} version {' or '.join(map(str, IDENTITY_READ))}"
            raise CheckpointUnsupported(str(path), known, f"{form} version {version}", remedy)
        manifest = IdentityManifest(**data)
        _check_manifest(manifest)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointCorrupt(str(path), "a valid manifest", str(error), remedy) from error
    return manifest


def _check_manifest(manifest: IdentityManifest) -> None:
    if not (isinstance(manifest.size, int) and 16 <= manifest.size <= _MAX_SIZE_PX):
        raise ValueError(f"size {manifest.size!r} outside 16..{_MAX_SIZE_PX}")
    rows = manifest.K
    if not (len(rows) == 3 and all(len(row) == 3 and all(isinstance(v, int | float) for v in row) for row in rows)):
        raise ValueError("K is not a 3x3 matrix of numbers")
    missing = [name for name in FILE_NAMES if name not in manifest.files]
    if missing or set(manifest.files) != set(FILE_NAMES):
        raise ValueError(f"files {sorted(manifest.files)} instead of {sorted(FILE_NAMES)}")
    for name, entry in manifest.files.items():
        if not 0 < entry["bytes"] <= _MAX_FILE_BYTES or len(entry["sha256"]) != 64:
            raise ValueError(f"size or hash of {name} out of range")


def verify_identity(folder: Path) -> IdentityManifest:
    """Check that a folder is a whole, unaltered identity.

    Returns:
        Its manifest.

    Raises:
        CheckpointCorrupt: names the file and both hashes.
        CheckpointUnsupported: another format or version.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    for name, entry in manifest.files.items():
        path = folder / name
        remedy = "fit or download the identity again"
        if not path.is_file():
            raise CheckpointCorrupt(str(path), "a file of the identity", "no such file", remedy)
        if path.stat().st_size != entry["bytes"]:
            raise CheckpointCorrupt(str(path), f"{entry['bytes']} bytes", f"{path.stat().st_size} bytes", remedy)
        digest = file_sha256(path)
        if digest != entry["sha256"]:
            raise CheckpointCorrupt(str(path), f"sha256 {entry['sha256']}", f"sha256 {digest}", remedy)
    return manifest
