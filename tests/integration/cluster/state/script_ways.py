"""Ways to run every script, for the tests that run each one twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cluster.ids import FitId, IdentityName, ModelRef, RenderId, TenantId, WebhookId
from cluster.state import keys, scripts
from cluster.state.accounts import Accounts
from cluster.state.champions import Champion, ChampionTable
from cluster.state.door import Door, Terms, place_of
from cluster.state.new_jobs import Files, NewJob, Once
from cluster.state.people.principals import KeyTerms, Needed, Scope
from cluster.state.people.tokens import NewToken, TokenTerms
from cluster.state.problems import Problem
from cluster.state.records import Claim
from cluster.state.resources.batches import BatchItem, BatchRecord, BatchTerms
from cluster.state.resources.recordings import RecordingRecord, RoomFor
from cluster.state.resources.usage import number_of, today
from cluster.state.resources.webhooks import Delivery, Outcome, Webhook
from cluster.state.store import StateStore
from cluster.state.versions import VersionDetails, VersionFacts
from m2dao.errors import Conflict, UnknownWebhook

PROBLEM = Problem(code="x")
CLIENT = Needed(scope=Scope.CLIENT)
ANNA = IdentityName("anna")
VERDICT = {"verdict": "passed", "reasons": []}
FACTS = VersionFacts(files_sha256="a" * 64, num_bytes=3)


def taken(state: StateStore, tenant: TenantId, **more: Any) -> Claim:
    state.jobs.create(tenant, "render", {"n": 1}, **more)
    claim = state.jobs.claim("render", worker="w", lease_s=60, tenant=tenant)
    assert claim is not None
    return claim


def rendered(state: StateStore, tenant: TenantId) -> Claim:
    """A claimed render of an identity."""
    job, _ = state.jobs.create(tenant, "render", {"ref": f"{tenant}.anna@1"}, cost=2.5)
    claim = state.jobs.claim("render", worker="w", lease_s=60, tenant=tenant, job_id=job.id)
    assert claim is not None
    return claim


def stored_for_days(state: StateStore, tenant: TenantId) -> None:
    recording(state, tenant)
    three_days_ago_us = (number_of(today()) - 3) * 86_400 * 10**6
    state._link.call("HSET", f"{tenant}:stored-since", "", three_days_ago_us)
    state.usage.count_storage(tenant, today())


def hooked(state: StateStore, tenant: TenantId, once: Once | None = None) -> Webhook:
    return state.webhooks.make(tenant, "https://a.example/", [], note="", most=1, once=once)


def told(state: StateStore, tenant: TenantId) -> Delivery:
    """A claimed delivery."""
    webhook = hooked(state, tenant)
    state.jobs.cancel(tenant, state.jobs.create(tenant, "render", {})[0].id)
    claimed = state.webhooks.claim(tenant, webhook.id, claim_s=9)
    assert claimed is not None
    return claimed[1]


def with_files(tenant: TenantId) -> NewJob:
    files = Files(contents={"a": b"content"}, most_open=1000)
    return NewJob(tenant=tenant, kind="render", job_id=RenderId.new(), request={}, files=files)


def ended(how: Callable[[StateStore, Claim], Any]) -> Callable[[StateStore, TenantId], Any]:
    return lambda state, tenant: how(state, taken(state, tenant))


def begun(state: StateStore, tenant: TenantId) -> None:
    state.jobs.create(tenant, "render", {})
    claim = state.jobs.claim("render", worker="dispatcher", lease_s=60, tenant=tenant, begun=False)
    assert claim is not None
    state.jobs.begin(tenant, claim.job.id, claim.fence, worker="w", lease_s=60)


def expired(state: StateStore, tenant: TenantId) -> None:
    claim = taken(state, tenant)
    state._link.call("ZADD", f"{tenant}:leases:render", 1, str(claim.job.id))
    state.jobs.requeue_expired("render")


def revoke(state: StateStore, tenant: TenantId) -> None:
    state.accounts.create_api_key(tenant)
    (key,) = state.accounts.list_api_keys(tenant)
    assert state.accounts.revoke(tenant, key.key_id)


def rotate(state: StateStore, tenant: TenantId, once: Once | None = None) -> None:
    old = state.accounts.make_api_key(tenant, KeyTerms(life_s=3600))
    state.accounts.rotate_api_key(tenant, old.info.key_id, overlap_s=9, once=once)


def token(state: StateStore, tenant: TenantId, once: Once | None = None) -> NewToken:
    version(state, tenant)
    return state.tokens.make(tenant, TokenTerms(identity=ANNA, origin="https://a"), once=once)


def fitted(state: StateStore, tenant: TenantId) -> Claim:
    """A claimed fit."""
    job, _ = state.jobs.create(tenant, "fit", {})
    claim = state.jobs.claim("fit", worker="w", lease_s=60, tenant=tenant, job_id=job.id)
    assert claim is not None
    return claim


def version(state: StateStore, tenant: TenantId, number: int = 1, claim: Claim | None = None) -> ModelRef:
    ref = ModelRef(tenant, ANNA, number)
    state.versions.commit(ref, FACTS, claim)
    return ref


def batch(state: StateStore, tenant: TenantId) -> BatchRecord:
    terms = BatchTerms(wave=1, max_failed=0)
    return state.batches.create(tenant, "judge", terms, [BatchItem(identity="anna")], key="k")


def recording(state: StateStore, tenant: TenantId) -> RecordingRecord:
    room = RoomFor(num_bytes=100, num_uploads=2, upload_s=60)
    return state.recordings.create(tenant, name="a", num_bytes=9, sha256="a" * 64, room=room, key="k")


def looked_into(state: StateStore, tenant: TenantId) -> None:
    record = state.recordings.to_checking(recording(state, tenant))
    state.recordings.to_ready(state.recordings.to_moving(record, {"video": {}}), keep_s=60)


def details(ref: ModelRef) -> VersionDetails:
    return VersionDetails(ref=ref, metrics={"psnr_db": 30.0})


def after_two(act: Callable[[ChampionTable, TenantId], Any]) -> Callable[[StateStore, TenantId], Any]:
    """Something done once two versions have been promoted."""

    def run(state: StateStore, tenant: TenantId) -> None:
        for number in (1, 2):
            state.champions.promote(version(state, tenant, number))
        act(state.champions, tenant)

    return run


def took_over(state: StateStore, tenant: TenantId) -> None:
    state.champions.take_over(tenant, ANNA, Champion(version=1), {1: (FACTS, FitId.new())})


def seated(state: StateStore, tenant: TenantId) -> None:
    seat = state.seats.take(str(tenant), "me", lease_s=60)
    assert seat is not None
    state.seats.heartbeat(seat, lease_s=60, stage="x")
    state.seats.leave(seat)


def probed(state: StateStore, tenant: TenantId) -> None:
    ref = version(state, tenant)
    state.probes.ask(ref, "p")
    assert state.probes.claim(tenant, "p", "me") == ref
    state.probes.answer(tenant, "p", "me", "", backend="cpu")
    assert state.probes.fault(ref, "p") == ""


def at_door(state: StateStore, do: Callable[[Door], Any], *, burst: float = 9, uploads: int = 1) -> None:
    class Link:  # the link that the test watches
        async def run(self, *arguments: Any) -> Any:
            return state._link.run(*arguments)

        async def call(self, *command: Any) -> Any:
            return state._link.call(*command)

        async def close(self) -> None:
            pass

    terms = Terms(rate=0.001, burst=burst, uploads=uploads, open_renders=1, place_s=60, renew_s=0)
    asyncio.run(do(Door(Link(), state.accounts, terms)))


def passed(
    times: int = 1, place: str | None = None, scope: Scope = Scope.CLIENT, **terms: Any
) -> Callable[[StateStore, TenantId], Any]:
    async def do(door: Door, key: str) -> None:
        for n in range(times):
            await door.enter(key, Needed(scope=scope), place=place and f"{place}{n}")

    def way(state: StateStore, tenant: TenantId) -> None:
        key = state.accounts.create_api_key(tenant)
        at_door(state, lambda door: do(door, key), **terms)

    return way


def kept_place(state: StateStore, tenant: TenantId) -> None:
    async def do(door: Door) -> None:
        await door.enter(key, CLIENT, place="u")
        keeping = asyncio.create_task(door.keep(tenant, place_of("u", None)))
        for _ in range(3):  # the link of this test never waits, so a turn of the loop is a renewal
            await asyncio.sleep(0)
        keeping.cancel()

    key = state.accounts.create_api_key(tenant)
    at_door(state, do)


def rehashed(state: StateStore, tenant: TenantId) -> None:
    """A key whose entry lies where the other pepper would have put it."""
    key = state.accounts.create_api_key(tenant)
    accounts = Accounts(
        state._link, state.audit, pepper="other than ours", other_pepper=state._settings.require("key_pepper")
    )
    names, args = accounts.names_of_entry(key)
    args[0] = state.accounts.pepper_fingerprint()  # as if the switch had been made
    assert state._link.run(scripts.REHASH_API_KEY, names, args) == names[0]


def readmitted(state: StateStore, claim: Claim) -> None:
    state.records._readmit({"value": state._link.hash(keys.job(claim.job.tenant, claim.job.id))})


def cancelled_and_readmitted(state: StateStore, claim: Claim) -> None:
    state.jobs.cancel(claim.job.tenant, claim.job.id)
    readmitted(state, claim)


# script -> what runs it, one way or several
WAYS: dict[str, dict[str, Callable[[StateStore, TenantId], Any]]] = {
    "CREATE_JOB": {
        "plain": lambda state, tenant: state.jobs.create(tenant, "render", {}),
        "with a key": lambda state, tenant: state.jobs.create(tenant, "render", {}, once=Once(key="k")),
        "with files": lambda state, tenant: state.jobs.add(with_files(tenant)),
        "at the quota": lambda state, tenant: state.jobs.create(tenant, "render", {}, max_open=1),
    },
    "CLAIM_JOB": {"one": taken},
    "BEGIN_JOB": {"one": begun},
    "HEARTBEAT_JOB": {
        "stage of a fit": lambda state, tenant: state.jobs.heartbeat(fitted(state, tenant), lease_s=60, stage="fit: 1"),
        "news": ended(lambda state, claim: state.jobs.heartbeat(claim, lease_s=60, progress=0.5, stage="x")),
    },
    "NOTE_FIGURES": {"mine": ended(lambda state, claim: state.figures.note(claim, {"metrics": {"step": 1}}))},
    "END_JOB": {
        "done": ended(lambda state, claim: state.jobs.finish(claim, {"n": 1})),
        "a render": lambda state, tenant: state.jobs.finish(rendered(state, tenant), {"n": 1}),
        "a fit": lambda state, tenant: state.jobs.finish(fitted(state, tenant), {"n": 1}),
        "failed": ended(lambda state, claim: state.jobs.fail(claim, PROBLEM)),
        "retry": ended(lambda state, claim: state.jobs.fail(claim, PROBLEM, retry=True)),
        "put off": ended(lambda state, claim: state.jobs.put_off(claim, PROBLEM, most=3, failed_on="w")),
        "put off too often": ended(lambda state, claim: state.jobs.put_off(claim, PROBLEM, most=0)),
        "dodged": ended(lambda state, claim: state.jobs.dodge(claim)),
        "released": ended(lambda state, claim: state.jobs.release(claim)),
    },
    "CANCEL_JOB": {
        "queued": lambda state, tenant: state.jobs.cancel(tenant, state.jobs.create(tenant, "render", {})[0].id),
        "running": ended(lambda state, claim: state.jobs.cancel(claim.job.tenant, claim.job.id)),
    },
    "REQUEUE_JOBS": {"expired": expired},
    "BACKLOG_OF_JOBS": {"some": ended(lambda state, claim: state.jobs.backlog("render", tenant=claim.job.tenant))},
    "OPEN_JOBS": {"some": ended(lambda state, claim: state.jobs.open("render"))},
    "CREATE_TENANT": {"new": lambda state, tenant: state.accounts.create_tenant(TenantId(f"{tenant}-x"))},
    "DELETE_TENANT": {
        "known": lambda state, tenant: state.accounts.delete_tenant(tenant),
        "with tokens": lambda state, tenant: (token(state, tenant), state.accounts.delete_tenant(tenant)),
        "with jobs": ended(lambda state, claim: state.accounts.delete_tenant(claim.job.tenant)),
    },
    "CREATE_API_KEY": {
        "new": lambda state, tenant: state.accounts.create_api_key(tenant),
        "with a key": lambda state, tenant: state.accounts.make_api_key(tenant, KeyTerms(), once=Once(key="k")),
    },
    "ROTATE_API_KEY": {
        "new": rotate,
        "with a key": lambda state, tenant: rotate(state, tenant, Once(key="k")),
    },
    "CREATE_TOKEN": {"new": token, "with a key": lambda state, tenant: token(state, tenant, Once(key="k"))},
    "REVOKE_TOKEN": {"known": lambda state, tenant: state.tokens.revoke(tenant, token(state, tenant).info.token_id)},
    "REVOKE_API_KEY": {"known": revoke},
    "PASS_DOOR": {
        "request": passed(),
        "token": lambda state, tenant: at_door(state, lambda door: door.enter(token(state, tenant).token, CLIENT)),
        "forbidden": passed(scope=Scope.ADMIN),
        "too often": passed(times=3, burst=2),
        "upload": passed(place="u"),
        "busy": passed(times=2, place="u"),
        "full": passed(times=2, place="u", uploads=9),
        "unknown": lambda state, tenant: at_door(state, lambda door: door.enter("m2dao_" + "A" * 43, CLIENT)),
        "charge": lambda state, tenant: at_door(state, lambda door: door.charge(tenant, 3)),
    },
    "KEEP_PLACE": {"held": kept_place},
    "OPEN_VERSION": {
        "open": lambda state, tenant: state.versions.open(fitted(state, tenant)),
        "made": lambda state, tenant: (
            version(state, tenant, claim=(claim := fitted(state, tenant))),
            state.versions.open(claim),
        ),
    },
    "COMMIT_VERSION": {
        "plain": version,
        "of a fit": lambda state, tenant: version(state, tenant, claim=fitted(state, tenant)),
    },
    "DESCRIBE_VERSION": {"known": lambda state, tenant: state.versions.describe(details(version(state, tenant)))},
    "NOTE_VERDICT": {"known": lambda state, tenant: state.versions.note_verdict(version(state, tenant), VERDICT)},
    "RETIRE_VERSION": {"free": lambda state, tenant: state.versions.retire(version(state, tenant))},
    "FORGET_VERSION": {"the last": lambda state, tenant: state.versions.forget(version(state, tenant))},
    "MOVE_CHAMPION": {
        "promote": after_two(lambda champions, tenant: champions.promote(ModelRef(tenant, ANNA, 1), epoch=2)),
        "roll back": after_two(lambda champions, tenant: champions.roll_back(tenant, ANNA)),
        "challenge": after_two(lambda champions, tenant: champions.challenge(tenant, ANNA, 1)),
        "clear": after_two(lambda champions, tenant: champions.clear(tenant, ANNA)),
    },
    "LEDGER_TOLD": {"newest": after_two(lambda champions, tenant: champions.told(tenant, ANNA, 2))},
    "IMPORT_IDENTITY": {"new": took_over},
    "ASK_PROBE": {"new": probed},
    "CLAIM_PROBE": {"free": probed},
    "ANSWER_PROBE": {"mine": probed},
    "CREATE_BATCH": {"new": batch, "same key": lambda state, tenant: (batch(state, tenant),) * 2},
    "UPDATE_BATCH": {
        "an item": lambda state, tenant: state.batches.note(batch(state, tenant), {0: BatchItem(identity="ben")}),
        "ended": lambda state, tenant: state.batches.move(batch(state, tenant), "running", "done"),
    },
    "CLAIM_KEY": {"new": lambda state, tenant: state.orders.bind(tenant, "x", Once(key="k", fingerprint="f"))},
    "CREATE_RECORDING": {"new": recording, "same bytes": lambda state, tenant: (recording(state, tenant),) * 2},
    "SET_UPLOAD": {"first": lambda state, tenant: state.recordings.set_upload(recording(state, tenant), "u")},
    "MOVE_RECORDING": {
        "all the way": looked_into,
        "refused": lambda state, tenant: state.recordings.to_refused(
            state.recordings.to_checking(recording(state, tenant)), PROBLEM, keep_s=60
        ),
    },
    "FORGET_RECORDING": {
        "deleted": lambda state, tenant: state.recordings.forget(state.recordings.to_deleting(recording(state, tenant)))
    },
    "USE_STORAGE": {
        "counted already": lambda state, tenant: (recording(state, tenant), state.usage.count_storage(tenant, today())),
        "since long ago": stored_for_days,
        "of an older release": lambda state, tenant: (
            version(state, tenant),
            state._link.call("DEL", f"{tenant}:stored-since"),
            state.usage.count_storage(tenant, today()),
        ),
    },
    "FORGET_USAGE": {
        "old days": lambda state, tenant: (
            state.jobs.finish(rendered(state, tenant), {}),
            state.usage.forget(tenant, today() + timedelta(days=1)),
        )
    },
    "CREATE_WEBHOOK": {
        "new": lambda state, tenant: hooked(state, tenant),
        "with a key": lambda state, tenant: hooked(state, tenant, once=Once(key="k")),
        "full": lambda state, tenant: (hooked(state, tenant), pytest.raises(Conflict, hooked, state, tenant)),
    },
    "ROTATE_WEBHOOK": {
        "new": lambda state, tenant: state.webhooks.rotate(tenant, hooked(state, tenant).id, overlap_s=9),
        "with a key": lambda state, tenant: state.webhooks.rotate(
            tenant, hooked(state, tenant).id, overlap_s=9, once=Once(key="k")
        ),
    },
    "DELETE_WEBHOOK": {
        "told": lambda state, tenant: state.webhooks.delete(tenant, told(state, tenant).id.webhook),
        "unknown": lambda state, tenant: pytest.raises(UnknownWebhook, state.webhooks.delete, tenant, WebhookId.new()),
    },
    "CLAIM_DELIVERY": {
        "due": told,
        "none": lambda state, tenant: state.webhooks.claim(tenant, hooked(state, tenant).id, claim_s=9),
    },
    "SETTLE_DELIVERY": {
        way: (
            lambda state, tenant, way=way: state.webhooks.settle(
                told(state, tenant), Outcome(state=way, status=500, wait_s=9), keep_s=60
            )
        )
        for way in ("delivered", "failed", "dead")
    },
    "REPLAY_DELIVERY": {"waiting": lambda state, tenant: state.webhooks.replay(tenant, told(state, tenant).id)},
    "PUT_OFF_RECORDING": {"later": lambda state, tenant: state.recordings.put_off(recording(state, tenant))},
    "TAKE_SEAT": {"free": seated},
    "RENEW_SEAT": {"mine": seated},
    "REHASH_API_KEY": {"current": rehashed},
    "SWITCH_PEPPER": {"back": lambda state, tenant: state.accounts.switch_pepper()},
    "NOTE_ERASURE": {"new": lambda state, tenant: state.erasures.note(f"{tenant}/identities/anna")},
    "READMIT_JOB": {"open": ended(readmitted), "ended": ended(cancelled_and_readmitted)},
}
