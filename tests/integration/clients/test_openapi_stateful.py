"""Calls that follow the document's links never end in an error of ours (schemathesis)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from cluster.settings import ServeConfig
from serve_apps.api.ingress import create_api
from tests.support.serve import api_over
from tests.support.tiny_identity import make_tiny_identity

WORKFLOWS = os.environ.get("M2DAO_TEST_WORKFLOWS", "30")  # `make test-openapi` asks for more
SEED = os.environ.get("M2DAO_TEST_SEED", "1")
# A stream stays open until its job has ended, and here nobody works; other tests read streams.
STREAMS = "/events$"
ENDS_ITS_OWN_KEY = ("revokeKey", "rotateKey")  # from then on every call would be refused


@pytest.fixture(scope="module")
def customer(stack, tmp_path_factory):
    config = ServeConfig(max_upload_mb=1, max_audio_s=5, max_active_renders=3, request_burst=1_000_000)
    folder = make_tiny_identity(tmp_path_factory.mktemp("identity") / "anna", size=32)
    with api_over(stack, config) as api:
        customer = api.customer()
        api.register(customer.tenant, folder)
        yield customer


def test_no_sequence_of_calls_ends_in_an_error_of_ours(customer, tmp_path):
    document, report = tmp_path / "openapi.json", tmp_path / "events.ndjson"
    document.write_text(json.dumps(create_api(None).openapi()), encoding="utf-8")
    # Its own runner, not a test of hypothesis: a service remembers, so the same calls need not end alike.
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", str(document)),
            *("--url", str(customer.client.base_url), "--header", f"Authorization: Bearer {customer.key}"),
            *("--phases", "stateful", "--checks", "not_a_server_error", "--exclude-path-regex", STREAMS),
            *("--seed", SEED, "--max-examples", WORKFLOWS, "--no-shrink", "--generation-database", "none"),
            *(word for name in ENDS_ITS_OWN_KEY for word in ("--exclude-operation-id", name)),
            *("--suppress-health-check", "all", "--warnings", "off", "--no-color"),
            *("--report", "ndjson", "--report-ndjson-path", str(report)),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "NO_PROXY": "*", "no_proxy": "*"},
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    statuses = Counter(_statuses(report))
    assert {201, 202} & set(statuses)  # something was made,
    assert statuses[200] > 10  # and was looked at


def _statuses(report: Path):
    def found(part):
        if isinstance(part, dict):
            if isinstance(part.get("status_code"), int):
                yield part["status_code"]
            for value in part.values():
                yield from found(value)
        elif isinstance(part, list):
            for value in part:
                yield from found(value)

    for line in report.read_text(encoding="utf-8").splitlines():
        yield from found(json.loads(line))


def test_what_is_made_is_linked_to_the_routes_that_take_it():
    paths = create_api(None).openapi()["paths"]
    fit = paths["/v1/fits"]["post"]["responses"]["202"]
    assert {"getFit", "cancelFit", "resumeFit", "followFit"} <= set(fit["links"])
    links = paths["/v1/recordings"]["post"]["responses"]["201"]["links"]
    assert links["completeRecording"]["parameters"] == {"recording_id": "$response.body#/id"}
    assert "links" not in paths["/v1/identities/{identity}/rollback"]["post"]["responses"]["200"]
