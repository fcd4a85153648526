"""Shares a kernel's work between threads, and waits for no thread that got no processor.

A kernel takes numbered pieces of work from a queue (``simd.fetch_add``) until none is left. The calling thread runs
the kernel itself; helpers run it too if they get to it in time. When the caller finds the queue empty it waits only
for pieces that helpers have begun, and calls off helpers that have not. So on a busy machine (two fits on two cores, a
server rendering several requests) a call costs what it costs on one thread, where the barrier of a parallel loop
would wait for the scheduler. For the same reason nothing here depends on OpenMP.

Kernels must release the GIL, and what they write must not depend on who took which piece.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")
_chosen: int | None = None
_inside = threading.local()  # .share: threads that kernels of this thread may use, where others work beside it


def set_num_threads(count: int | None) -> None:
    """Let kernels of this process use ``count`` threads; None for the default of :func:`get_num_threads`.

    PyTorch's own count is another matter, see :func:`one_torch_thread`.
    """
    global _chosen
    _chosen = count


def get_num_threads() -> int:
    """What was set, else ``NUMBA_NUM_THREADS``, else the cores this process may run on.

    Inside of :func:`call_together`, a call's share of it.
    """
    if (share := getattr(_inside, "share", None)) is not None:
        return share
    if _chosen is not None:
        return _chosen
    asked = os.environ.get("NUMBA_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else len(os.sched_getaffinity(0))


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """Keep PyTorch's own operations on one thread inside.

    The tensors of our models are small: sharing an operation on them costs more than doing it. With two threads of
    PyTorch's own, a fit makes half the steps that it makes with one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def share_out(kernel, *args, max_threads: int) -> None:
    """Runs ``kernel(queue, *args)`` on up to ``max_threads`` and ``get_num_threads()`` threads.

    Args:
        kernel: Numba function compiled with ``nogil=True``; its first argument is the queue, int64 [1].
        max_threads: how many threads are worth waking for this much work.
    """
    queue = np.zeros(1, np.int64)
    num_helpers = min(get_num_threads(), max_threads) - 1
    if num_helpers < 1:
        kernel(queue, *args)
        return
    pool = _pool(os.getpid())
    helpers = [pool.submit(kernel, queue, *args) for _ in range(num_helpers)]
    try:
        kernel(queue, *args)
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()


def call_together(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Results of independent functions, called on up to ``get_num_threads()`` threads.

    For PyTorch's operations and other code that releases the GIL. As in :func:`share_out`, nobody waits for a thread
    that has not begun.
    """
    if get_num_threads() < 2 or len(calls) < 2:
        return [call() for call in calls]
    shared = [functools.partial(_call_with, max(1, get_num_threads() // len(calls)), call) for call in calls]
    pool = _pool(os.getpid())
    helped = [pool.submit(_on_one_torch_thread, call) for call in shared[1:]]
    try:
        results = [shared[0]()]
        # Helpers begin with the first of theirs, the caller goes on with the last.
        own = {at: shared[at + 1]() for at in reversed(range(len(helped))) if helped[at].cancel()}
        return results + [own[at] if at in own else future.result() for at, future in enumerate(helped)]
    finally:  # after an error too, nothing goes on behind the caller's back
        wait([future for future in helped if not future.cancel()])


def _on_one_torch_thread(call: Callable[[], T]) -> T:
    """On a helper: every thread has its own number of PyTorch's threads, and sums depend on it."""
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)
    return call()


def _call_with(share: int, call: Callable[[], T]) -> T:
    before, _inside.share = getattr(_inside, "share", None), share
    try:
        return call()
    finally:
        _inside.share = before


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Helpers for all callers of a process; by process, because threads do not survive a fork."""
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 2) - 1), thread_name_prefix="render")


CHUNK = 512  # Gaussians per piece of work; fixed, so that sums do not depend on the number of threads
