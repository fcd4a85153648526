"""Reads the English acoustic model inside the ``pocketsphinx`` package into arrays.

Only its parameters are used, not the decoder: the decoder writes scores to files and starts each utterance with an
estimate over the whole of it, whereas a stream needs every row as soon as its samples are there.

The model is phonetically tied: each of 42 phones owns a codebook of 128 diagonal Gaussians in each of three feature
streams (cepstra, deltas, second deltas); the three states of a phone mix the densities of that codebook.

Shapes: P = 42 phones, Q = 3 states, S = 3 streams, G = 128 densities, C = 13 cepstra.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from m2dao.errors import AssetCorrupt, AssetUnavailable

NUM_STATES = 3
LOG_BASE = 1.0001  # the decoder's integer logarithms
MIXTURE_SHIFT = 10  # mixture weights are stored as negated logarithms shifted right by this many bits
VARIANCE_FLOOR = 1e-4
REMEDY = "reinstall the pocketsphinx package"


@dataclass(frozen=True, kw_only=True)
class AcousticModel:
    """Parameters of the context-independent states.

    Attributes:
        phones: P names in the order of the model, e.g. ``"AA"``; ``"SIL"`` and names in ``+`` are no speech.
        means: [S, P, G, C].
        variances: [S, P, G, C].
        weights: mixture weights [S, P, G, Q], about 1 when summed over G.
    """

    phones: tuple[str, ...]
    means: np.ndarray
    variances: np.ndarray
    weights: np.ndarray


def load_acoustic_model(folder: Path | None = None) -> AcousticModel:
    """Read the model.

    Args:
        folder: a folder with ``means``, ``variances``, ``sendump`` and ``mdef``; by default the one in the package.

    Raises:
        AssetUnavailable: the package or a file of it is not there.
        AssetCorrupt: a file is not what it should be.
    """
    if folder is None:
        import pocketsphinx

        folder = Path(pocketsphinx.get_model_path("en-us/en-us"))
    try:
        phones = _read_phones(folder / "mdef")
        means = _read_gaussians(folder / "means")
        variances = _read_gaussians(folder / "variances")
        weights = _read_weights(folder / "sendump", num_phones=len(phones))
    except FileNotFoundError as error:
        raise AssetUnavailable(str(error.filename), "the acoustic model", "no such file", REMEDY) from error
    if means.shape != variances.shape or means.shape[:3] != weights.shape[:3]:
        raise AssetCorrupt(
            str(folder), "parameters that fit together", f"{means.shape}, {variances.shape}, {weights.shape}", REMEDY
        )
    return AcousticModel(phones=phones, means=means, variances=np.maximum(variances, VARIANCE_FLOOR), weights=weights)


def _read_gaussians(path: Path) -> np.ndarray:  # [S, P, G, C]
    data = path.read_bytes()
    start = data.find(b"endhdr\n") + len(b"endhdr\n")
    header = np.frombuffer(data, "<i4", count=4, offset=start)
    if not data.startswith(b"s3\n") or header[0] != 0x11223344:
        raise AssetCorrupt(str(path), "an s3 parameter file in little-endian order", repr(data[:16]), REMEDY)
    num_codebooks, num_streams, num_densities = (int(value) for value in header[1:])
    lengths = np.frombuffer(data, "<i4", count=num_streams + 1, offset=start + 16)
    num_values = int(lengths[-1])
    length = int(lengths[0])
    if num_values != num_codebooks * num_streams * num_densities * length:
        raise AssetCorrupt(str(path), "streams of equal length", str(lengths.tolist()), REMEDY)
    values = np.frombuffer(data, "<f4", count=num_values, offset=start + 16 + 4 * (num_streams + 1))
    return values.reshape(num_codebooks, num_streams, num_densities, length).transpose(1, 0, 2, 3)


def _read_weights(path: Path, *, num_phones: int) -> np.ndarray:  # [S, P, G, Q]
    data = path.read_bytes()
    offset = 0
    num_streams = 0
    while True:  # strings, each behind its length, up to a length of zero
        (length,) = struct.unpack_from("<i", data, offset)
        offset += 4
        if length == 0:
            break
        key, _, value = data[offset : offset + length].rstrip(b"\0").partition(b" ")
        if key == b"feature_count":
            num_streams = int(value)
        if key == b"cluster_count" and int(value) != 0:
            raise AssetCorrupt(str(path), "unclustered mixture weights", f"{int(value)} clusters", REMEDY)
        offset += length
    num_densities, num_senones = struct.unpack_from("<ii", data, offset)
    stored = np.frombuffer(data, np.uint8, offset=offset + 8)
    if len(stored) != num_streams * num_densities * num_senones:
        raise AssetCorrupt(
            str(path), f"{num_streams} x {num_densities} x {num_senones} weights", str(len(stored)), REMEDY
        )
    stored = stored.reshape(num_streams, num_densities, num_senones)
    # The states of the plain phones come first, three by three in the order of the phones.
    own = stored[:, :, : num_phones * NUM_STATES].reshape(num_streams, num_densities, num_phones, NUM_STATES)
    weights = np.exp(own.astype(np.float64) * (-(1 << MIXTURE_SHIFT) * np.log(LOG_BASE)))
    return weights.transpose(0, 2, 1, 3).astype(np.float32)


def _read_phones(path: Path) -> tuple[str, ...]:
    data = path.read_bytes()
    if data[:4] != b"BMDF":
        raise AssetCorrupt(str(path), "a binary model definition", repr(data[:4]), REMEDY)
    (length,) = struct.unpack_from("<i", data, 8)
    offset = 12 + length
    num_phones, _, num_states, num_own_states = struct.unpack_from("<4i", data, offset)
    if num_states != NUM_STATES or num_own_states != num_phones * NUM_STATES:
        raise AssetCorrupt(str(path), "three states a phone", f"{num_states} states, {num_own_states} in all", REMEDY)
    offset += 40
    names = data[offset:].split(b"\0", num_phones)[:num_phones]
    return tuple(name.decode("ascii") for name in names)
