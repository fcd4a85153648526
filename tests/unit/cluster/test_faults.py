"""Whose fault a failure is, and how long to wait after one of ours."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.faults import Backoff, times_to_put_off
from m2dao import errors


@pytest.mark.parametrize(
    "error",
    [
        errors.StorageUnavailable("s3"),
        errors.RegistryUnavailable("mlflow"),
        errors.StateUnavailable("redis"),
        errors.AccessRefused("s3"),
        errors.RenderBackendUnavailable("gsplat"),
        errors.ConfigError("a setting"),
        errors.CheckpointCorrupt("a folder"),
        errors.AssetUnavailable("a model file"),
        OSError(errno.ENOSPC, "no space left on device"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_ours_is_put_off(error):
    assert times_to_put_off(error) > 0


def test_a_format_that_only_another_release_reads_is_waited_for_longer_than_a_damaged_file():
    """While both releases take renders from one queue; a render may meet the wrong one several times."""
    assert times_to_put_off(errors.CheckpointUnsupported("x")) > times_to_put_off(errors.CheckpointCorrupt("x"))


@pytest.mark.parametrize(
    "error",
    [
        errors.InputError("x"),
        errors.MediaError("x"),
        errors.UnknownIdentity("x"),
        errors.ObjectCorrupt("x"),
        errors.FitDiverged("x"),
        ZeroDivisionError(),
        FileNotFoundError(errno.ENOENT, "no such file"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_the_jobs_own_counts(error):
    assert times_to_put_off(error) == 0


def test_what_will_not_mend_itself_is_put_off_less_often_than_an_outage():
    damaged, away = (times_to_put_off(each) for each in (errors.CheckpointCorrupt("x"), errors.StorageUnavailable("x")))
    assert damaged < away


@given(st.integers(0, 10_000), st.floats(0.001, 100), st.floats(0.001, 100))
def test_waits_double_up_to_the_longest_and_are_never_cut_by_more_than_half(num_before, base_s, max_s):
    whole_s = min(max_s, base_s * 2.0 ** min(num_before, 100))
    assert 0.5 * min(whole_s, max_s) * 0.999 <= Backoff(base_s=base_s, max_s=max_s).wait_s(num_before) <= whole_s
