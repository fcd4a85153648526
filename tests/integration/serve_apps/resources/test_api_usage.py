"""``/v1/usage``: rows by day and identity, as JSON and as a table."""

from __future__ import annotations

import csv

import pytest

from cluster.state.resources.usage import today
from tests.support.serve import assert_problem


@pytest.fixture
def used(api, own):
    """A tenant that has used something for three identities."""
    jobs = api.services.state.jobs
    for name in ("anna", "ben", "carl"):
        job = jobs.create(own.tenant, "render", {"ref": f"{own.tenant}.{name}@1"}, cost=1.25)[0]
        jobs.finish(jobs.claim("render", worker="t", lease_s=60, tenant=own.tenant, job_id=job.id), {})
    return own


def test_usage_tells_what_was_rendered_for_whom_on_which_day(used):
    whole = used.client.get("/v1/usage").json()
    rows = [row for row in whole["usage"] if row["num_renders"]]
    assert [row["identity"] for row in rows] == ["anna", "ben", "carl"]
    assert {row["rendered_s"] for row in rows} == {1.25}
    assert {row["day"] for row in rows} <= {str(today()), rows[0]["day"]}
    assert whole["next"] is None


def test_a_link_leads_through_all_pages_of_both_forms(used):
    whole = used.client.get("/v1/usage").json()["usage"]
    seen, path = [], "/v1/usage?limit=1"
    while path is not None:
        answer = used.client.get(path)
        seen += answer.json()["usage"]
        path = answer.links.get("next", {}).get("url")
    assert seen == whole
    answer = used.client.get("/v1/usage?limit=2&format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = [*csv.DictReader(answer.text.splitlines())]
    rows += csv.DictReader(used.client.get(answer.links["next"]["url"]).text.splitlines())
    assert [(row["day"], row["identity"], float(row["rendered_s"])) for row in rows] == [
        (row["day"], row["identity"] or "", row["rendered_s"]) for row in whole
    ]


@pytest.mark.parametrize(
    "query",
    ["from=2026-02-30", "from=2026-02-02&to=2026-02-01", "after=x", "limit=0", "format=xml", "identity=A", "of=1"],
)
def test_a_wrong_question_is_refused(own, query):
    assert_problem(own.client.get(f"/v1/usage?{query}"), 422, "invalid-request")


def test_days_before_and_after_are_left_out(used):
    for query in ("from=0001-01-01&to=2020-01-01", "from=2999-01-01&to=9999-12-31", "to=0001-01-01"):
        assert used.client.get(f"/v1/usage?{query}").json() == {"usage": [], "next": None}


def test_usage_needs_an_operator(api, own):
    made = own.client.post("/v1/keys", json={"scopes": ["client"]}).json()
    answer = api.client.get("/v1/usage", headers={"Authorization": f"Bearer {made['key']}"})
    assert_problem(answer, 403, "missing-scope")
