"""Webhooks are told of everything that happened, whoever dies and whoever does not answer."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from standardwebhooks.webhooks import Webhook as Verifier

from cluster.ids import IdentityName, ModelRef, TenantId, WebhookId
from cluster.keeper.webhooks_chore import WebhooksChore
from cluster.platform import Platform
from cluster.settings import Settings
from cluster.state.problems import Problem
from cluster.state.resources.recordings import RoomFor
from cluster.state.resources.webhooks import Delivery, Outcome, Webhook
from cluster.state.store import StateStore
from cluster.state.versions import VersionFacts
from m2dao.errors import UnknownWebhook
from tests.support.webhooks.receiver import WAIT_S, Receiver, receiving, say

ANNA = IdentityName("anna")


def hooked(state: StateStore, tenant: TenantId, url: str = "https://a.example/", *events: str) -> Webhook:
    return state.webhooks.make(tenant, url, events, note="", most=20)


def rendered(state: StateStore, tenant: TenantId) -> str:
    """The id of a render that is done."""
    job, _ = state.jobs.create(tenant, "render", {"ref": f"{tenant}.anna@3"})
    claim = state.jobs.claim("render", worker="w", lease_s=60, tenant=tenant, job_id=job.id)
    state.jobs.finish(claim, {})
    return str(job.id)


def told(state: StateStore, webhook: Webhook) -> list[tuple[str, str]]:
    """Everything that a webhook is told, the oldest first, as types and data."""
    found, _ = state.webhooks.deliveries(webhook.tenant, webhook.id, state=None, limit=100)
    return [(delivery.type, delivery.data) for delivery in reversed(found)]


class Holding:
    """A keeper's lease that nobody takes."""

    def check(self) -> None: ...


@contextlib.contextmanager
def telling(settings: Settings, **more: str) -> Iterator[None]:
    """Do the chore again and again in a thread."""
    allowing = settings.with_env({"M2DAO_WEBHOOKS_ALLOW_PRIVATE": "1", **more})
    chore, over = WebhooksChore(Platform(allowing)), threading.Event()

    def work() -> None:
        while not over.wait(0.02):
            chore.do(Holding())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(WAIT_S)


def until_settled(state: StateStore, delivery: Delivery, num_tries: int = 1) -> Delivery:
    """A delivery once so many tries have ended; the receiver has seen them before we note them."""
    over = threading.Event()
    for _ in range(WAIT_S * 50):
        found = state.webhooks.delivery(delivery.tenant, delivery.id)
        if found.tried_s is not None and found.num_tries >= num_tries:
            return found
        over.wait(0.02)
    raise AssertionError(f"{found} was not settled")


# -- what is told -------------------------------------------------------------------------------------------------


def test_every_end_of_a_job_is_told(state, tenant):
    webhook, ends = hooked(state, tenant), []
    for kind, request in (("render", {"ref": f"{tenant}.anna@3"}), ("fit", {"identity": "anna"})):
        for end in ("done", "failed", "cancelled", "lost"):
            job, _ = state.jobs.create(tenant, kind, request, max_attempts=1)
            claim = state.jobs.claim(kind, worker="w", lease_s=60, tenant=tenant, job_id=job.id)
            if end == "done":
                state.jobs.finish(claim, {})
            elif end == "failed":
                state.jobs.fail(claim, Problem(code="no-face"))
            elif end == "cancelled":
                state.jobs.cancel(tenant, job.id)
            else:
                state._link.call("ZADD", f"{tenant}:leases:{kind}", 1, str(job.id))
                state.jobs.requeue_expired(kind)
            ends.append(f"{kind}.{'failed' if end == 'lost' else end}")
    found = told(state, webhook)
    assert [what for what, _ in found] == ends
    assert '"error":"no-face"' in found[1][1]
    assert '"version":3' in found[0][1]
    assert all('"identity":"anna"' in data for _, data in found)


