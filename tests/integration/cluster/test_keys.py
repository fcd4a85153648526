"""The names of keys: Lua makes the same ones as Python, and they stay what they are."""

from __future__ import annotations

import pytest

from cluster.ids import (
    RESERVED_TENANTS,
    BatchId,
    DeliveryId,
    FitId,
    IdentityName,
    RecordingId,
    RenderId,
    TenantId,
    WebhookId,
)
from cluster.state import keys

ACME, JOB = TenantId("acme"), RenderId.parse("r-" + "0" * 32)
ANNA, FIT = IdentityName("anna"), FitId.parse("f-" + "0" * 32)
FLEET = BatchId.parse("b-" + "0" * 32)
HOOK = WebhookId.parse("wh-" + "0" * 32)
TOLD = DeliveryId.parse("dl-" + "0" * 32 + "-7")
VIDEO = RecordingId.parse("rec-" + "0" * 32)
QUEUE, LEASES, INDEX = keys.job_lists(ACME, "render")
NAMES = [
    (keys.api_key("d1"), "api-key:d1", ("api_key", "d1")),
    (keys.api_keys(ACME), "acme:api-keys", ("api_keys", "acme")),
    (keys.audit(ACME)[0], "acme:audit", ("audit", "acme")),
    (keys.audit(ACME)[1], "acme:audit-tokens", ("audit_tokens", "acme")),
    (keys.client_token("d1"), "client-token:d1", ("client_token", "d1")),
    (keys.client_tokens(ACME)[0], "acme:client-tokens", ("client_tokens", "acme")),
    (keys.client_tokens(ACME)[1], "acme:client-token-ends", ("client_token_ends", "acme")),
    (keys.CLIENT_ORIGINS, "client-token:origins", ("client_origins",)),
    (keys.job(ACME, JOB), f"acme:job:{JOB}", ("job", "acme", str(JOB))),
    (keys.files(ACME, JOB), f"acme:files:{JOB}", ("files", "acme", str(JOB))),
    (keys._PATTERNS["line"] % ("acme", "fit", "d4"), "acme:line:fit:d4", ("line", "acme", "fit", "d4")),
    (QUEUE, "acme:queue:render", ("queue", "acme", "render")),
    (LEASES, "acme:leases:render", ("leases", "acme", "render")),
    (INDEX, "acme:jobs:render", ("index", "acme", "render")),
    (keys.delayed(ACME, "fit"), "acme:delayed:fit", ("delayed", "acme", "fit")),
    (keys._PATTERNS["pulse"] % "fit", "pulse:fit", ("pulse", "fit")),
    (keys._PATTERNS["backlog"] % ("acme", "fit"), "acme:backlog:fit", ("backlog", "acme", "fit")),
    (keys.idempotency(ACME, "d2"), "acme:idempotency:d2", ("idempotency", "acme", "d2")),
    (keys._PATTERNS["turn"] % "fit", "turn:fit", ("turn", "fit")),
    (keys._PATTERNS["due"] % "fit", "due:fit", ("due", "fit")),
    (keys._PATTERNS["totals"] % "fit", "totals:fit", ("totals", "fit")),
    (keys.answer("n1"), "script-answer:n1", ("answer", "n1")),
    (keys.rate(ACME, "api"), "acme:rate:api", ("rate", "acme", "api")),
    (keys.slots(ACME, "live"), "acme:slots:live", ("slots", "acme", "live")),
    (keys.champion(ACME, ANNA), "acme:champion:anna", ("champion", "acme", "anna")),
    (keys.versions(ACME, ANNA), "acme:versions:anna", ("versions", "acme", "anna")),
    (keys.details(ACME, ANNA), "acme:details:anna", ("details", "acme", "anna")),
    (keys.verdicts(ACME, ANNA), "acme:verdicts:anna", ("verdicts", "acme", "anna")),
    (keys.moves(ACME, ANNA), "acme:moves:anna", ("moves", "acme", "anna")),
    (keys.identities(ACME), "acme:identities", ("identities", "acme")),
    (keys.version_of(ACME, FIT), f"acme:version-of:{FIT}", ("version_of", "acme", str(FIT))),
    (keys.move(ACME, "r1"), "acme:move:r1", ("move", "acme", "r1")),
    (keys.ledger("champions"), "ledger:champions", ("ledger", "champions")),
    (keys.probe(ACME, "p1"), "acme:probe:p1", ("probe", "acme", "p1")),
    (keys.recording(ACME, VIDEO), f"acme:recording:{VIDEO}", ("recording", "acme", str(VIDEO))),
    (keys.recordings(ACME), "acme:recordings", ("recordings", "acme")),
    (keys.recordings_by_content(ACME), "acme:recordings-by-content", ("by_content", "acme")),
    (keys.stored(ACME), "acme:stored", ("stored", "acme")),
    (keys._PATTERNS["stored_since"] % "acme", "acme:stored-since", ("stored_since", "acme")),
    (keys.usage(ACME, 20_000)[0], "acme:usage:20000", ("usage", "acme", "20000")),
    (keys.usage(ACME, 20_000)[1], "acme:usage-names:20000", ("usage_names", "acme", "20000")),
    (keys.usage_days(ACME), "acme:usage-days", ("usage_days", "acme")),
    (keys.webhooks(ACME), "acme:webhooks", ("webhooks", "acme")),
    (keys.webhook(ACME, HOOK), f"acme:webhook:{HOOK}", ("webhook", "acme", str(HOOK))),
    (keys.deliveries(ACME, HOOK), f"acme:deliveries:{HOOK}", ("deliveries", "acme", str(HOOK))),
    (keys.delivery(ACME, TOLD), f"acme:delivery:{TOLD}", ("delivery", "acme", str(TOLD))),
    (keys.outbox(ACME, HOOK), f"acme:outbox:{HOOK}", ("outbox", "acme", str(HOOK))),
    (keys.OUTBOXES, "outbox", ("outboxes",)),
    (keys.outcomes(ACME, ANNA), "acme:outcomes:anna", ("outcomes", "acme", "anna")),
    (keys._PATTERNS["kept_failed"] % "acme", "acme:kept-failed", ("kept_failed", "acme")),
    (keys.batch(ACME, FLEET), f"acme:batch:{FLEET}", ("batch", "acme", str(FLEET))),
    (keys.batch_items(ACME, FLEET), f"acme:batch-items:{FLEET}", ("batch_items", "acme", str(FLEET))),
    (keys.batches(ACME), "acme:batches", ("batches", "acme")),
    (keys.OPEN_BATCHES, "batches", ("open_batches",)),
    (keys.seat("keeper"), "seat:keeper", ("seat", "keeper")),
    (keys.TALLIES, "totals:happened", ("tallies",)),
    (keys.MAINTENANCE, "maintenance", ("maintenance",)),
    (keys.wanting("fit"), "wanting:fit", ("wanting", "fit")),
    (keys.channel("champion"), "events:champion", ("channel", "champion")),
    (keys.jobs_channel(ACME, "fit"), "events:acme:jobs:fit", ("channel", "acme:jobs:fit")),
    (keys._PATTERNS["leaving"] % ("acme", "fit"), "acme:leaving:fit", ("leaving", "acme", "fit")),
    (keys.job_channel(ACME, JOB), f"events:acme:job:{JOB}", ("channel", f"acme:job:{JOB}")),
]


@pytest.mark.parametrize(("made", "expected", "asked"), NAMES)
def test_lua_and_python_make_the_same_name_and_it_never_changes(state, made, expected, asked):
    assert made == expected
    assert state._link.run(keys.for_lua() + "return key_of(unpack(ARGV))", [], asked) == expected


def test_a_channel_gives_back_its_topic():
    assert keys.topic_of(keys.channel("champion")) == "champion"


def test_every_name_is_asked_for_here():
    assert {asked[0] for _, _, asked in NAMES} == set(keys._PATTERNS)


@pytest.mark.parametrize(
    "name",
    sorted(
        {made for made, _, _ in NAMES if not made.startswith("acme:")}
        | {keys.TENANTS, keys.PROBES, keys.PEPPER, keys.PEPPER_SWITCHED, keys.ERASURES, keys.ERASURES_KEY}
    ),
)
def test_a_name_without_a_tenant_begins_with_a_word_that_no_tenant_can_have(name):
    assert name.split(":")[0] in RESERVED_TENANTS
