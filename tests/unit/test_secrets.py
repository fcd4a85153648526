"""No secret is in an error, in what is stored of it, in what a command prints, or in a log line."""

from __future__ import annotations

import io
import json
import logging
import pickle

import pytest

from cluster.settings import Settings
from cluster.state.problems import Problem
from cluster.telemetry.logs import configure_logging
from m2dao.command_line import run_command
from m2dao.errors import MediaError, RegistryUnavailable
from m2dao.secrets import scrub

PASSWORD, S3_KEY = "hunter2-%2Fof-mlflow", "s3-secret-of-the-site"
SIGNED = (
    "https://s3/m2dao/acme/v.mp4?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAEXAMPLE%2F20260101"
    f"&X-Amz-Expires=60&X-Amz-Signature={'ab12' * 16}"
)
TOLD = f"API request to http://ops:{PASSWORD}@host/api failed with {S3_KEY}, see {SIGNED}"


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    """Settings that have been read: from then on their secrets are known."""
    factory = logging.getLogRecordFactory()
    yield Settings.from_env(
        {"M2DAO_S3_SECRET_KEY": S3_KEY, "M2DAO_MLFLOW_URL": f"http://ops:{PASSWORD}@host"}, use_stack=False
    )
    logging.setLogRecordFactory(factory)


def clean(text: str) -> bool:
    return not any(secret in text for secret in (PASSWORD, "hunter2-/of-mlflow", S3_KEY, "ab12ab12", "AKIAEXAMPLE"))


def test_what_remains_says_where():
    said = scrub(TOLD)
    assert clean(said)
    assert said.startswith("API request to http://[secret]@host/api failed with [secret], see https://s3/m2dao")
    assert "X-Amz-Expires=60" in said


@pytest.mark.parametrize(
    "text", ["m2dao_" + "a" * 43, "Authorization: Bearer abcdefghijklmnopqrstuv", f"Signature={'0f' * 32}"]
)
def test_secrets_are_known_by_their_shape(text):
    assert scrub(text).endswith("[secret]")


def test_an_error_holds_no_secret_in_any_form():
    error = RegistryUnavailable("model registry", "an answer of MLflow", TOLD, TOLD)
    for form in (str(error), repr(error), repr(error.args), error.got, str(pickle.loads(pickle.dumps(error)))):
        assert clean(form)
    assert clean(Problem.of(error).detail)
    assert clean(Problem.of(ValueError(TOLD)).detail)


def test_a_command_prints_none(capsys):
    def fail_well():
        raise MediaError("clip", "a video", TOLD)

    def fail_badly():
        raise ValueError(TOLD)

    for work in (fail_well, fail_badly):
        run_command("m2dao test", work, as_json=True)
    captured = capsys.readouterr()
    assert clean(captured.out + captured.err)
    assert "http://[secret]@host" in captured.out
    assert "ValueError: API request" in captured.err


def test_a_log_line_holds_none_whoever_writes_it():
    ours, theirs = io.StringIO(), io.StringIO()
    configure_logging("test", stream=ours)
    library = logging.getLogger("a.library")
    handler = logging.StreamHandler(theirs)
    library.addHandler(handler)
    try:
        raise ValueError(TOLD)
    except ValueError:
        library.error("failed: %s", TOLD, exc_info=True, extra={"url": TOLD})
    finally:
        library.removeHandler(handler)
    for text in (ours.getvalue(), theirs.getvalue()):
        assert "failed: API request" in text
        assert "ValueError: API request" in text
        assert clean(text)
    assert clean(json.loads(ours.getvalue())["url"])
