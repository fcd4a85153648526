"""A replica that cannot render is found out, and one that was given bad jobs is not."""

from __future__ import annotations

import pytest

from m2dao.errors import (
    CheckpointCorrupt,
    InputError,
    ObjectCorrupt,
    RenderBackendUnavailable,
    ServiceError,
    StorageUnavailable,
)
from serve_apps.rendering.health import MAX_FAILURES, Health

A_BUG = ZeroDivisionError("in the engine")


def works() -> None:
    pass


def test_failures_of_the_engine_in_a_row_make_a_replica_unhealthy():
    health = Health(works)
    for _ in range(MAX_FAILURES - 1):
        health.failed(A_BUG)
        health.check()
    health.failed(A_BUG)
    with pytest.raises(ServiceError, match="3 failures in a row"):
        health.check()


def test_a_render_that_is_done_in_between_clears_the_count():
    health = Health(works)
    for _ in range(3 * MAX_FAILURES):
        health.failed(A_BUG)
        health.succeeded()
    health.check()


@pytest.mark.parametrize(
    "error", [InputError("x"), ObjectCorrupt("x"), CheckpointCorrupt("x"), StorageUnavailable("x")], ids=repr
)
def test_faults_of_jobs_and_outages_say_nothing_about_a_replica(error):
    probed = []
    health = Health(lambda: probed.append(error))
    for _ in range(3 * MAX_FAILURES):
        health.failed(error)
    assert not probed
    health.check()


def test_a_replica_that_cannot_draw_a_single_frame_is_unhealthy_at_once():
    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    health = Health(broken)
    health.failed(A_BUG)
    with pytest.raises(ServiceError, match="illegal memory access"):
        health.check()
    health.succeeded()  # of a render that was under way
    with pytest.raises(ServiceError):
        health.check()


def test_a_replica_that_breaks_while_it_has_nothing_to_do_is_found_by_the_next_check():
    faults = []

    def draw() -> None:
        if faults:
            raise faults[-1]

    health = Health(draw)
    health.check()
    faults.append(RuntimeError("CUDA error: the device is lost"))
    for _ in range(3):  # as often as Serve wants to hear it
        with pytest.raises(ServiceError, match="the device is lost"):
            health.check()
    faults.clear()  # a moment without memory, say
    health.check()


def test_a_replica_without_its_backend_is_unhealthy_at_once():
    health = Health(works)
    health.failed(RenderBackendUnavailable("backend 'gsplat'"))
    with pytest.raises(ServiceError, match="gsplat"):
        health.check()
