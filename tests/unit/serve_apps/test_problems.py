"""Every error answer is a problem document and tells nobody more than it should."""

from __future__ import annotations

import errno
import pickle
import re
from pathlib import Path

import pytest
from fastapi import FastAPI

from cluster.state.problems import Problem
from m2dao import errors
from serve_apps.api.error_handlers import install_error_handlers
from serve_apps.problems import PROBLEMS, ApiProblem, document_of, problem_document, problem_of, stored_problem
from tests.support.http_server import serving

DOCS = Path(__file__).parents[3] / "docs" / "reference" / "errors.md"


def all_errors():
    pending = [errors.M2daoError]
    while pending:
        each = pending.pop()
        yield each
        pending += each.__subclasses__()


@pytest.mark.parametrize("kind", sorted(set(all_errors()), key=lambda kind: kind.__name__))
def test_every_error_of_the_project_has_a_problem_document(kind):
    error = ApiProblem("not-found") if kind is ApiProblem else kind("the thing", "this", "that", "do it")
    document = problem_of(error)
    assert document["type"].removeprefix("urn:m2dao:problem:") in PROBLEMS
    assert document["status"] == PROBLEMS[document["type"].rpartition(":")[2]].status
    caller = (errors.InputError, errors.NotFound, errors.Conflict)
    ours = (errors.SystemFault, errors.ServiceUnavailable, errors.ObjectCorrupt)
    assert not (issubclass(kind, caller) and issubclass(kind, ours))
    if issubclass(kind, caller):
        assert 400 <= document["status"] < 500
    if issubclass(kind, ours):
        assert document["status"] >= 500
    if document["status"] >= 500:
        assert "the thing" not in str(document)  # our own paths and addresses stay ours


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.AlreadyExists, 409),
        (errors.Conflict, 409),
        (errors.PromotionConflict, 412),
        (errors.CheckpointCorrupt, 500),
        (errors.ConfigError, 500),
        (errors.RenderBackendUnavailable, 500),
        (errors.AccessRefused, 503),
    ],
)
def test_an_error_has_the_status_of_whoever_can_mend_it(kind, status):
    assert problem_of(kind("the thing", "this", "that", "do it"))["status"] == status


def test_what_a_client_reads_names_no_folder_of_ours_and_no_setting():
    error = errors.MediaError(
        "/tmp/render-x1/speech.wav",
        "16 kHz",
        "nothing in /srv/m2dao/a b",
        "set M2DAO_SERVE_MAX_AUDIO_S, or see http://x/y",
    )
    detail = problem_of(error)["detail"]
    assert "speech.wav" in detail
    assert "http://x/y" in detail
    assert not re.search(r"/tmp|/srv|M2DAO_", detail)


def test_an_unexpected_error_tells_nothing():
    assert problem_of(RuntimeError("password=hunter2")) == problem_document("internal-error")


@pytest.mark.parametrize("kind", sorted(set(all_errors()), key=lambda kind: kind.__name__))
def test_what_is_stored_of_an_error_is_shown_as_the_error_itself_would_be(kind):
    error = ApiProblem("not-found") if kind is ApiProblem else kind("the thing", "this", "that", "do it")
    stored = Problem.from_dict(stored_problem(error).as_dict())
    assert document_of(stored) == problem_of(error)


def test_a_problem_document_that_was_stored_by_an_older_version_is_still_read():
    document = problem_document("unreadable-media", "no sound")
    assert document_of(Problem.from_dict(document)) == document


def test_of_a_code_that_is_not_in_the_table_only_the_title_is_shown():
    stored = Problem(code="attempts-exhausted", title="Every worker stopped", detail="host-7 3 attempts")
    assert document_of(stored) == problem_document("internal-error", "Every worker stopped")


def test_an_api_problem_survives_pickling():
    problem = ApiProblem("quota-exceeded", "too many", {"Retry-After": "3"}, [{"field": "a", "detail": "b"}])
    again = pickle.loads(pickle.dumps(problem))
    assert (again.code, again.detail, again.headers, again.errors) == (
        problem.code,
        problem.detail,
        problem.headers,
        problem.errors,
    )


@pytest.fixture(scope="module")
def told():
    """The problem documents that were answered, as whoever counts them hears of them."""
    return []


@pytest.fixture(scope="module")
def client(told):
    app = FastAPI()
    install_error_handlers(app, told.append)

    @app.get("/busy")
    def busy():
        raise errors.StateUnavailable("redis at 10.0.0.7")

    @app.get("/full")
    def full():
        raise OSError(errno.ENOSPC, "no space left on device", "/srv/uploads/x")

    @app.get("/bug")
    def bug():
        raise ZeroDivisionError("secret")

    @app.get("/quota")
    def quota():
        raise ApiProblem("quota-exceeded", "full", {"Retry-After": "9"})

    @app.get("/number")
    def number(n: int):
        return n

    with serving(app) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("PUT", "/busy", 405, "method-not-allowed"),
        ("GET", "/busy", 503, "service-unavailable"),
        ("GET", "/full", 503, "service-unavailable"),
        ("GET", "/bug", 500, "internal-error"),
        ("GET", "/quota", 429, "quota-exceeded"),
        ("GET", "/number?n=x", 422, "invalid-request"),
    ],
)
def test_the_frameworks_own_errors_are_problem_documents_too(client, told, method, path, status, code):
    answer = client.request(method, path)
    assert told.pop() == answer.json()
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:m2dao:problem:{code}"
    assert answer.json()["status"] == status
    assert "secret" not in answer.text
    assert "10.0.0.7" not in answer.text


def test_headers_that_belong_to_an_error_are_sent(client):
    assert client.get("/quota").headers["retry-after"] == "9"
    assert int(client.get("/busy").headers["retry-after"]) > 0
    assert int(client.get("/full").headers["retry-after"]) > 0
    assert "GET" in client.put("/busy").headers["allow"]


def test_a_wrong_parameter_is_named(client):
    assert client.get("/number?n=x").json()["errors"][0]["field"] == "query.n"


def test_every_problem_is_documented():
    table = re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", DOCS.read_text(), re.MULTILINE)
    assert {code: int(status) for code, status in table} == {code: kind.status for code, kind in PROBLEMS.items()}
