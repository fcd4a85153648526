"""Answers of Redis that get lost after it acted: nothing that a job names is deleted."""

from __future__ import annotations

import pytest

from cluster.state import scripts
from m2dao.errors import StateUnavailable
from serve_apps.api import renders
from tests.support.serve import assert_problem, do, make_worker, stored, take


@pytest.fixture
def lose(api, monkeypatch):
    """Loses the answer of a script once, after it acted; ``again`` is what redis-py then tries."""
    link, on_loop = api.services.state._link, api.services.redis
    run, run_on_loop = link.run, on_loop.run

    def lose_answer_of(lost_script: str, *, again: bool) -> None:
        lost: list[str] = []

        def is_lost(script: str) -> bool:
            if script != lost_script or lost:
                return False
            lost.append(script)
            if not again:
                raise StateUnavailable("state store", "an answer of Redis", "none")
            return True

        def losing(script, names, args):
            answer = run(script, names, args)
            return run(script, names, args) if is_lost(script) else answer

        async def losing_on_loop(script, names, args):
            answer = await run_on_loop(script, names, args)
            return await run_on_loop(script, names, args) if is_lost(script) else answer

        monkeypatch.setattr(link, "run", losing)
        monkeypatch.setattr(on_loop, "run", losing_on_loop)

    yield lose_answer_of
    monkeypatch.undo()


@pytest.fixture(params=["with the job", "in the object store"])
def place_of_sounds(request, monkeypatch):
    """Where accepted sounds are."""
    with monkeypatch.context() as patched:
        if request.param == "in the object store":
            patched.setattr(renders, "MAX_KEPT", 0)
        yield request.param


@pytest.mark.usefixtures("place_of_sounds")
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "order-7"}])
def test_a_render_whose_creation_had_to_be_sent_twice_keeps_its_speech(api, own, tmp_path, lose, headers):
    lose(scripts.CREATE_JOB, again=True)
    answer = own.ask(headers=headers)
    assert answer.status_code == 202
    assert stored(api, own.tenant) == {answer.json()["id"]}
    worker, _ = make_worker(api.services, tmp_path / "disk")
    assert do(worker, take(api.services, own.tenant)) == "done"


@pytest.mark.usefixtures("place_of_sounds")
def test_a_render_of_which_nobody_knows_whether_it_was_queued_keeps_its_speech(api, own, tmp_path, lose, monkeypatch):
    lose(scripts.CREATE_JOB, again=False)
    assert_problem(own.ask(headers={"Idempotency-Key": "k"}), 503, "service-unavailable")
    monkeypatch.undo()
    again = own.ask(headers={"Idempotency-Key": "k"}).json()["id"]
    assert stored(api, own.tenant) == {again}  # the first one was queued, and the second request found it
    worker, _ = make_worker(api.services, tmp_path / "disk")
    assert do(worker, take(api.services, own.tenant)) == "done"


@pytest.mark.usefixtures("place_of_sounds")
def test_a_render_that_is_refused_leaves_nothing(api, own):
    first = own.ask(headers={"Idempotency-Key": "k"}).json()["id"]
    assert_problem(own.ask(2.0, headers={"Idempotency-Key": "k"}), 422, "idempotency-conflict")
    assert stored(api, own.tenant) == {first}


@pytest.mark.parametrize("again", [True, False])
def test_a_video_whose_announcement_had_no_answer_is_not_deleted(api, own, tmp_path, lose, again):
    location = own.ask().headers["location"]
    claim = take(api.services, own.tenant)
    worker, _ = make_worker(api.services, tmp_path / "disk")
    lose(scripts.END_JOB, again=again)
    assert do(worker, claim) == "done"  # the worker says it again until it has an answer
    result = own.client.get(location).json()["result"]
    assert api.services.store.exists(f"{own.tenant}/renders/{claim.job.id}/video-{claim.fence}.mp4")
    assert result["num_bytes"] > 0
