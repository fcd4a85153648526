"""Measures the most Gaussian-pixel pairs that this machine's cores could blend."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from m2dao.kernels.threads import get_num_threads
from m2dao.render import cpu_project, cpu_raster
from m2dao.render.cpu_bins import TILE_HEIGHT, TILE_WIDTH
from m2dao.render.cpu_tiles import new_scratch

_NUM_GAUSSIANS = 4000


def machine_pairs_per_s(*, num_rounds: int = 5) -> float:
    """Pairs per second of the blending loop alone, on all threads at once, the best of some rounds.

    One tile in the first-level cache, every Gaussian covering all of it, none ever opaque. There is no projecting,
    sorting, short row or partly covered tile.
    """
    records = np.zeros((_NUM_GAUSSIANS, cpu_project.RECORD_COLOR + 4), np.float32)
    records[:, cpu_project.RECORD_MEAN_X], records[:, cpu_project.RECORD_MEAN_Y] = TILE_WIDTH / 2, TILE_HEIGHT / 2
    records[:, cpu_project.RECORD_LOG_OPACITY] = cpu_project.LOG2_ALPHA_MIN + 0.001  # just visible everywhere
    boxes = np.tile(np.array([0, TILE_WIDTH, 0, TILE_HEIGHT], np.int32), (_NUM_GAUSSIANS, 1))
    ids = np.arange(_NUM_GAUSSIANS, dtype=np.int32)
    # A little of the tile stays visible through so many Gaussians; fresh scratch for each pass.
    ids = ids[: int(0.5 * np.log(cpu_raster.TRANSMITTANCE_MIN) / np.log(1 - 2.0 ** float(cpu_project.LOG2_ALPHA_MIN)))]
    num_passes = max(1, _NUM_GAUSSIANS // len(ids))

    def work() -> None:
        scratch = new_scratch(6)
        for _ in range(num_passes):
            cpu_raster._forward_tile(scratch, ids, records, boxes, 0, 0, TILE_HEIGHT, TILE_WIDTH, 4)

    work()  # compiled
    num_threads, best_s = get_num_threads(), float("inf")
    with ThreadPoolExecutor(num_threads) as pool:
        for _ in range(num_rounds):
            began = time.perf_counter()
            for done in [pool.submit(work) for _ in range(num_threads)]:
                done.result()
            best_s = min(best_s, time.perf_counter() - began)
    return num_threads * num_passes * len(ids) * TILE_WIDTH * TILE_HEIGHT / best_s
