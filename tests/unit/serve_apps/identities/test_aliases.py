"""From what a client writes to the ref that is meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.ids import AliasRef, IdentityName, ModelRef, TenantId
from serve_apps.identities.aliases import parse_identity
from serve_apps.problems import ApiProblem

ACME = TenantId("acme")
CHAMPION = AliasRef(ACME, IdentityName("anna"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("anna", CHAMPION),
        ("anna@champion", CHAMPION),
        ("anna@previous", AliasRef(ACME, IdentityName("anna"), "previous")),
        ("anna@7", ModelRef(ACME, IdentityName("anna"), 7)),
        ("acme.anna", CHAMPION),
        ("acme.anna@7", ModelRef(ACME, IdentityName("anna"), 7)),
    ],
)
def test_the_forms_of_an_identity(text, expected):
    assert parse_identity(text, ACME) == expected


@pytest.mark.parametrize("text", ["globex.anna", "globex.anna@7", "globex.anna@champion", "nobody.x@1"])
def test_another_tenants_ref_looks_like_a_missing_identity(text):
    with pytest.raises(ApiProblem) as caught:
        parse_identity(text, ACME)
    assert caught.value.code == "unknown-identity"


@pytest.mark.parametrize(
    "text",
    ["", "@", "anna@", "Anna", "anna@0", "anna@07", "anna@٧", "anna@best", "a.b.c", "../x", "anna@7@7", "an na", "."],
)
def test_malformed_text_is_refused_as_such(text):
    with pytest.raises(ApiProblem) as caught:
        parse_identity(text, ACME)
    assert caught.value.code == "invalid-request"
    assert caught.value.errors[0]["field"] == "identity"


@given(st.text(max_size=60))
def test_whatever_is_sent_names_the_callers_own_or_is_refused(text):
    try:
        tenant = parse_identity(text, ACME).tenant
    except ApiProblem as problem:
        refused = problem.code
    else:
        assert tenant == ACME
        return
    assert refused in ("unknown-identity", "invalid-request")
