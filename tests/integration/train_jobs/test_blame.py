"""The death of a worker is charged to its fit, and told without the name of a person in the text."""

from __future__ import annotations

from cluster.platform import Platform
from tests.support.fits import Fits
from train_jobs.blame import BlameCallback


def test_the_line_about_a_dead_worker_names_the_person_in_a_field_only(stack, tenant, tmp_path, caplog):
    fits = Fits(Platform(stack), tenant, tmp_path)
    jobs, fit = fits.platform.state.jobs, fits.queue("bertbrown")
    claim = jobs.claim("fit", worker="x", lease_s=30, tenant=tenant, job_id=fit)
    BlameCallback(fits.spec(fit), 0)._blame(jobs, claim)
    (line,) = (each for each in caplog.records if each.name == "train_jobs.blame")
    assert "bertbrown" not in line.getMessage()
    assert line.identity == "bertbrown"
    assert fits.job(fit).status == "queued"
