"""What the API refuses before it reads a body, and what it takes back from bodies that do not come."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.serve import SMALL, api_over, assert_problem, stored


@pytest.fixture
def api_of(stack, folder):
    """An API of some settings, with a customer who has the identity anna."""
    with contextlib.ExitStack() as opened:

        def make(**changes):
            api = opened.enter_context(api_over(stack, SMALL.model_copy(update=changes)))
            customer = api.customer()
            api.register(customer.tenant, folder)
            return api, customer

        yield make


@contextlib.contextmanager
def half_an_upload(customer, *, length: int = 500_000, sent: int = 1000):
    """A connection on which an upload has begun and does not go on."""
    url = customer.client.base_url
    head = (
        f"POST /v1/renders HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: Bearer {customer.key}\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {length}\r\n\r\n"
    )
    part = b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
    with socket.create_connection((url.host, url.port), timeout=60) as connection:
        connection.sendall(head.encode() + (part + b"x" * sent)[:sent])
        yield connection


def answer_of(connection) -> str:
    """All that comes until the server closes the connection."""
    received = b""
    while piece := connection.recv(1 << 16):
        received += piece
    return received.decode()


def until(happened, *, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline


def uploads_of(api, tenant) -> int:
    return api.services.state._link.call("ZCARD", f"{tenant}:slots:uploads")


def test_over_quota_is_refused_before_the_body_is_read(api, own):
    for _ in range(SMALL.max_active_renders):
        assert own.ask().status_code == 202
    with half_an_upload(own, sent=0) as connection:  # not a byte of the body is ever sent
        answer = answer_of(connection)
    assert answer.startswith("HTTP/1.1 429")
    assert "retry-after: " in answer.lower()
    assert "urn:m2dao:problem:quota-exceeded" in answer


def test_without_a_key_nothing_of_the_body_is_read(own):
    nobody = dataclasses.replace(own, key="m2dao_" + "x" * 43)
    with half_an_upload(nobody, sent=0) as connection:
        assert answer_of(connection).startswith("HTTP/1.1 401")


def test_an_upload_counts_as_a_render_from_its_first_byte(api, own):
    with half_an_upload(own), half_an_upload(own):
        until(lambda: uploads_of(api, own.tenant) == 2)
        codes = [own.ask().status_code for _ in range(SMALL.max_active_renders - 1)]
    assert codes == [202, 202, 429]
    until(lambda: uploads_of(api, own.tenant) == 0)  # uploads that end give their places back
    assert [own.ask().status_code for _ in range(3)] == [202, 202, 429]


def test_a_tenant_has_so_many_uploads_at_once_and_others_are_not_affected(api_of, folder):
    api, customer = api_of(max_uploads=1)
    other = api.customer()
    api.register(other.tenant, folder)
    with half_an_upload(customer):
        until(lambda: uploads_of(api, customer.tenant) == 1)
        answer = customer.ask()
        assert_problem(answer, 429, "too-many-uploads")
        assert int(answer.headers["retry-after"]) >= 1
        assert other.ask().status_code == 202


def test_a_body_that_does_not_come_is_given_up(api_of):
    api, customer = api_of(upload_timeout_s=1.0)
    with half_an_upload(customer) as connection:
        answer = answer_of(connection)
    assert answer.startswith("HTTP/1.1 408")
    assert "urn:m2dao:problem:upload-too-slow" in answer
    until(lambda: uploads_of(api, customer.tenant) == 0)
    assert customer.ask().status_code == 202


@contextlib.contextmanager
def lone_api(settings):
    """An API in a process of its own, and where it listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.serve_apps.lone_api", str(listener.fileno()), "1"],
            env={**os.environ, **settings.to_env()},
            pass_fds=[listener.fileno()],
        )
        try:
            yield process, f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.kill()
            process.wait()


def test_an_ingress_that_is_killed_in_an_upload_holds_its_place_for_seconds_only(stack, api_of):
    api, customer = api_of(max_uploads=1)
    with lone_api(stack) as (process, url), httpx.Client(base_url=url) as client:
        with half_an_upload(dataclasses.replace(customer, client=client)):
            until(lambda: uploads_of(api, customer.tenant) == 1, within_s=600)  # it imports much before
            process.kill()
            process.wait()
        assert uploads_of(api, customer.tenant) == 1  # nobody gave it back
        until(lambda: customer.ask().status_code == 202)


def test_uploads_together_use_no_more_disk_than_they_may(api_of):
    api, customer = api_of(upload_disk_mb=64, max_active_renders=16)
    with contextlib.ExitStack() as opened:
        for _ in range(2):  # each may need 23 MB, as it comes and decoded
            opened.enter_context(half_an_upload(customer))
        until(lambda: api.services.disk._free < 20_000_000)
        answer = customer.ask()
        assert_problem(answer, 503, "service-unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    until(lambda: api.services.disk._free == 64_000_000)
    assert customer.ask().status_code == 202


def test_a_tenant_that_asks_too_often_is_told_when_to_come_back(api_of):
    _, customer = api_of(request_rate=0.1, request_burst=20)
    answers = [customer.client.get("/v1/renders") for _ in range(21)]
    assert [answer.status_code for answer in answers[:20]] == [200] * 20
    assert_problem(answers[20], 429, "too-many-requests")
    assert 1 <= int(answers[20].headers["retry-after"]) <= 10


def test_a_list_of_identities_costs_as_much_as_ten_requests(api_of):
    _, customer = api_of(request_rate=0.1, request_burst=25)
    answers = [customer.client.get("/v1/identities") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


def test_an_unknown_identity_costs_more_than_a_request_and_leaves_a_debt(api_of):
    _, customer = api_of(request_rate=0.1, request_burst=25)
    answers = [customer.ask(identity="nobody") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [404, 404, 404, 429]
    assert int(answers[3].headers["retry-after"]) > 50


def test_reading_goes_on_while_all_uploads_wait(api_of):
    """Forty waiting uploads once held all threads that answer requests."""
    api, customer = api_of(decode_processes=1, decode_wait_s=600.0, max_active_renders=100, max_uploads=100)
    with ThreadPoolExecutor(45) as pool:
        uploads = [pool.submit(customer.ask, 1.0) for _ in range(45)]
        while not all(upload.done() for upload in uploads):
            assert customer.client.get("/v1/renders?limit=1", timeout=20).status_code == 200
    assert {upload.result().status_code for upload in uploads} == {202}
    assert len(stored(api, customer.tenant)) == 45
