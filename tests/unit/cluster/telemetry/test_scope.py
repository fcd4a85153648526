"""Log lines tell whom the work is for, also in threads that were handed the work."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.state.lease import Lease
from cluster.state.records import record_of
from cluster.telemetry.origin import Origin
from cluster.telemetry.scope import carried, is_request_id, note, scope, working_for
from m2dao.errors import StateUnavailable
from serve_apps.parallel import do_all
from tests.support.telemetry.log_lines import log_lines
from train_jobs.background import Background

log = logging.getLogger("work")
ALL = {"request": "q1", "tenant": "acme", "job": "r-1"}


@pytest.fixture
def lines():
    with log_lines() as lines:
        yield lines


def told(line):
    return {name: line[name] for name in ALL if name in line}


def test_a_line_tells_what_it_is_written_for_until_the_end_of_the_block(lines):
    with working_for(request="q1"):
        with working_for(tenant="acme", job="r-1"):
            log.info("inner")
        log.info("outer")
    log.info("after")
    assert [told(line) for line in lines()] == [ALL, {"request": "q1"}, {}]


def test_what_is_learnt_on_the_way_counts_from_then_on_and_ends_with_the_block(lines):
    with working_for(request="q1"):
        note(tenant="acme")
        log.info("inside")
    log.info("outside")
    assert [told(line) for line in lines()] == [{"request": "q1", "tenant": "acme"}, {}]


def test_a_line_that_says_otherwise_is_believed(lines):
    with working_for(job="r-1"):
        log.info("of another", extra={"job": "r-2"})
    assert lines()[0]["job"] == "r-2"


def test_a_field_of_the_scope_cannot_pose_as_the_lines_own(lines):
    with working_for(level="NONE", message="forged"):
        log.info("true")
    assert (lines()[0]["level"], lines()[0]["message"]) == ("INFO", "true")


def test_tasks_at_the_same_time_do_not_mix_their_scopes(lines):
    async def work(name: str, mine: asyncio.Event, other: asyncio.Event) -> None:
        with working_for(job=name):
            mine.set()
            await other.wait()
            log.info(name)

    async def main() -> None:
        events = [asyncio.Event(), asyncio.Event()]
        await asyncio.gather(work("a", *events), work("b", *events[::-1]))

    asyncio.run(main())
    assert {line["message"]: line["job"] for line in lines()} == {"a": "a", "b": "b"}


@pytest.mark.parametrize("way", ["carried", "do_all", "background", "task"])
def test_work_that_is_handed_on_keeps_its_scope(lines, way):
    def work() -> None:
        log.info("handed on")

    with ThreadPoolExecutor(1) as threads, working_for(**ALL):
        if way == "carried":
            threads.submit(carried(work)).result()
        elif way == "do_all":
            do_all(threads, [work])
        elif way == "background":
            with Background("test") as background:
                background.put(work)
        else:
            asyncio.run(asyncio.to_thread(work))
    assert [told(line) for line in lines()] == [ALL]


def test_a_heartbeat_that_fails_tells_whose_it_is(lines):
    failed = threading.Event()

    class Away:
        def heartbeat(self, claim, *, lease_s, progress, stage):
            if failed.is_set():
                return
            failed.set()
            raise StateUnavailable("Redis", "an answer", "none")

    class Claim:
        subject = "job r-1"

    with working_for(**ALL), Lease(Away(), Claim(), lease_s=20.0):
        assert failed.wait(60)
    assert [told(line) for line in lines()] == [ALL]


@pytest.mark.parametrize("text", ["a", "3f2c-9", "A.b_c-d", "9" * 128])
def test_a_proper_request_id_is_taken(text):
    assert is_request_id(text)


@pytest.mark.parametrize("text", ["", "9" * 129, "-a", "a b", "a\n", "ü", 'a"', "a,b", "{}", "../x", "a\x00"])
def test_anything_else_is_no_request_id(text):
    assert not is_request_id(text)


def test_the_origin_of_a_job_is_the_request_at_work_or_a_new_name():
    with working_for(request="q1"):
        assert Origin.here().request_id == "q1"
    made = {Origin.here().request_id for _ in range(3)}
    assert len(made) == 3
    assert all(map(is_request_id, made))
    assert scope() == {}


@pytest.mark.parametrize("text", ["", "{}", '{"request_id": "q1", "of_a_later_release": 1}'])
def test_an_origin_of_another_release_is_read(text):
    assert Origin.from_text(text).request_id == ("q1" if "q1" in text else "")


def test_a_job_of_a_release_that_stored_no_origin_is_read():
    fields = {"id": "r-" + "0" * 32, "tenant": "acme", "kind": "render", "status": "queued", "progress": "0"}
    fields |= {"stage": "", "request": "{}", "attempt": "0", "max_attempts": "3", "worker": "", "fence": "0"}
    job = record_of({**fields, "created": "1", "updated": "1"})
    assert job.origin == Origin()
    with job.worked_on():
        assert scope() == {"tenant": "acme", "job": str(job.id)}
