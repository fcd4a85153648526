"""Windows: which rows each frame looks at, whole and streamed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from m2dao.audio.windows import WindowShape, WindowStream, audio_windows, windows_of_frames
from m2dao.errors import ConfigError, InputError


def numbered_rows(num_rows: int) -> np.ndarray:  # row r holds the number r
    return np.arange(num_rows, dtype=np.float32)[:, None]


def test_the_default_window_is_centred_on_the_instant_the_frame_shows():
    windows = audio_windows(numbered_rows(40), 10, frames_per_window=4)
    assert windows.shape == (10, 16, 1)
    np.testing.assert_array_equal(windows[5, :, 0], np.arange(20 - 8, 20 + 8))


def test_lookahead_frames_sets_the_rows_after_the_instant():
    windows = audio_windows(numbered_rows(40), 10, frames_per_window=4, lookahead_frames=1)
    np.testing.assert_array_equal(windows[5, :, 0], np.arange(20 - 12, 20 + 4))
    assert WindowShape(rows_per_frame=4, frames_per_window=4, lookahead_frames=1).lookahead_s == 0.04
    assert WindowShape(rows_per_frame=4, frames_per_window=4).lookahead_s == 0.08


def test_the_first_and_last_rows_are_repeated_beyond_the_ends():
    windows = audio_windows(numbered_rows(10), 5, frames_per_window=4)
    np.testing.assert_array_equal(windows[0, :, 0], [0, 0, 0, 0, 0, 1, 2, 3])
    np.testing.assert_array_equal(windows[4, :, 0], [4, 5, 6, 7, 8, 9, 9, 9])


def test_tensors_give_the_values_of_arrays():
    rows = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
    windows = audio_windows(torch.from_numpy(rows), 6, frames_per_window=5)
    np.testing.assert_array_equal(windows.numpy(), audio_windows(rows, 6, frames_per_window=5))


def test_windows_of_chosen_frames_are_those_of_all_frames():
    rows = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
    every = audio_windows(rows, 6, frames_per_window=3)
    chosen = windows_of_frames(rows, np.array([[5, 0], [2, 9]]), num_frames=6, frames_per_window=3)
    np.testing.assert_array_equal(chosen, every[[[5, 0], [2, 5]]])  # beyond the end means the last frame


@pytest.mark.parametrize("lookahead_frames", [None, 0, 1, 7])
@pytest.mark.parametrize("frames_per_window", [7, 8])
@pytest.mark.parametrize("num_frames", [1, 3, 40])
def test_streamed_windows_are_those_of_the_file(num_frames, frames_per_window, lookahead_frames):
    rng = np.random.default_rng(num_frames)
    rows = rng.normal(size=(num_frames * 4, 5)).astype(np.float32)
    shape = WindowShape(rows_per_frame=4, frames_per_window=frames_per_window, lookahead_frames=lookahead_frames)
    stream = WindowStream(shape, dim=5)
    windows = []
    start = 0
    while start < len(rows):
        size = int(rng.integers(0, 14))
        windows.append(stream.push(rows[start : start + size]))
        start += size
    windows.append(stream.finish())
    np.testing.assert_array_equal(
        np.concatenate(windows),
        audio_windows(rows, num_frames, frames_per_window=frames_per_window, lookahead_frames=lookahead_frames),
    )


def test_a_window_comes_out_with_its_last_row():
    stream = WindowStream(WindowShape(rows_per_frame=4, frames_per_window=4), dim=1)
    rows = numbered_rows(100)
    assert len(stream.push(rows[:7])) == 0
    assert len(stream.push(rows[7:8])) == 1  # frame 0 looks at 8 rows after its instant
    assert len(stream.push(rows[8:11])) == 0
    assert len(stream.push(rows[11:12])) == 1


def test_rows_that_do_not_divide_among_frames_are_refused():
    with pytest.raises(InputError, match="10 rows for 4 frames"):
        audio_windows(numbered_rows(10), 4, frames_per_window=2)


def test_a_lookahead_longer_than_the_window_is_refused():
    with pytest.raises(ConfigError, match="between 0 and 4"):
        WindowShape(rows_per_frame=4, frames_per_window=4, lookahead_frames=5)
