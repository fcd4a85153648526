"""Phone posteriors at 100 Hz from the acoustic model of pocketsphinx.

Cepstra, deltas, densities and mixtures follow the front end and the scoring that the model was trained with (13 cepstra
from 25 mel filters, lifter 22, features 1s_c_d_dd). Different on purpose: the cepstral mean is a running one over the
speech so far, scores become posteriors by a softened normalisation, and rows of long pauses are exactly "silence".

Shapes: B blocks (one frame each), r = 4 rows a frame, C = 13 cepstra, P phones of the model, G = 128 densities, F = 40.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from m2dao.audio.acoustic_model import AcousticModel, load_acoustic_model
from m2dao.audio.framewise import FramewiseFeatures
from m2dao.audio.logmel import follow_voice, row_powers
from m2dao.audio.spectrum import mel_filters, power_spectra
from m2dao.audio.voice import VoiceTracker
from m2dao.timeline import SAMPLE_RATE, SAMPLES_PER_FRAME

HOP_SAMPLES = 160
ROWS_PER_FRAME = SAMPLES_PER_FRAME // HOP_SAMPLES
WINDOW_SAMPLES = 410
NUM_FFT = 512
NUM_FILTERS = 25
NUM_CEPSTRA = 13
LIFTER = 22
DELTA_ROWS = 3  # second deltas reach three rows to both sides
INT16_SCALE = 32768.0  # the model heard 16-bit integers
FILTER_FLOOR = 1e-4

# Densities further than this under the best one of their stream count as this far: an outlier in one stream must not
# decide. The decoder has the same limit (96 in steps of 1024 logarithms of base 1.0001).
SCORE_FLOOR = 96 * 1024 * np.log(1.0001)
# Neighbouring rows are not independent, so plain posteriors jump between 0 and 1; scores are weighted down to soften
# them.
SCORE_WEIGHT = 0.3

# Mean of the cepstra of speech at the usual level, where the running mean starts, and how many rows it counts for.
PRIOR_MEAN = np.array([41.0, -5.29, -0.12, 5.09, 2.48, -4.07, -1.37, -1.78, -5.08, -2.05, -6.45, -1.42, 1.17])
PRIOR_ROWS = 60.0
MEMORY_ROWS = 800.0  # rows of speech that the mean remembers

# Rows are square roots of posteriors: differences of rare phones count more than in posteriors, less than in
# logarithms, and equal distances mean equally different distributions (Hellinger). The factor gives columns about unit
# spread in speech.
ROOT_SCALE = 4.0

SILENCE = "SIL"


@dataclass
class PhoneState:
    """What the past leaves behind: the voice tracker and the running cepstral mean."""

    voice: VoiceTracker = field(default_factory=VoiceTracker)
    mean: np.ndarray = field(default_factory=PRIOR_MEAN.copy)
    weight: float = PRIOR_ROWS


def posteriors_of(rows: np.ndarray) -> np.ndarray:
    """Probabilities of the phones from feature rows: [..., F] -> [..., F], each row sums to 1."""
    return np.square(np.asarray(rows, np.float64) / ROOT_SCALE)


class Phones(FramewiseFeatures):
    """Roots of the posteriors of 39 English phones and silence (see ``posteriors_of``).

    Silence and steady noise are all silence.

    Attributes:
        phones: the F names of the columns; the first is silence.
    """

    name = "phones"
    rate_hz = SAMPLE_RATE // HOP_SAMPLES
    # Half a window around the outermost row that the deltas need, and one sample for the pre-emphasis.
    left_samples = DELTA_ROWS * HOP_SAMPLES - HOP_SAMPLES // 2 + WINDOW_SAMPLES // 2 + 1
    right_samples = DELTA_ROWS * HOP_SAMPLES - HOP_SAMPLES // 2 + WINDOW_SAMPLES // 2

    def __init__(self, model: AcousticModel | None = None) -> None:
        model = model or load_acoustic_model()
        speech = [index for index, name in enumerate(model.phones) if name != SILENCE and not name.startswith("+")]
        silence = [index for index, name in enumerate(model.phones) if index not in speech]
        self.phones = (SILENCE, *(model.phones[index] for index in speech))
        self.dim = len(self.phones)
        self._order = np.array(silence + speech)
        self._num_silence = len(silence)
        self._densities = [_DensityBank(model.means[s], model.variances[s]) for s in range(len(model.means))]
        self._weights = model.weights  # [S, P, G, Q]
        self._window = np.hamming(WINDOW_SAMPLES).astype(np.float32)
        self._filters = mel_filters(
            num_filters=NUM_FILTERS,
            num_fft=NUM_FFT,
            sample_rate=SAMPLE_RATE,
            low_hz=130.0,
            high_hz=6800.0,
            round_to_bins=True,
        )
        self._cosines = _liftered_cosines()

    def initial_state(self) -> PhoneState:
        return PhoneState()

    def rows(self, blocks: np.ndarray, state: PhoneState) -> np.ndarray:
        cepstra = self.cepstra(blocks)  # [B, r + 6, C]
        gates, _ = follow_voice(state.voice, row_powers(blocks, self.left_samples))  # [B, r]
        own = cepstra[:, DELTA_ROWS:-DELTA_ROWS]
        statics = own - _running_means(state, own, gates)[:, None]
        streams = (statics.astype(np.float32), *_deltas(cepstra))
        posteriors = self._posteriors(self.state_scores(streams))  # [B, r, F]
        silence = np.zeros(self.dim, np.float32)
        silence[0] = 1.0
        gates = gates[..., None].astype(np.float32)
        mixed = gates * posteriors + (1 - gates) * silence
        return (np.float32(ROOT_SCALE) * np.sqrt(mixed)).reshape(-1, self.dim)

    def cepstra(self, blocks: np.ndarray) -> np.ndarray:
        """Cepstra of each block's rows and of three more on each side: [B, N] -> [B, r + 6, C] float64."""
        spectra = power_spectra(
            blocks * np.float32(INT16_SCALE),
            first_centre=self.left_samples + HOP_SAMPLES // 2 - DELTA_ROWS * HOP_SAMPLES,
            num_rows=ROWS_PER_FRAME + 2 * DELTA_ROWS,
            hop_samples=HOP_SAMPLES,
            window=self._window,
            num_fft=NUM_FFT,
            pre_emphasis=0.97,
        )
        return np.matmul(np.log(np.matmul(spectra, self._filters.astype(np.float64)) + FILTER_FLOOR), self._cosines)

    def state_scores(self, streams: tuple[np.ndarray, ...]) -> np.ndarray:
        """Log-likelihoods of the states up to a constant of the row.

        Args:
            streams: cepstra without their mean, deltas, second deltas; each [B, r, C] float32.

        Returns:
            [B, P, r, Q] float32.
        """
        total: np.ndarray = np.zeros((), np.float32)
        for stream, bank, weights in zip(streams, self._densities, self._weights, strict=True):
            scores = bank.log_densities(stream)  # [B, P, r, G]
            scores -= scores.max(axis=(1, 3), keepdims=True)  # the best density of the row counts 1
            np.maximum(scores, np.float32(-SCORE_FLOOR), out=scores)
            total = total + np.log(np.matmul(np.exp(scores, out=scores), weights))  # [B, P, r, Q]
        return total

    def _posteriors(self, scores: np.ndarray) -> np.ndarray:  # [B, P, r, Q] -> [B, r, F]
        phones = scores.max(axis=3).transpose(0, 2, 1)[..., self._order]  # a row is in one state of a phone
        soft = np.exp(np.float32(SCORE_WEIGHT) * (phones - phones.max(axis=2, keepdims=True)))
        num = self._num_silence
        soft = np.concatenate([soft[..., :num].max(axis=2, keepdims=True), soft[..., num:]], axis=2)
        return soft / soft.sum(axis=2, keepdims=True)


