"""Whether two folders of results hold the same, and how far apart they are where they do not."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from safetensors.numpy import load_file

# Fields of JSON documents that two runs of the same program fill differently, and why.
VARYING = {
    "seconds": "how long a command or a fit took (a recording's length is compared as num_frames)",
    "made_in_s": "how long it took to draw a recording",
    "elapsed_s": "how long it took to prepare a capture",
    "steps_per_s": "the speed of a fit",
    "real_time_factor": "the speed of a command",
    "peak_rss_mb": "memory in use, which depends on when Python tidies up",
}
_BACKDROP_GREY = 128.0
_MAX_FIELDS_SHOWN = 3


class Difference(NamedTuple):
    """How two versions of a file differ."""

    text: str
    grey_levels: float | None = None  # of pictures and videos that can be compared


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two versions of a set of files.

    Attributes:
        num_files: names that occur in either.
        old_sha256, new_sha256: over the names and contents of all files; equal where nothing differs.
        differences: by name of the file.
    """

    num_files: int
    old_sha256: str
    new_sha256: str
    differences: dict[str, Difference]

    @property
    def grey_levels(self) -> float | None:
        """The largest difference of pictures; None if some could not be compared."""
        found = [difference.grey_levels for difference in self.differences.values()]
        return None if None in found else max(found, default=0.0)

    def as_dict(self) -> dict:
        return asdict(self) | {"differences": {name: found.text for name, found in self.differences.items()}}


def compare(old: Path, new: Path, parts: Iterable[str], *, over_grey: bool = False) -> Comparison:
    """Compare the same parts of two folders.

    Args:
        old, new: folders.
        parts: files in them, or folders of which every file counts.
        over_grey: put pictures with an alpha channel over grey first: where alpha is near zero, a colour means nothing.
    """
    parts = list(parts)
    old_sums, new_sums = _sums(old, parts), _sums(new, parts)
    differences = {}
    for name in sorted(old_sums.keys() | new_sums.keys()):
        if old_sums.get(name) != new_sums.get(name):
            sides = [side for side, sums in (("old", old_sums), ("new", new_sums)) if name in sums]
            both = len(sides) == 2
            differences[name] = (
                describe(old / name, new / name, over_grey=over_grey) if both else Difference(f"only in {sides[0]}")
            )
    return Comparison(
        num_files=len(old_sums.keys() | new_sums.keys()),
        old_sha256=_sum_of(json.dumps(old_sums, sort_keys=True).encode()),
        new_sha256=_sum_of(json.dumps(new_sums, sort_keys=True).encode()),
        differences=differences,
    )


def describe(old: Path, new: Path, *, over_grey: bool = False) -> Difference:
    """How two versions of a file differ, as precisely as its kind allows; see :func:`compare`."""
    match new.suffix:
        case ".json" | ".jsonl":
            return Difference(_changed_fields(_document(old), _document(new)))
        case ".safetensors":
            return Difference(_changed_tensors(load_file(old), load_file(new)))
        case ".png" | ".jpg":
            prepare = _put_over_grey if over_grey else np.asarray
            return _changed_pictures([prepare(_picture(old))], [prepare(_picture(new))])
        case ".mp4":
            return _changed_pictures(_decoded(old), _decoded(new))
        case _:
            return Difference(f"bytes differ ({old.stat().st_size} and {new.stat().st_size} in all)")


def _sums(folder: Path, parts: list[str]) -> dict[str, str]:
    """sha256 of every file by its name below the folder."""
    files = itertools.chain.from_iterable(_files_of(folder / part) for part in parts)
    return {file.relative_to(folder).as_posix(): _sum_of(_content(file)) for file in files}


def _files_of(part: Path) -> list[Path]:
    return [path for path in sorted(part.rglob("*")) if path.is_file()] if part.is_dir() else [part] * part.is_file()


