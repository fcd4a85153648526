"""What was erased is taken out of the records of a backup, and nothing else is."""

from __future__ import annotations

import pytest

from cluster.ids import RecordingId, TenantId
from cluster.operate.backups.without_erased import all_without_erased, without_erased
from cluster.state import keys
from cluster.state.upkeep.erasures import Erased, hash_of, recording_path

KEY = b"k"


def cut(key, kind, value, *paths):
    erased = Erased(KEY, frozenset(hash_of(KEY, path) for path in paths))
    found = without_erased({"key": key, "type": kind, "value": value, "until_ms": None}, erased)
    return None if found is None else found["value"]


R7, R_A, R8 = ("rec-" + digit * 32 for digit in "7a8")
REC_7 = recording_path(TenantId("acme"), RecordingId(R7))
ANNA, ANNA_1, ACME = "acme/identities/anna", "acme/identities/anna/1", "acme"
FACTS = {"1": "{}", "2": "{}"}
CHAMPION = {"version": "1", "previous": "2", "challenger": "", "epoch": "4"}
RECORDS = {
    "a version": ("acme:versions:anna", "hash", FACTS, ANNA_1, {"2": "{}"}),
    "an identity's versions": ("acme:versions:anna", "hash", FACTS, ANNA, None),
    "how a version was made": ("acme:details:anna", "hash", FACTS, ANNA_1, {"2": "{}"}),
    "how an identity's versions were made": ("acme:details:anna", "hash", FACTS, ANNA, None),
    "a verdict": ("acme:verdicts:anna", "hash", FACTS, ANNA_1, {"2": "{}"}),
    "an identity's verdicts": ("acme:verdicts:anna", "hash", FACTS, ANNA, None),
    "an identity's moves": ("acme:moves:anna", "list", ['{"to": 1}'], ANNA, None),
    "an alias of a version": ("acme:champion:anna", "hash", CHAMPION, ANNA_1, {**CHAMPION, "version": ""}),
    "an identity's champion": ("acme:champion:anna", "hash", CHAMPION, ANNA, None),
    "a name": ("acme:identities", "zset", [["anna", 0.0], ["bert", 0.0]], ANNA, [["bert", 0.0]]),
    "a tenant": ("tenants", "set", ["acme", "other"], ACME, ["other"]),
    "a tenant's job": ("acme:job:r-1", "hash", {"id": "r-1"}, ACME, None),
    "an API key": ("api-key:ab", "hash", {"tenant": "acme", "key_id": "7"}, "acme/api-keys/7", None),
    "a tenant's API key": ("api-key:ab", "hash", {"tenant": "acme", "key_id": "7"}, ACME, None),
    "an entry of the keys": ("acme:api-keys", "hash", {"7": "{}", "8": "{}"}, "acme/api-keys/7", {"8": "{}"}),
    "an untold move": ("ledger:champions", "hash", {"acme.anna": "1", "acme.b": "2"}, ANNA, {"acme.b": "2"}),
    "an untold version": ("ledger:versions", "set", ["acme.anna@1", "acme.anna@2"], ANNA_1, ["acme.anna@2"]),
    "a recording": (f"acme:recording:{R7}", "hash", {"a": "b"}, REC_7, None),
    "an entry of the recordings": ("acme:recordings", "zset", [[R7, 5.0], [R_A, 6.0]], REC_7, [[R_A, 6.0]]),
    "a recording by its bytes": ("acme:recordings-by-content", "hash", {"ab": R7}, REC_7, None),
    "another one by its bytes": ("acme:recordings-by-content", "hash", {"ab": R7, "cd": R_A}, REC_7, {"cd": R_A}),
    "an item of a batch": (
        *("acme:batch-items:b-1", "hash", {"0": '{"identity": "anna"}', "1": '{"identity": "bert"}'}, ANNA),
        {"0": '{"identity": "erased", "status": "cancelled"}', "1": '{"identity": "bert"}'},
    ),
    "a tenant's open batches": ("batches", "set", ["acme b-1", "other b-2"], ACME, ["other b-2"]),
    "what a tenant's webhooks are to be told": ("outbox", "zset", [["acme wh-1", 5.0]], ACME, None),
    "what an identity stores": ("acme:stored-since", "hash", {"": "5", "anna": "6"}, ANNA, {"": "5"}),
    "a recording to look at": ("recordings", "zset", [[f"acme {R7}", 5.0]], REC_7, None),
    "a tenant's recordings to look at": ("recordings", "zset", [[f"acme {R7}", 5.0]], ACME, None),
}


