"""How the sound of a film is stored: as it was sent, up to 48 kHz stereo."""

from __future__ import annotations

from dataclasses import dataclass

from m2dao.timeline import SAMPLE_RATE

MAX_RATE = 48_000
MAX_CHANNELS = 2
AAC_RATES = (8000, 11_025, 12_000, SAMPLE_RATE, 22_050, 24_000, 32_000, 44_100, MAX_RATE)
MONO_BITS_PER_S, STEREO_BITS_PER_S = 96_000, 192_000


@dataclass(frozen=True)
class SoundFormat:
    """Samples per second, one of `AAC_RATES`, and channels, 1 or 2."""

    sample_rate: int = SAMPLE_RATE
    num_channels: int = 1

    @classmethod
    def nearest(cls, sample_rate: int, num_channels: int) -> SoundFormat:
        """What keeps most of a sound of any rate and number of channels."""
        rate = next((rate for rate in AAC_RATES if rate >= sample_rate), MAX_RATE)
        return cls(rate, min(max(num_channels, 1), MAX_CHANNELS))

    @property
    def layout(self) -> str:
        return "mono" if self.num_channels == 1 else "stereo"

    @property
    def bits_per_s(self) -> int:
        return MONO_BITS_PER_S if self.num_channels == 1 else STEREO_BITS_PER_S