def _sum_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _content(path: Path) -> bytes:
    """What of a file must be equal: its bytes, or JSON's fields that do not vary, in their order."""
    return json.dumps(_document(path)).encode() if path.suffix in (".json", ".jsonl") else path.read_bytes()


def _document(path: Path):
    """A JSON document, or a list of those in the lines of a file, without the fields that vary."""
    text = path.read_text()
    is_one = path.suffix == ".json"
    return _without_varying(json.loads(text) if is_one else [json.loads(line) for line in text.splitlines()])


def _without_varying(value):
    if isinstance(value, dict):
        return {name: _without_varying(part) for name, part in value.items() if name not in VARYING}
    return [_without_varying(part) for part in value] if isinstance(value, list) else value


def _fields(value, name: str = "") -> Iterator[tuple[str, object]]:
    """Every number, text and empty container in a document with its dotted name."""
    if not isinstance(value, dict | list) or not value:
        yield name, value
        return
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _fields(part, f"{name}.{key}" if name else str(key))


def _changed_fields(old, new) -> str:
    old_fields, new_fields = dict(_fields(old)), dict(_fields(new))
    names = [name for name in old_fields | new_fields if old_fields.get(name, "-") != new_fields.get(name, "-")]
    if not names:
        return "the same fields in another order"
    shown = [f"{name} {old_fields.get(name, '-')} -> {new_fields.get(name, '-')}" for name in names[:_MAX_FIELDS_SHOWN]]
    more = [f"and {len(names) - len(shown)} more"] if len(names) > len(shown) else []
    return ", ".join(shown + more)


def _changed_tensors(old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> str:
    if odd := sorted(old.keys() ^ new.keys()):
        return f"only one of them has {', '.join(odd[:_MAX_FIELDS_SHOWN])}"
    for name, value in old.items():
        if (value.shape, value.dtype) != (new[name].shape, new[name].dtype):
            return f"{name}: {value.dtype}{list(value.shape)} -> {new[name].dtype}{list(new[name].shape)}"
    largest, name = max((_largest(value, new[name]), name) for name, value in old.items())
    return f"{name} by up to {largest:.3g}" if largest else "the same tensors, stored in another way"


def _changed_pictures(old: Iterable[np.ndarray], new: Iterable[np.ndarray]) -> Difference:
    """Pictures are compared one by one, so that a long video needs no memory."""
    largest, num_changed, num = 0.0, 0, 0
    for before, after in itertools.zip_longest(old, new):
        if before is None or after is None:
            return Difference(f"one of them ends after {num} pictures")
        if before.shape != after.shape:
            return Difference(f"shape {list(before.shape)} -> {list(after.shape)}")
        difference = _largest(before, after)
        largest, num_changed, num = max(largest, difference), num_changed + (difference > 0), num + 1
    if not num_changed:
        return Difference("the same pictures, stored in another way", 0.0)
    share = f" in {num_changed} of {num} pictures" if num > 1 else ""
    return Difference(f"by up to {largest:.3g} grey levels{share}", largest)


def _largest(old: np.ndarray, new: np.ndarray) -> float:
    """The largest difference of two arrays of one shape; NaN differs from every number, not from NaN."""
    if not old.size:
        return 0.0
    difference = np.abs(old.astype(np.float64) - new.astype(np.float64))
    difference[np.isnan(old.astype(np.float64)) & np.isnan(new.astype(np.float64))] = 0.0
    return float(np.nan_to_num(difference, nan=np.inf).max())


def _picture(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def _put_over_grey(
    picture: np.ndarray,  # [H, W, 3 or 4] uint8
) -> np.ndarray:
    if picture.ndim < 3 or picture.shape[2] < 4:
        return picture
    alpha = picture[..., 3:].astype(np.float64) / 255
    return picture[..., :3] * alpha + _BACKDROP_GREY * (1 - alpha)


def _decoded(video: Path) -> Iterator[np.ndarray]:
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")
