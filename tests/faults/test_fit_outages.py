"""Outages while fits run: the fit waits uncharged, and goes on where it was."""

from __future__ import annotations

import threading
import urllib.parse

import pytest

from cluster.platform import Platform
from tests.support.fault_proxy import FaultProxy
from tests.support.fits import Fits
from tests.support.small_work import small_fit
from tests.support.stack import reaching
from train_jobs.worker import BatchWorker


@pytest.fixture
def fits(stack, tenant, tmp_path):
    return Fits(Platform(stack), tenant, tmp_path)


def test_an_outage_at_registration_is_no_attempt_of_the_fit(stack, fits):
    address = stack.require("mlflow.url")
    port = urllib.parse.urlsplit(address).port
    with FaultProxy(port) as proxy:
        through = address.replace(f":{port}", f":{proxy.port}")
        platform = Platform(reaching(stack, mlflow_url=through, jobs_retry_base_s="0.01", jobs_retry_max_s="0.1"))
        fit_id = fits.queue("anna")
        outages = []

        def work(task, monitor):
            outcome = small_fit(task, monitor)
            if not outages:
                outages.append(fit_id)
                proxy.refuse()
            return outcome

        def heal():
            with fits.platform.state.events.subscribe(job=(fits.tenant, fit_id)) as changes:
                while fits.job(fit_id).num_put_off < 2:
                    changes.get(0.05)
            proxy.heal()

        healer = threading.Thread(target=heal)
        healer.start()
        spec = fits.spec(fit_id)
        worker = BatchWorker(platform, spec, work, rank=1, generation="g0", scratch=fits.folder / "scratch")
        assert worker.run() >= 2
        healer.join(60)
    job = fits.job(fit_id)
    assert (job.status, job.attempt) == ("done", 1)
    assert job.num_put_off >= 2
    assert fits.events("anna").count("prepare") == 1
    begun_at = [event for event in fits.events("anna") if event.startswith("from")]
    assert begun_at == sorted(begun_at)  # from the copies of its steps
