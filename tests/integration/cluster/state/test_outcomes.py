"""How renders of versions end is counted once, and what fails leaves service by itself."""

from __future__ import annotations

import pytest

from cluster.control.champions import Champions
from cluster.control.rollouts import Rollouts
from cluster.groups.rollouts import RolloutSettings
from cluster.ids import IdentityName, ModelRef
from cluster.state.champions import Champion
from cluster.state.people.audit import acting
from cluster.state.problems import Problem
from cluster.state.resources.outcomes import Outcome
from cluster.state.store import StateStore
from cluster.state.versions import VersionFacts

ANNA = IdentityName("anna")
FACTS = VersionFacts(files_sha256="a" * 64, num_bytes=3)


class Proven(Champions):
    """Champions whose versions can all be rendered: no replica runs here."""

    def prove(self, ref: ModelRef) -> str:
        return "cpu"


@pytest.fixture
def state(stack):
    store = StateStore(stack)
    yield store
    store.close()


@pytest.fixture
def three(state, tenant) -> list[ModelRef]:
    """Three complete versions of anna; the second is champion, the first was before."""
    refs = [ModelRef(tenant, ANNA, number) for number in (1, 2, 3)]
    for ref in refs:
        state.versions.commit(ref, FACTS)
    for ref in refs[:2]:
        state.champions.promote(ref)
    return refs


@pytest.fixture
def rollouts(state):
    return Rollouts(state, Proven(state), RolloutSettings(min_renders=4, max_failed_share=0.5))


def render(state: StateStore, ref: ModelRef, *, fails: bool, twice: bool = False) -> None:
    """A render of a version that ends."""
    job, _ = state.jobs.create(ref.tenant, "render", {"ref": str(ref)})
    claim = state.jobs.claim("render", worker="w", lease_s=60, tenant=ref.tenant, job_id=job.id)
    for _ in range(2 if twice else 1):
        if fails:
            state.jobs.fail(claim, Problem(code="render-failed"))
        else:
            state.jobs.finish(claim, {})


def test_each_render_is_counted_once_and_anew_after_a_move(state, tenant, three):
    render(state, three[1], fails=False, twice=True)
    render(state, three[1], fails=True, twice=True)
    render(state, three[0], fails=False)
    outcomes = state.outcomes.get(tenant, ANNA)
    assert outcomes.epoch == 2
    assert outcomes.of == {1: Outcome(num_done=1), 2: Outcome(num_done=1, num_failed=1)}
    state.champions.challenge(tenant, ANNA, 3, share=10)
    outcomes = state.outcomes.get(tenant, ANNA)
    assert (outcomes.epoch, outcomes.of) == (3, {})


def test_a_render_of_nobody_leaves_no_count(state, tenant):
    render(state, ModelRef(tenant, ANNA, 1), fails=True)
    assert state.outcomes.get(tenant, ANNA).of == {}
    assert (tenant, ANNA) not in state.outcomes.failing()


def test_a_new_champion_that_fails_is_rolled_back_and_the_reason_is_kept(state, tenant, three, rollouts):
    for fails in (True, True, True):
        render(state, three[1], fails=fails)
    assert rollouts.look() == 0  # too few to tell
    render(state, three[1], fails=False)
    render(state, three[1], fails=True)
    with acting("keeper"):
        assert rollouts.look() == 1
    assert state.champions.get(tenant, ANNA) == Champion(version=1, previous=2, epoch=3)
    (verdict,) = state.versions.verdicts([three[1]])
    assert verdict["verdict"] == "refused"
    (check,) = verdict["checks"]
    assert (check["name"], check["passed"], check["value"], check["limit"]) == ("renders", False, 0.8, 0.5)
    entries, _ = state.audit.page(tenant)
    assert (entries[0].by, entries[0].what, entries[0].before, entries[0].after) == ("keeper", "roll-back", "2", "1")
    assert (tenant, ANNA) not in state.outcomes.failing()


def test_what_a_rollback_brought_back_stays_however_it_does(state, tenant, three, rollouts):
    state.champions.roll_back(tenant, ANNA)
    for _ in range(6):
        render(state, three[0], fails=True)
    assert rollouts.look() == 0
    assert state.champions.get(tenant, ANNA).version == 1


def test_a_champion_that_fails_seldom_stays(state, tenant, three, rollouts):
    for number in range(10):
        render(state, three[1], fails=number < 5)
    assert rollouts.look() == 0
    assert state.champions.get(tenant, ANNA).version == 2


def test_a_challenger_that_fails_is_withdrawn_and_the_champion_stays(state, tenant, three, rollouts):
    state.champions.challenge(tenant, ANNA, 3, share=20)
    for _ in range(4):
        render(state, three[2], fails=True)
        render(state, three[1], fails=False)
    assert rollouts.look() == 1
    assert state.champions.get(tenant, ANNA) == Champion(version=2, previous=1, epoch=4)
    assert state.versions.verdicts([three[2]])[0]["verdict"] == "refused"


def test_a_decision_on_renders_before_the_last_move_moves_nothing(state, tenant, three, rollouts, monkeypatch):
    for _ in range(6):
        render(state, three[1], fails=True)
    outcomes = state.outcomes.get(tenant, ANNA)
    state.champions.promote(three[2])  # somebody was quicker
    monkeypatch.setattr(state.outcomes, "get", lambda *_: outcomes)
    assert rollouts.look() == 0
    assert state.champions.get(tenant, ANNA).version == 3


def test_a_move_between_judging_and_rolling_back_wins(state, tenant, three, monkeypatch):
    class Overtaken(Proven):
        def prove(self, ref: ModelRef) -> str:
            state.champions.promote(three[2])
            return "cpu"

    for _ in range(6):
        render(state, three[1], fails=True)
    rollouts = Rollouts(state, Overtaken(state), RolloutSettings(min_renders=4, max_failed_share=0.5))
    assert rollouts.look() == 0
    assert state.champions.get(tenant, ANNA).version == 3


def test_a_share_of_the_requests_goes_to_the_challenger_and_each_always_to_the_same():
    champion = Champion(version=1, challenger=2, share=30, epoch=1)
    served = {f"order-{number}": champion.for_request(f"order-{number}") for number in range(2000)}
    assert 0.25 < sum(version == 2 for version in served.values()) / len(served) < 0.35
    assert served == {key: champion.for_request(key) for key in served}
    for share, version in ((0, 1), (100, 2)):
        assert Champion(version=1, challenger=2, share=share).for_request("any") == version
    assert Champion(version=1, share=100).for_request("any") == 1