@pytest.mark.parametrize("what", RECORDS)
def test_what_is_erased_is_left_out(what):
    key, kind, value, path, left = RECORDS[what]
    assert cut(key, kind, value, path) == left


@pytest.mark.parametrize("what", RECORDS)
def test_everything_else_stays_as_it_is(what):
    key, kind, value, _, _ = RECORDS[what]
    near = ("acme/identities/ann", "acme/identities/anna/11", "acm", "acme/identities/anna-2", "acme/api-keys/77")
    assert cut(key, kind, value, *near, f"acme/recording/{R8}") == value


def test_the_mark_of_what_was_taken_over_and_the_pepper_stay():
    assert cut("ledger:imported", "string", "1", ACME) == "1"
    assert cut("pepper", "string", "f", ACME) == "f"


# Of no one identity, recording or key: they leave with their tenant, are for a moment, or hold names of no tenant.
OF_NO_ONE = {
    *("client_tokens", "client_token", "client_token_ends", "client_origins", "audit", "audit_tokens"),
    *(
        "files",
        "queue",
        "line",
        "leases",
        "delayed",
        "backlog",
        "index",
        "leaving",
        "idempotency",
        "version_of",
        "move",
    ),
    *("turn", "due", "wanting", "totals", "pulse", "rate", "slots", "answer", "probe", "seat", "maintenance"),
    *("stored", "tallies", "channel", "outcomes", "kept_failed", "batch", "batches"),
    *("webhook", "webhooks", "delivery", "deliveries", "outbox"),  # what was told of an identity leaves after some days
    *("usage", "usage_days", "usage_names"),  # what a tenant is charged for: amounts by name, which stay
}


def test_every_kind_of_record_that_may_tell_of_an_identity_a_recording_or_a_key_is_named():
    tried = {kind_of(row[0]) for row in RECORDS.values()}
    assert {name for name, pattern in keys._PATTERNS.items() if kind_of(pattern) not in tried} == OF_NO_ONE


def kind_of(key: str) -> tuple[str, ...]:
    """What a key or a pattern of keys is about: the tenant, if it has one, and the next word."""
    first, *rest = key.split(":")
    return ("a tenant", rest[0]) if first in ("%s", "acme") else (first,)


def hash_record(key: str, **value: str) -> dict:
    return {"key": key, "type": "hash", "value": value, "until_ms": None}


def test_the_room_of_an_erased_recording_is_free_and_what_was_left_out_or_cut_is_counted():
    seven = hash_record(f"acme:recording:{R7}", bytes="7", state="uploading")
    eight = hash_record(f"acme:recording:{R8}", bytes="8", state="ready")
    by_content = hash_record("acme:recordings-by-content", ab=R7, cd=R8)
    room, other = hash_record("acme:stored", bytes="15", open="1"), hash_record("other:stored", bytes="0", open="0")
    erased = Erased(KEY, frozenset([hash_of(KEY, REC_7)]))
    kept, num_cut = all_without_erased([seven, eight, by_content, room, other], erased)
    freed = hash_record("acme:stored", bytes="8", open="0")
    assert kept == [eight, hash_record("acme:recordings-by-content", cd=R8), freed, other]
    assert num_cut == 2
    assert all_without_erased([seven, eight, room], Erased(KEY, frozenset())) == ([seven, eight, room], 0)