def test_what_is_tried_again_is_not_told(state, tenant):
    webhook = hooked(state, tenant)
    job, _ = state.jobs.create(tenant, "render", {})
    for act in (
        lambda claim: state.jobs.fail(claim, Problem(code="x"), retry=True),
        lambda claim: state.jobs.release(claim),
        lambda claim: state.jobs.put_off(claim, Problem(code="x"), most=3),
    ):
        act(state.jobs.claim("render", worker="w", lease_s=60, tenant=tenant, job_id=job.id))
    assert told(state, webhook) == []


def test_stages_of_fits_moves_and_recordings_are_told(state, tenant):
    webhook = hooked(state, tenant)
    job, _ = state.jobs.create(tenant, "fit", {"identity": "anna"})
    claim = state.jobs.claim("fit", worker="w", lease_s=60, tenant=tenant, job_id=job.id)
    for stage in ("fetch", "prepare", "fit: step 1", "fit: step 2"):
        state.jobs.heartbeat(claim, lease_s=60, stage=stage)
    ref = ModelRef(tenant, ANNA, 1)
    state.versions.commit(ref, VersionFacts(files_sha256="a" * 64, num_bytes=3))
    state.champions.promote(ref)
    room = RoomFor(num_bytes=100, num_uploads=2, upload_s=60)
    for number, end in enumerate(("ready", "refused")):
        record = state.recordings.create(tenant, name="a", num_bytes=9, sha256=str(number) * 64, room=room)
        record = state.recordings.to_checking(record)
        if end == "ready":
            state.recordings.to_ready(state.recordings.to_moving(record, {}), keep_s=60)
        else:
            state.recordings.to_refused(record, Problem(code="unreadable-media"), keep_s=60)
    found = told(state, webhook)
    assert [what for what, _ in found] == ["fit.stage"] * 3 + ["champion.moved", "recording.ready", "recording.refused"]
    assert '"stage":"fit"' in found[2][1]
    assert '"version":1' in found[3][1]
    assert '"error":"unreadable-media"' in found[5][1]


def test_a_webhook_is_told_what_it_wants_and_of_its_own_tenant_only(state, tenant):
    other = TenantId(f"{tenant}-o")
    state.accounts.create_tenant(other)
    everything, some, foreign = (
        hooked(state, tenant),
        hooked(state, tenant, "https://b.example/", "render.failed", "fit.done"),
        hooked(state, other),
    )
    rendered(state, tenant)
    assert [len(told(state, webhook)) for webhook in (everything, some, foreign)] == [1, 0, 0]


def test_a_webhook_that_nobody_can_tell_takes_bounded_memory(state, tenant):
    webhook = hooked(state, tenant)
    outbox = f"{tenant}:outbox:{webhook.id}"
    pairs = [word for number in range(10_000) for word in (number + 10**18, f"x{number}")]
    state._link.call("ZADD", outbox, *pairs)
    rendered(state, tenant)
    assert state._link.call("ZCARD", outbox) == 10_000
    assert state.webhooks.get(tenant, webhook.id).num_dropped == 1


# -- how it is told -----------------------------------------------------------------------------------------------


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def only(state: StateStore, webhook: Webhook) -> Delivery:
    (found,), _ = state.webhooks.deliveries(webhook.tenant, webhook.id, state=None)
    return found


def test_an_event_is_told_once_when_the_receiver_has_taken_it(stack, state, tenant, receiver):
    webhook = hooked(state, tenant, receiver.url)
    name = rendered(state, tenant)
    with telling(stack):
        sent = receiver.next()
        found = until_settled(state, only(state, webhook))
    assert (found.state, found.num_tries, found.status) == ("delivered", 1, 204)
    assert Verifier(webhook.secrets[0]).verify(sent.body, sent.headers)["data"]["id"] == name
    assert receiver.came.empty()
    assert (tenant, webhook.id) not in list(state.webhooks.due())


