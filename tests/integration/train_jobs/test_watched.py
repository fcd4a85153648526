"""What a fit tells people who watch it."""

from __future__ import annotations

import pytest

from cluster.control.fit_controller import FitController
from cluster.control.fit_requests import FitOptions
from cluster.control.fits import FitService
from cluster.platform import Platform
from cluster.telemetry.scope import working_for
from tests.support.fits import Fits
from tests.support.serve import probing
from tests.support.telemetry.log_lines import log_lines
from tests.support.telemetry.spans import own_spans


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


def test_a_fit_is_one_trace_from_its_acceptance_to_the_commit(fits, tmp_path):
    platform = fits.platform
    service = FitService(state=platform.state, store=platform.store)
    with own_spans() as seen, probing(platform, tmp_path / "disk"):
        (job,) = service.submit(
            fits.tenant, [fits.recording("anna")], FitOptions(protocols=("paper",)), promote=True
        ).jobs
        FitController(platform.state.jobs, Cluster()).start()
        fits.worker(job.fit_id).run()
        spans = seen.having("accept", "submit", "queue", "attempt")
    assert fits.job(job.fit_id).status == "done"
    (accept,) = (span for span in spans if span.name == "accept")
    (attempt,) = (span for span in spans if span.name == "attempt")
    ours = [span for span in spans if span.trace == accept.trace]
    assert sorted(span.name for span in ours if span.parent == accept.id) == ["attempt", "queue", "submit"]
    stages = ["commit", "evaluate", "fetch", "fit", "prepare", "promote", "register"]
    assert sorted(span.name for span in ours if span.parent == attempt.id) == stages
    assert {(span["tenant"], span["job"]) for span in ours} == {(str(fits.tenant), str(job.id))}


def test_each_attempt_of_a_fit_is_a_span_of_its_trace_and_tells_why_it_failed(fits):
    fit_id = fits.queue("anna", fail="rejected")
    with own_spans() as seen:
        fits.worker(fit_id).run()
        (attempt,) = (span for span in seen.having("attempt") if span.name == "attempt")
    assert (attempt["attempt"], attempt.failed) == (1, True)
    assert attempt.attributes["error.type"] == fits.job(fit_id).error.code


class Cluster:
    """A cluster that takes every job and runs none."""

    def submit(self, batch, words, env):
        return f"{batch}-1"

    def last(self, batch):
        return None

    def state(self, submission_id):
        raise AssertionError("nobody asks")
