"""What a fit tells people who watch it."""

from __future__ import annotations

import pytest

from cluster.platform import Platform
from cluster.telemetry.scope import working_for
from tests.support.fits import Fits
from tests.support.telemetry.log_lines import log_lines


@pytest.fixture
def fits(stack, tenant, tmp_path):
    return Fits(Platform(stack), tenant, tmp_path)


def test_every_line_written_for_a_fit_tells_its_request_tenant_and_job(fits):
    with working_for(request="q-1"):
        fit_id = fits.queue("anna", fail="rejected")
    with log_lines("fit") as lines:
        fits.worker(fit_id).run()
    told = [line for line in lines() if line["logger"].startswith("train_jobs")]
    assert told
    assert {(line["request"], line["tenant"], line["job"]) for line in told} == {("q-1", str(fits.tenant), str(fit_id))}