def test_what_failed_is_told_again_after_a_wait_and_can_be_replayed_at_once(stack, state, tenant, receiver):
    receiver.answer = say(500)
    webhook = hooked(state, tenant, receiver.url)
    rendered(state, tenant)
    with telling(stack):
        first = receiver.next()
        failed = until_settled(state, only(state, webhook))
        assert (failed.state, failed.status, failed.num_failures) == ("waiting", 500, 1)
        receiver.answer = say(200)
        state.webhooks.replay(tenant, failed.id)
        second = receiver.next()
        found = until_settled(state, failed, num_tries=2)
    while found.state == "waiting":  # between the claim of the second try and its end
        found = until_settled(state, failed, num_tries=2)
    assert found.state == "delivered"
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)


def test_a_delivery_that_fails_too_often_is_dead_and_can_be_replayed(stack, state, tenant, receiver):
    receiver.answer = say(503)
    webhook = hooked(state, tenant, receiver.url)
    rendered(state, tenant)
    state._link.call("HSET", f"{tenant}:delivery:{only(state, webhook).id}", "failures", 16)
    with telling(stack):
        receiver.next()
        dead = until_settled(state, only(state, webhook))
        assert dead.state == "dead"
        assert state.webhooks.deliveries(tenant, webhook.id, state="dead")[0] == [dead]
        receiver.answer = say(200)
        assert state.webhooks.replay(tenant, dead.id).num_failures == 0
        assert receiver.next().headers["webhook-id"] == str(dead.id)


def test_waits_grow_from_seconds_to_a_day():
    from cluster.keeper.webhooks_chore import _BACKOFF, _MOST_TRIES

    waits = [_BACKOFF.wait_s(number) for number in range(_MOST_TRIES)]
    assert 2.5 <= waits[0] <= 5
    assert 12 * 3600 <= waits[-1] <= 24 * 3600


def test_both_secrets_sign_for_the_overlap_and_then_the_new_one(state, tenant):
    old = hooked(state, tenant)
    new = state.webhooks.rotate(tenant, old.id, overlap_s=3600)
    assert new.secrets == (new.secrets[0], *old.secrets)
    assert new.secrets[0] not in old.secrets
    last = state.webhooks.rotate(tenant, old.id, overlap_s=0)
    assert len(last.secrets) == 1


def test_a_deleted_webhook_is_told_no_more_and_nothing_of_it_is_left(stack, state, tenant, receiver):
    webhook = hooked(state, tenant, receiver.url)
    rendered(state, tenant)
    state.webhooks.delete(tenant, webhook.id)
    assert [key for key in state._link.scan(f"{tenant}:*") if str(webhook.id)[3:] in key] == []
    with pytest.raises(UnknownWebhook):
        state.webhooks.delete(tenant, webhook.id)
    other = hooked(state, tenant, receiver.url)
    rendered(state, tenant)
    with telling(stack):
        assert receiver.next().headers["webhook-id"].startswith("dl-" + str(other.id)[3:])
    assert receiver.came.empty()


def test_what_a_deleted_tenant_was_to_be_told_holds_up_nobody(stack, state, tenant, receiver):
    gone = TenantId(f"{tenant}-g")
    state.accounts.create_tenant(gone)
    webhook = hooked(state, gone, receiver.url)
    rendered(state, gone)
    state.accounts.delete_tenant(gone)
    hooked(state, tenant, receiver.url)
    rendered(state, tenant)
    with telling(stack):
        receiver.next()
        for _ in range(WAIT_S * 50):
            if (gone, webhook.id) not in list(state.webhooks.due()):
                break
            threading.Event().wait(0.02)
    assert (gone, webhook.id) not in list(state.webhooks.due())
    assert receiver.came.empty()


