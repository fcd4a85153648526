"""A lease over the real queue: renewed by thread or event loop, carrying progress, lost with its job."""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.parse

import pytest

from cluster.state.lease import Lease
from cluster.state.store import StateStore
from m2dao.errors import LeaseLost
from tests.support.fault_proxy import FaultProxy
from tests.support.stack import reaching

WAIT_S = 30


@pytest.fixture
def claim(state, tenant):
    state.jobs.create(tenant, "render", {})
    return state.jobs.claim("render", worker="w", lease_s=60, tenant=tenant)


def wait_for(condition):
    """The condition's value once it is true."""
    end = time.monotonic() + WAIT_S
    while not (value := condition()):
        assert time.monotonic() < end
        threading.Event().wait(0.01)
    return value


def lost(lease):
    try:
        lease.check()
    except LeaseLost as error:
        return error
    return None


def test_progress_goes_out_with_the_next_heartbeat(state, claim):
    with Lease(state.jobs, claim, lease_s=60, beat_s=0.01) as lease:
        lease.tell("fit: step 3", 0.25)
        wait_for(lambda: state.jobs.get(claim.job.tenant, claim.job.id).stage == "fit: step 3")
        lease.tell("register")
        seen = wait_for(lambda: (job := state.jobs.get(claim.job.tenant, claim.job.id)).stage == "register" and job)
    assert seen.progress == 0.25


def test_work_that_says_nothing_keeps_its_claim_beyond_the_lease(state, claim):
    with Lease(state.jobs, claim, lease_s=0.6):
        first = wait_for(lambda: state.jobs.get(claim.job.tenant, claim.job.id)).updated_s
        wait_for(lambda: state.jobs.get(claim.job.tenant, claim.job.id).updated_s > first + 0.7)
        assert state.jobs.claim("render", worker="other", lease_s=60, tenant=claim.job.tenant) is None


def test_a_lease_that_ended_is_renewed_no_more(state, claim):
    with Lease(state.jobs, claim, lease_s=0.2):
        pass
    wait_for(lambda: state.jobs.claim("render", worker="other", lease_s=60, tenant=claim.job.tenant))


def test_work_on_a_cancelled_job_is_told_to_stop(state, claim):
    with Lease(state.jobs, claim, lease_s=60, beat_s=0.01) as lease:
        state.jobs.cancel(claim.job.tenant, claim.job.id)
        with pytest.raises(LeaseLost):  # noqa: PT012
            while True:
                lease.tell("rendering", 0.5)
        assert lost(lease)


def test_a_claim_kept_on_an_event_loop_is_renewed_until_it_is_stopped(state, claim):
    async def main():
        lease = Lease(state.jobs, claim, lease_s=0.6)
        keeping = asyncio.create_task(lease.keep())
        first = state.jobs.get(claim.job.tenant, claim.job.id).updated_s
        await asyncio.to_thread(
            wait_for, lambda: state.jobs.get(claim.job.tenant, claim.job.id).updated_s > first + 0.7
        )
        assert not keeping.done()
        lease.stop()
        async with asyncio.timeout(WAIT_S):
            await keeping

    asyncio.run(main())


def test_keeping_ends_by_itself_when_the_claim_is_lost(state, claim):
    async def main():
        lease = Lease(state.jobs, claim, lease_s=60, beat_s=0.01)
        state.jobs.cancel(claim.job.tenant, claim.job.id)
        async with asyncio.timeout(WAIT_S):
            await lease.keep()
        return lease

    assert lost(asyncio.run(main()))


@pytest.fixture
def behind_proxy(stack):
    port = urllib.parse.urlsplit(stack.require("redis.url")).port
    with FaultProxy(port) as proxy:
        state = StateStore(reaching(stack, redis_url=stack.require("redis.url").replace(f":{port}", f":{proxy.port}")))
        yield state, proxy
        state.close()


def test_an_outage_costs_nothing_but_the_news_that_went_missing(behind_proxy, state, claim):
    away, proxy = behind_proxy
    with Lease(away.jobs, claim, lease_s=0.6, beat_s=0.01) as lease:
        proxy.refuse()
        lease.tell("fit", 0.5)
        threading.Event().wait(0.8)  # longer than the lease
        lease.check()
        proxy.heal()
        wait_for(lambda: state.jobs.get(claim.job.tenant, claim.job.id).stage == "fit")


def test_who_has_no_patience_takes_a_long_silence_for_a_loss(behind_proxy, claim):
    away, proxy = behind_proxy
    proxy.refuse()
    with Lease(away.jobs, claim, lease_s=0.2, patience_s=0.2) as lease:
        error = wait_for(lambda: lost(lease))
    assert "heartbeats to arrive" in str(error)
