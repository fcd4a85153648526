"""A worker with a GPU is asked for a frame before it is given a fit, and after each that failed."""

from __future__ import annotations

import pytest

from m2dao.errors import RenderBackendUnavailable
from train_jobs.worker import probe_of


def test_a_worker_that_should_have_a_gpu_and_has_none_says_so(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(RenderBackendUnavailable, match="needs a CUDA device"):
        probe_of("gsplat")()


def test_whatever_cuda_says_of_a_sick_gpu_is_no_fault_of_the_fit(monkeypatch):
    def broken(backend):
        raise RuntimeError("CUDA error: the device is lost")

    monkeypatch.setattr("m2dao.render.cuda.require_cuda", lambda: None)
    monkeypatch.setattr("m2dao.identity.renderers.probe", broken)
    with pytest.raises(RenderBackendUnavailable, match="the device is lost"):
        probe_of("gsplat")()


def test_a_worker_that_renders_by_the_cpu_looks_at_no_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: 1 / 0)
    probe_of("cpu")()