def test_endpoints_that_do_not_answer_hold_up_their_own_tenant_only(stack, state, tenant, receiver):
    slow = [TenantId(f"{tenant}-s{number}") for number in range(3)]
    with receiving() as dead:
        dead.answer = dead.wait
        for name in slow:
            state.accounts.create_tenant(name)
            for _ in range(4):
                hooked(state, name, dead.url)
            for _ in range(3):
                rendered(state, name)
        with telling(stack, M2DAO_WEBHOOKS_ANSWER_S="60"):
            for _ in range(4 * len(slow)):
                dead.next()  # as many as they may have
            hooked(state, tenant, receiver.url)
            name = rendered(state, tenant)
            assert name in receiver.next().body
            assert dead.now == dead.most_at_once == 4 * len(slow)
            dead.going_on.set()


# -- who dies -----------------------------------------------------------------------------------------------------


def keeper(settings: Settings) -> subprocess.Popen[bytes]:
    env = {**os.environ, **settings.to_env(), "M2DAO_WEBHOOKS_ALLOW_PRIVATE": "1", "M2DAO_WEBHOOKS_ANSWER_S": "2"}
    return subprocess.Popen([sys.executable, "-m", "tests.integration.cluster.webhooks.lone_keeper"], env=env)


def test_a_keeper_killed_amid_a_delivery_loses_nothing_and_the_id_stays(stack, state, tenant, receiver):
    receiver.answer = receiver.wait
    webhook = hooked(state, tenant, receiver.url)
    names = {rendered(state, tenant) for _ in range(3)}
    running = [keeper(stack)]
    try:
        first = [receiver.next(), receiver.next()]  # two of them are under way
        os.kill(running[0].pid, signal.SIGKILL)
        running[0].wait(WAIT_S)
        receiver.answer = say(200)
        running.append(keeper(stack))
        bodies: dict[str, set[str]] = {}
        for sent in first:
            bodies.setdefault(sent.headers["webhook-id"], set()).add(sent.body)
        again: set[str] = set()
        while len(again) < 3:
            sent = receiver.next()
            Verifier(webhook.secrets[0]).verify(sent.body, sent.headers)
            again.add(sent.headers["webhook-id"])
            bodies.setdefault(sent.headers["webhook-id"], set()).add(sent.body)
        for delivery in state.webhooks.deliveries(tenant, webhook.id, state=None)[0]:
            assert until_settled(state, delivery, num_tries=1)
    finally:
        for process in running:
            process.kill()
            process.wait(WAIT_S)
    assert all(len(different) == 1 for different in bodies.values())
    assert {name for name in names for body in bodies.values() if name in next(iter(body))} == names


def test_a_try_that_another_one_has_overtaken_changes_nothing(state, tenant):
    webhook = hooked(state, tenant)
    rendered(state, tenant)
    _, slow = state.webhooks.claim(tenant, webhook.id, claim_s=0.001)
    while (claimed := state.webhooks.claim(tenant, webhook.id, claim_s=60)) is None:
        pass
    state.webhooks.settle(claimed[1], Outcome(state="delivered", status=200), keep_s=60)
    state.webhooks.settle(slow, Outcome(state="failed", wait_s=5), keep_s=60)
    assert state.webhooks.delivery(tenant, slow.id).state == "delivered"


def test_settled_deliveries_leave_after_their_time(state, tenant):
    webhook = hooked(state, tenant)
    rendered(state, tenant)
    _, delivery = state.webhooks.claim(tenant, webhook.id, claim_s=60)
    state.webhooks.settle(delivery, Outcome(state="dead"), keep_s=3600)
    assert 0 < state._link.call("TTL", f"{tenant}:delivery:{delivery.id}") <= 3600
    state._link.call("DEL", f"{tenant}:delivery:{delivery.id}")  # as its end does
    rendered(state, tenant)
    assert state._link.call("ZCARD", f"{tenant}:deliveries:{webhook.id}") == 1
    assert WebhookId.parse(str(webhook.id)) == webhook.id
