"""What was erased is taken out of the records of a backup, and nothing else is."""

from __future__ import annotations

import pytest

from cluster.operate.backups.without_erased import without_erased
from cluster.state.upkeep.erasures import Erased, hash_of

KEY = b"k"


def cut(key, kind, value, *paths):
    erased = Erased(KEY, frozenset(hash_of(KEY, path) for path in paths))
    found = without_erased({"key": key, "type": kind, "value": value, "until_ms": None}, erased)
    return None if found is None else found["value"]


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
    "another record, by its key": ("acme:recording:7", "hash", {"a": "b"}, "acme/recording/7", None),
}


@pytest.mark.parametrize("what", RECORDS)
def test_what_is_erased_is_left_out(what):
    key, kind, value, path, left = RECORDS[what]
    assert cut(key, kind, value, path) == left


@pytest.mark.parametrize("what", RECORDS)
def test_everything_else_stays_as_it_is(what):
    key, kind, value, _, _ = RECORDS[what]
    near = ("acme/identities/ann", "acme/identities/anna/11", "acm", "acme/identities/anna-2", "acme/api-keys/77")
    assert cut(key, kind, value, *near) == value


def test_the_mark_of_what_was_taken_over_and_the_pepper_stay():
    assert cut("ledger:imported", "string", "1", ACME) == "1"
    assert cut("pepper", "string", "f", ACME) == "f"
