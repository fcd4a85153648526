"""Brings pictures of high dynamic range (HLG, PQ) to BT.709, as a standard screen shows them.

White of a scene is 203 nits in both (ITU-R BT.2408). Up to there nothing changes but the code; what is brighter is
compressed into the rest.
"""

from __future__ import annotations

from fractions import Fraction

import av
import av.filter
import numpy as np

HLG, PQ = "hlg", "pq"
TRANSFERS = {16: PQ, 18: HLG}  # codes of ITU-T H.273; all others are standard dynamic range
WHITE_NITS = 203.0
HLG_PEAK_NITS, PQ_PEAK_NITS = 1000.0, 10_000.0
KNEE = 0.9  # of the code; brighter parts are compressed
TABLE_LEVEL = 6  # its square is the number of steps of each primary
_TIME_BASE = Fraction(1, 25)
_TO_BT709 = np.array(  # linear light of BT.2020 primaries
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]]
)


def transfer_of(code: int) -> str:
    """The name of a transfer characteristic: "hlg", "pq" or "bt709" for all others."""
    return TRANSFERS.get(code, "bt709")


def hlg_nits(code: np.ndarray) -> np.ndarray:
    """Light of a 1000 nits screen for HLG R'G'B' in 0..1 (ITU-R BT.2100), each primary by itself.

    So do screens of standard range and common converters. By luminance, as BT.2100 has it, saturated colours of the
    same scene come out paler than in its SDR twin.
    """
    scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    return HLG_PEAK_NITS * scene**1.2


def pq_nits(code: np.ndarray) -> np.ndarray:
    """Light for PQ R'G'B' in 0..1 (SMPTE ST 2084)."""
    power = np.maximum(code, 0.0) ** (1 / 78.84375)
    light = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
    return PQ_PEAK_NITS * light ** (1 / 0.1593017578125)


def to_bt709(nits: np.ndarray, peak_nits: float) -> np.ndarray:
    """R'G'B' of BT.709 in 0..1 for light [..., 3] of BT.2020 primaries."""
    linear = np.maximum(nits @ _TO_BT709.T / WHITE_NITS, 0.0)
    code = linear ** (1 / 2.4)
    room = 1.0 - KNEE
    most = ((peak_nits / WHITE_NITS) ** (1 / 2.4) - KNEE) / room
    over = np.maximum(code - KNEE, 0.0) / room
    # 1 at the brightest, slope 1 at the knee
    return np.minimum(np.where(code > KNEE, KNEE + room * over * (1 + over / most**2) / (1 + over), code), 1.0)


class ToneMapper:
    """Converts pictures of one transfer; keeps its filter while size and format stay."""

    def __init__(self, transfer: str):
        self._transfer = transfer
        self._key: tuple = ()
        self._num_pushed = 0
        self._source: av.filter.FilterContext
        self._sink: av.filter.FilterContext

    def rgb(self, frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
        """uint8 [H, W, 3] in BT.709, resized."""
        key = (frame.width, frame.height, frame.format.name, size)
        if key != self._key:
            self._build(frame, size)
            self._key = key
        frame.pts, frame.time_base = self._num_pushed, _TIME_BASE
        self._num_pushed += 1
        self._source.push(frame)
        converted = self._sink.pull()
        assert isinstance(converted, av.VideoFrame)
        return converted.to_ndarray(format="rgb24")

    def _build(self, frame: av.VideoFrame, size: tuple[int, int]) -> None:
        """A filter that looks colours up in a picture: where no file may be read, a table has no place."""
        graph, self._num_pushed = av.filter.Graph(), 0
        table = _table(self._transfer)
        self._source, table_source = graph.add("buffer", _shape(frame)), graph.add("buffer", _shape(table))
        scale = graph.add("scale", f"{size[0]}:{size[1]}:flags=area+accurate_rnd:in_color_matrix=bt2020")
        deep, table_deep = graph.add("format", "rgb48"), graph.add("format", "rgb48")
        look_up, plain = graph.add("haldclut", "interp=tetrahedral:clut=first"), graph.add("format", "rgb24")
        self._sink = graph.add("buffersink")
        for one, other in (
            (self._source, scale),
            (scale, deep),
            (deep, look_up),
            (look_up, plain),
            (plain, self._sink),
        ):
            one.link_to(other)
        table_source.link_to(table_deep)
        table_deep.link_to(look_up, 0, 1)
        graph.configure()
        self._graph = graph  # it owns the filters
        table.pts, table.time_base = 0, _TIME_BASE
        table_source.push(table)
        table_source.push(None)


def _shape(frame: av.VideoFrame) -> str:
    """What a filter must know of its pictures."""
    size = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
    return f"{size}:time_base={_TIME_BASE.numerator}/{_TIME_BASE.denominator}:pixel_aspect=1/1"


def _table(transfer: str) -> av.VideoFrame:
    """The conversion as a picture whose pixels count through all colours, red fastest."""
    num_steps = TABLE_LEVEL**2
    steps = np.linspace(0, 1, num_steps)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    code = np.stack([red, green, blue], -1).reshape(-1, 3)
    nits, peak = (hlg_nits(code), HLG_PEAK_NITS) if transfer == HLG else (pq_nits(code), PQ_PEAK_NITS)
    colours = np.round(to_bt709(nits, peak) * 65_535).astype(np.uint16)
    return av.VideoFrame.from_ndarray(colours.reshape(TABLE_LEVEL**3, TABLE_LEVEL**3, 3), format="rgb48le")
