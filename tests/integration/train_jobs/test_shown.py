"""What is seen of a fit while it runs, and what its version tells of how it was made."""

from __future__ import annotations

import time

import pytest

from cluster.control.fit_requests import FitRequest
from cluster.control.lineage import running_commit
from cluster.ids import ModelRef
from cluster.platform import Platform
from m2dao.formats import ENGINE_VERSION
from tests.support.fits import Fits
from tests.support.small_work import small_fit


@pytest.fixture
def fits(stack, tenant, tmp_path):
    return Fits(Platform(stack), tenant, tmp_path)


def test_a_running_fit_shows_its_last_figures_and_pictures(fits):
    fit_id = fits.queue("anna", steps=2)
    shown = []

    def work(task, monitor):
        class Watched:
            stage, capture_ready = monitor.stage, monitor.capture_ready

            @staticmethod
            def step(number, values):
                monitor.step(number, values)
                if not shown:  # pictures are sent beside the fit
                    deadline = time.monotonic() + 60
                    with fits.platform.state.events.subscribe(jobs=(fits.tenant, "fit")) as changes:
                        while len(fits.job(fit_id).figures.get("pictures", {})) < 2 and time.monotonic() < deadline:
                            changes.get(timeout_s=1.0)
                    shown.append(fits.job(fit_id))

        return small_fit(task, Watched())

    fits.worker(fit_id, work=work).run()
    assert shown[0].figures["metrics"] == {"step": 1.0, "loss": 1.0}
    assert set(shown[0].figures["pictures"]) == {"contact_sheet.jpg", "strip.jpg"}
    key = FitRequest.of(shown[0]).picture_key(shown[0], "strip.jpg")
    assert key == f"{fits.tenant}/identities/anna/{fit_id}/strip.jpg"
    assert fits.platform.store.get_bytes(key) == b"anna at 1"
    assert fits.job(fit_id).status == "done"


def test_a_version_tells_the_settings_and_the_code_that_made_it(fits):
    fit_id = fits.queue("anna", request={"consent": "A. Smith signed release 117"})
    fits.worker(fit_id).run()
    (details,) = fits.platform.state.versions.details([ModelRef.parse(fits.job(fit_id).result["ref"])])
    tags = details.tags
    assert (tags["seed"], tags["minutes"], tags["engine"]) == ("0", "10.0", str(ENGINE_VERSION))
    assert tags.get("commit", "") == running_commit()
    assert tags["consent"] == "A. Smith signed release 117"
