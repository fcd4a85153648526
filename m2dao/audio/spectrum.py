"""Short-time power spectra on the clock, and mel filters.

Shapes: B blocks, N samples of a block with context, r rows, K = num_fft / 2 + 1 bins, M filters.
"""

from __future__ import annotations

import numpy as np


def power_spectra(
    blocks: np.ndarray,  # [B, N]
    *,
    first_centre: int,
    num_rows: int,
    hop_samples: int,
    window: np.ndarray,  # [W]
    num_fft: int,
    pre_emphasis: float = 0.0,
) -> np.ndarray:  # [B, r, K]
    """Power spectra of ``num_rows`` windows in each block.

    Row ``k`` of a block is centred on its sample ``first_centre + k * hop_samples``: the window covers
    ``[centre - W/2, centre + W/2)``. One sample more is needed before the first window when ``pre_emphasis`` is set.

    Raises:
        ValueError: a window would leave the block.
    """
    num_window = len(window)
    start = first_centre - num_window // 2
    stop = start + (num_rows - 1) * hop_samples + num_window
    needs_before = 1 if pre_emphasis else 0
    if start < needs_before or stop > blocks.shape[1]:
        raise ValueError(f"windows [{start}, {stop}) leave the block of {blocks.shape[1]} samples")
    samples = blocks[:, start:stop]
    if pre_emphasis:
        samples = samples - np.float32(pre_emphasis) * blocks[:, start - 1 : stop - 1]
    frames = np.lib.stride_tricks.sliding_window_view(samples, num_window, axis=1)[:, ::hop_samples]
    spectra = np.fft.rfft(frames * window, num_fft, axis=-1)
    return spectra.real**2 + spectra.imag**2


def hz_to_mel(hz: np.ndarray | float) -> np.ndarray:
    """O'Shaughnessy's mel scale, 2595 log10(1 + f / 700)."""
    return 2595.0 * np.log10(1.0 + np.asarray(hz, np.float64) / 700.0)


def mel_to_hz(mel: np.ndarray | float) -> np.ndarray:
    """Inverse of ``hz_to_mel``."""
    return 700.0 * (10.0 ** (np.asarray(mel, np.float64) / 2595.0) - 1.0)


def slaney_hz_to_mel(hz: np.ndarray | float) -> np.ndarray:
    """The mel scale of Slaney's Auditory Toolbox: linear to 1 kHz, then 27 steps for a factor of 6.4."""
    hz = np.asarray(hz, np.float64)
    return np.where(hz < 1000.0, hz * 3 / 200, 15.0 + 27.0 * np.log(np.maximum(hz, 1.0) / 1000.0) / np.log(6.4))


def slaney_mel_to_hz(mel: np.ndarray | float) -> np.ndarray:
    """Inverse of ``slaney_hz_to_mel``."""
    mel = np.asarray(mel, np.float64)
    return np.where(mel < 15.0, mel * 200 / 3, 1000.0 * np.exp((mel - 15.0) * np.log(6.4) / 27.0))


def mel_filters(
    *,
    num_filters: int,
    num_fft: int,
    sample_rate: int,
    low_hz: float,
    high_hz: float,
    round_to_bins: bool = False,
    slaney: bool = False,
) -> np.ndarray:  # [K, M] float32
    """Triangular filters of unit area, evenly spaced in mel.

    Args:
        round_to_bins: move each corner to the nearest bin, as the acoustic model of pocketsphinx was trained with.
        slaney: use Slaney's mel scale, as Whisper was trained with.
    """
    bin_hz = sample_rate / num_fft
    to_mel, to_hz = (slaney_hz_to_mel, slaney_mel_to_hz) if slaney else (hz_to_mel, mel_to_hz)
    corners = to_hz(np.linspace(to_mel(low_hz), to_mel(high_hz), num_filters + 2))
    if round_to_bins:
        corners = np.floor(corners / bin_hz + 0.5) * bin_hz
    lower, centre, upper = corners[:-2], corners[1:-1], corners[2:]
    hz = (np.arange(num_fft // 2 + 1) * bin_hz)[:, None]
    rising = (hz - lower) / (centre - lower)
    falling = (upper - hz) / (upper - centre)
    filters = np.clip(np.minimum(rising, falling), 0.0, None) * 2.0 / (upper - lower)
    return filters.astype(np.float32)
