"""Which version serves: one place decides, in one step, and asking twice decides once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.ids import AliasRef, FitId, IdentityName, ModelRef
from cluster.state import keys
from cluster.state.champions import TOPIC, Champion
from cluster.state.store import StateStore
from cluster.state.versions import VersionDetails, VersionFacts
from m2dao.errors import Conflict, IdempotencyConflict, PromotionConflict, StateUnavailable, UnknownIdentity

ANNA = IdentityName("anna")
FACTS = VersionFacts(files_sha256="a" * 64, num_bytes=3)
PASSED = {"verdict": "passed", "reasons": []}


@pytest.fixture
def state(stack):
    store = StateStore(stack)
    yield store
    store.close()


@pytest.fixture
def version(state, tenant):
    """Makes complete versions of anna, without files."""

    def make(number: int) -> ModelRef:
        ref = ModelRef(tenant, ANNA, number)
        state.versions.commit(ref, FACTS)
        return ref

    return make


@pytest.fixture
def answers_lost(state, monkeypatch):
    """Every script is run twice, as after a lost answer; what the second run says is what the caller gets."""
    run = state._link.run

    def twice(script, names, args):
        run(script, names, args)
        return run(script, names, args)

    monkeypatch.setattr(state._link, "run", twice)


def test_the_moves_of_a_champion_are_listed_the_newest_first_and_once_each(state, tenant, version, answers_lost):
    for number in (1, 2):
        state.champions.promote(version(number), request=f"wish-{number}")
    state.champions.promote(ModelRef(tenant, ANNA, 2), request="wish-2")  # asked again
    state.champions.challenge(tenant, ANNA, 1)
    state.champions.roll_back(tenant, ANNA, request="back")
    moves = state.champions.history(tenant, ANNA)
    assert [(move.what, move.before, move.version, move.challenger, move.epoch) for move in moves] == [
        ("roll_back", 2, 1, None, 4),
        ("challenge", 2, 2, 1, 3),
        ("promote", 1, 2, None, 2),
        ("promote", None, 1, None, 1),
    ]
    assert state.champions.history(tenant, IdentityName("ben")) == []


def test_what_was_known_of_a_version_goes_with_it(state, tenant, version):
    ref = version(1)
    state.versions.describe(VersionDetails(ref=ref, metrics={"psnr_db": 30.0}, fit_id=FitId.new()))
    state.versions.describe(VersionDetails(ref=ref, metrics={"psnr_db": 99.0}))
    state.versions.note_verdict(ref, PASSED)
    state.champions.promote(ref)
    (known,) = state.versions.details([ref])
    assert known.metrics == {"psnr_db": 30.0}
    assert known.fit_id is not None
    assert state.versions.verdicts([ref]) == [PASSED]
    state.champions.clear(tenant, ANNA)
    state.versions.retire(ref)
    state.versions.forget(ref)
    state.versions.describe(VersionDetails(ref=ref))
    state.versions.note_verdict(ref, PASSED)
    assert state.versions.details([ref]) == state.versions.verdicts([ref]) == [None]
    assert state.champions.history(tenant, ANNA) == []


def test_promotion_moves_champion_and_previous_and_tells_everybody(state, tenant, version):
    one, two = version(1), version(2)
    with state.events.subscribe(TOPIC) as messages:
        assert state.champions.promote(one).previous is None
        change = state.champions.promote(two)
        heard = [messages.get(5)[1] for _ in range(2)]
    assert (change.champion, change.previous, change.epoch) == (two, one, 2)
    assert heard[1] == {"tenant": str(tenant), "identity": "anna", "version": 2, "previous": 1, "epoch": 2}
    assert state.champions.resolve(AliasRef(tenant, ANNA)) == two
    assert state.champions.resolve(AliasRef(tenant, ANNA, "previous")) == one
    state.champions.roll_back(tenant, ANNA)
    assert state.champions.get(tenant, ANNA) == Champion(version=1, previous=2, epoch=3)


@pytest.mark.usefixtures("answers_lost")
def test_every_move_that_is_run_twice_moves_once_and_answers_the_same(state, tenant, version):
    one, two = version(1), version(2)
    assert state.champions.promote(one, epoch=0).epoch == 1
    change = state.champions.promote(two, epoch=1)
    assert (change.champion, change.previous, change.epoch) == (two, one, 2)
    assert state.champions.roll_back(tenant, ANNA, epoch=2).champion == one
    state.champions.challenge(tenant, ANNA, 2, epoch=3)
    assert state.champions.get(tenant, ANNA) == Champion(version=1, previous=2, challenger=2, epoch=4)
    state.champions.clear(tenant, ANNA)
    assert state.champions.get(tenant, ANNA) == Champion(epoch=5)


def test_a_promotion_decided_on_old_facts_is_refused_and_changes_nothing(state, tenant, version):
    one, two, three = version(1), version(2), version(3)
    state.champions.promote(one)
    state.champions.promote(two, epoch=1)
    with pytest.raises(PromotionConflict):
        state.champions.promote(three, epoch=1)
    assert state.champions.get(tenant, ANNA).version == 2


def test_of_many_promotions_that_know_the_same_champion_one_wins(state, tenant, version):
    refs = [version(number) for number in range(1, 9)]

    def promote(ref):
        try:
            return state.champions.promote(ref, epoch=0).champion
        except PromotionConflict:
            return None

    with ThreadPoolExecutor(8) as pool:
        winners = [ref for ref in pool.map(promote, refs) if ref]
    assert len(winners) == 1
    assert state.champions.resolve(AliasRef(tenant, ANNA)) == winners[0]


def test_a_move_that_changes_nothing_leaves_no_trace(state, tenant, version):
    one, two = version(1), version(2)
    state.champions.clear(tenant, ANNA)
    assert state.champions.get(tenant, ANNA) == Champion()
    state.champions.promote(one)
    state.champions.challenge(tenant, ANNA, 2, share=5)
    state.champions.told(tenant, ANNA, 2)
    stood, trail = state.champions.get(tenant, ANNA), state.audit.page(tenant)
    with state.events.subscribe(TOPIC) as messages:
        assert state.champions.promote(one).now == stood
        assert state.champions.challenge(tenant, ANNA, 2, share=5).now == stood
        state.champions.promote(two)
        assert messages.get(5)[1]["version"] == 2  # the first that anybody hears
    state.champions.roll_back(tenant, ANNA)
    assert [move.epoch for move in state.champions.history(tenant, ANNA)] == [4, 3, 2, 1]
    assert stood.epoch == 2
    assert len(state.audit.page(tenant)[0]) == len(trail[0]) + 2
    assert state.champions.untold()[tenant, ANNA] == 4


def test_a_challenger_has_a_share_until_it_is_champion_or_gone_and_is_no_champion(state, tenant, version):
    one, two = version(1), version(2)
    state.champions.promote(one)
    with pytest.raises(Conflict, match="challenger"):
        state.champions.challenge(tenant, ANNA, 1)
    change = state.champions.challenge(tenant, ANNA, 2, share=30, epoch=1)
    assert change.now == Champion(version=1, challenger=2, share=30, epoch=2) == state.champions.get(tenant, ANNA)
    assert state.champions.promote(two).now == Champion(version=2, previous=1, epoch=3)
    assert state.champions.challenge(tenant, ANNA, 1, share=7).now.share == 7
    assert state.champions.challenge(tenant, ANNA, None).now == Champion(version=2, previous=1, epoch=5)
    assert [move.share for move in state.champions.history(tenant, ANNA)] == [0, 7, 0, 30, 0]


def test_a_request_is_done_once_whatever_an_operator_decided_since(state, tenant, version):
    one, two = version(1), version(2)
    state.champions.promote(one)
    first = state.champions.promote(two, request="f-1")
    state.champions.roll_back(tenant, ANNA)
    assert state.champions.promote(two, request="f-1") == first
    assert state.champions.get(tenant, ANNA).version == 1


def test_a_name_that_another_wish_has_is_refused_and_moves_nothing(state, tenant, version):
    one, two, ben = version(1), version(2), ModelRef(tenant, IdentityName("ben"), 1)
    state.versions.commit(ben, FACTS)
    first = state.champions.promote(one, request="wish")
    for other in (two, ben):
        with pytest.raises(IdempotencyConflict):
            state.champions.promote(other, request="wish")
    with pytest.raises(IdempotencyConflict):
        state.champions.roll_back(tenant, ANNA, request="wish")
    assert state.champions.get(tenant, ben.identity) == Champion()
    assert state.champions.promote(one, request="wish") == first
    assert state.champions.get(tenant, ANNA) == Champion(version=1, epoch=1)


def test_an_answer_of_the_release_before_is_given_still(state, tenant, version):
    old = '{"outcome": "moved", "version": "1", "previous": "", "challenger": "", "epoch": "1", "before": ""}'
    state._link.call("SET", keys.move(tenant, "wish"), old)
    assert state.champions.promote(version(1), request="wish").epoch == 1
    assert state.champions.get(tenant, ANNA) == Champion()


def test_a_rollback_is_remembered_for_a_day_and_the_wish_of_a_fit_for_a_month(state, tenant, version):
    for number in (1, 2):
        state.champions.promote(version(number), request=f"fit-{number}")
    state.champions.roll_back(tenant, ANNA, request="back")
    assert 0 < state._link.call("TTL", keys.move(tenant, "back")) <= 24 * 3600
    assert state._link.call("TTL", keys.move(tenant, "fit-2")) > 29 * 24 * 3600


def test_a_champion_is_one_write_so_nothing_is_lost_between_its_parts(state, tenant, version, monkeypatch):
    """Killed right after the write, or before it: champion and previous always belong together."""
    one, two = version(1), version(2)
    state.champions.promote(one)
    run = state._link.run

    def killed(script, names, args):
        run(script, names, args)
        raise StateUnavailable("killed")

    monkeypatch.setattr(state._link, "run", killed)
    with pytest.raises(StateUnavailable):
        state.champions.promote(two)
    monkeypatch.undo()
    assert state.champions.get(tenant, ANNA) == Champion(version=2, previous=1, epoch=2)


def test_a_version_that_is_going_cannot_become_champion_and_a_champion_cannot_go(state, tenant, version):
    one, two = version(1), version(2)
    state.champions.promote(one)
    with pytest.raises(Conflict, match="champion"):
        state.versions.retire(one)
    state.versions.retire(two)
    for act in (state.champions.promote, state.champions.resolve, state.versions.facts):
        with pytest.raises(UnknownIdentity):
            act(two)
    state.versions.forget(two)
    assert state.versions.numbers(tenant, ANNA) == (1,)


@pytest.mark.usefixtures("answers_lost")
def test_versions_that_are_committed_retired_and_forgotten_twice_are_so_once(state, tenant, version):
    one = version(1)
    assert state.versions.untold().count(one) == 1
    state.versions.retire(one)
    state.versions.forget(one)
    assert state.champions.names(tenant) == []


def test_a_fit_commits_one_version_and_only_under_its_last_claim(state, tenant):
    job, _ = state.jobs.create(tenant, "fit", {})
    old = state.jobs.claim("fit", worker="a", lease_s=60, tenant=tenant, job_id=job.id)
    assert state.versions.open(old) is None
    state.jobs.release(old)
    new = state.jobs.claim("fit", worker="b", lease_s=60, tenant=tenant, job_id=job.id)
    first, second = ModelRef(tenant, ANNA, 1), ModelRef(tenant, ANNA, 2)
    for act in (lambda: state.versions.open(old), lambda: state.versions.commit(first, FACTS, old)):
        with pytest.raises(Conflict, match="token"):
            act()
    state.versions.commit(second, FACTS, new)
    state.versions.commit(second, FACTS, new)
    assert state.versions.open(new) == 2
    with pytest.raises(Conflict):
        state.versions.commit(first, FACTS, new)
    assert state.versions.numbers(tenant, ANNA) == (2,)


def test_an_identity_is_taken_over_once_and_what_was_decided_here_stays(state, tenant, version):
    version(1)
    state.champions.promote(ModelRef(tenant, ANNA, 1))
    fit_id = FitId.new()
    old = Champion(version=2, previous=1)
    for _ in range(2):
        state.champions.take_over(tenant, ANNA, old, {2: (FACTS, fit_id)})
    assert state.champions.get(tenant, ANNA).version == 1
    assert state.versions.numbers(tenant, ANNA) == (1, 2)
    assert state._link.call("GET", keys.version_of(tenant, fit_id)) == "2"
    ben = IdentityName("ben")
    state.champions.take_over(tenant, ben, old, {1: (FACTS, None), 2: (FACTS, None)})
    assert state.champions.get(tenant, ben) == Champion(version=2, previous=1, epoch=1)


def test_what_the_ledger_is_to_be_told_stays_until_the_newest_move_was_told(state, tenant, version):
    one, two = version(1), version(2)
    state.champions.promote(one)
    state.champions.promote(two)
    state.champions.told(tenant, ANNA, 1)  # by a slow reconciler
    assert state.champions.untold()[tenant, ANNA] == 2
    state.champions.told(tenant, ANNA, 2)
    assert (tenant, ANNA) not in state.champions.untold()


def test_pages_hold_every_identity_once_in_order(state, tenant):
    names = [f"p{number:02}" for number in range(7)]
    for name in reversed(names):
        state.versions.commit(ModelRef(tenant, IdentityName(name), 1), FACTS)
    seen, after = [], ""
    while after is not None:
        page, after = state.champions.page(tenant, after=after, limit=3)
        seen += [str(info.identity) for info in page]
    assert seen == names