class _DensityBank:
    """Diagonal Gaussians as products: log N = [x^2, x, 1] . table, one small table for each phone.

    One large product would be cut among threads by the matrix library, which costs more than it saves and, on a busy
    machine, many times more.
    """

    def __init__(self, means: np.ndarray, variances: np.ndarray):  # [P, G, C]
        mean = means.astype(np.float64)
        precision = 1.0 / variances.astype(np.float64)
        constant = 0.5 * (np.log(precision) - mean**2 * precision - np.log(2 * np.pi)).sum(axis=2, keepdims=True)
        table = np.concatenate([-0.5 * precision, mean * precision, constant], axis=2)
        self._table = np.ascontiguousarray(table.transpose(0, 2, 1), np.float32)  # [P, 2 C + 1, G]

    def log_densities(self, values: np.ndarray) -> np.ndarray:  # [B, r, C] -> [B, P, r, G]
        design = np.concatenate([values**2, values, np.ones_like(values[..., :1])], axis=2)
        return np.matmul(design[:, None], self._table)


def _liftered_cosines() -> np.ndarray:  # [25, C]
    """Orthonormal DCT-II times the sinusoidal lifter."""
    order = np.arange(NUM_CEPSTRA)
    angles = np.pi * np.outer(np.arange(NUM_FILTERS) + 0.5, order) / NUM_FILTERS
    scale = np.sqrt(np.where(order == 0, 1.0, 2.0) / NUM_FILTERS)
    return np.cos(angles) * scale * (1.0 + LIFTER / 2 * np.sin(np.pi * order / LIFTER))


def _deltas(cepstra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # [B, r + 6, C] -> two of [B, r, C]
    def at(offset: int) -> np.ndarray:
        return cepstra[:, DELTA_ROWS + offset : cepstra.shape[1] - DELTA_ROWS + offset]

    first = at(2) - at(-2)
    second = (at(3) - at(-1)) - (at(1) - at(-3))
    return first.astype(np.float32), second.astype(np.float32)


def _running_means(state: PhoneState, cepstra: np.ndarray, gates: np.ndarray) -> np.ndarray:
    """The mean that each block's cepstra are compared with; a block counts itself.

    Args:
        cepstra: [B, r, C].
        gates: [B, r]; rows outside speech do not count.

    Returns:
        [B, C] float64.
    """
    sums = (cepstra * gates[..., None]).sum(axis=1)
    counts = gates.sum(axis=1).tolist()
    means = np.empty_like(sums)
    for index, count in enumerate(counts):
        total = state.weight + count
        state.mean = (state.mean * state.weight + sums[index]) / total
        state.weight = min(total, MEMORY_ROWS)
        means[index] = state.mean
    return means
