"""Ids: one parser each, one spelling each, and nothing that a service could take for something else."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.ids import (
    ALIASES,
    RESERVED_TENANTS,
    AliasRef,
    FitId,
    IdentityName,
    ModelRef,
    RenderId,
    TenantId,
    parse_job_id,
    parse_ref,
)
from m2dao.errors import InvalidId

NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,39}", fullmatch=True)
TENANTS = NAMES.filter(lambda name: name not in RESERVED_TENANTS)
BAD_NAMES = ["", "A", "-a", "a" * 41, "a.b", "a/b", "a@b", "a:b", "a b", "a\n", "ä", "٣", "a_b", "..", "a\x00"]


@given(TENANTS, NAMES, st.integers(1, 10**9 - 1))
def test_a_model_ref_survives_printing_and_parsing(tenant, identity, version):
    ref = ModelRef(TenantId(tenant), IdentityName(identity), version)
    assert ModelRef.parse(str(ref)) == ref == parse_ref(str(ref)) == pickle.loads(pickle.dumps(ref))
    assert ref.object_prefix.split("/") == [tenant, "identities", identity, str(version), ""]


@given(TENANTS, NAMES, st.sampled_from(ALIASES))
def test_an_alias_survives_printing_and_parsing(tenant, identity, alias):
    ref = AliasRef(TenantId(tenant), IdentityName(identity), alias)
    assert AliasRef.parse(str(ref)) == ref == parse_ref(str(ref))


@given(st.text(max_size=60))
def test_whatever_parses_as_a_ref_prints_as_it_came(text):
    try:
        ref = parse_ref(text)
    except InvalidId:
        return
    assert str(ref) == text


@given(TENANTS, NAMES, TENANTS, NAMES, st.integers(1, 9), st.integers(1, 9))
def test_two_refs_never_share_a_registry_name_or_an_object_prefix(tenant, identity, other, another, n, m):
    a, b = ModelRef(TenantId(tenant), IdentityName(identity), n), ModelRef(TenantId(other), IdentityName(another), m)
    assert (a.object_prefix == b.object_prefix) == (a == b)
    assert not a.object_prefix.startswith(b.object_prefix) or a == b
    assert (a.registry_name == b.registry_name) == (a.tenant == b.tenant and a.identity == b.identity)


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("parse", [TenantId.parse, IdentityName.parse])
def test_an_unusable_name_is_refused(parse, name):
    with pytest.raises(InvalidId):
        parse(name)


@pytest.mark.parametrize("name", sorted(RESERVED_TENANTS))
def test_a_tenant_cannot_take_a_name_that_key_names_begin_with(name):
    with pytest.raises(InvalidId, match="reserved"):
        TenantId.parse(name)
    IdentityName.parse(name)


@pytest.mark.parametrize(
    "text",
    [
        "acme.anna",
        "acme.anna@",
        "acme.anna@0",
        "acme.anna@07",
        "acme.anna@-1",
        "acme.anna@٧",
        "acme.anna@1e3",
        "acme@7",
        "acme.anna@1000000000",
        "acme.anna@latest",
        "acme.anna@7@8",
        "a.b.c@7",
        ".anna@7",
        "acme.anna@ 7",
        "acme.anna@7\n",
        "acme/anna@7",
        None,
        7,
    ],
)
def test_a_malformed_ref_is_refused(text):
    with pytest.raises(InvalidId):
        parse_ref(text)


def test_refs_are_made_of_typed_parts():
    for kind in (ModelRef, AliasRef):
        with pytest.raises(TypeError):
            kind("acme", "anna", 7)
    with pytest.raises(InvalidId):
        ModelRef(TenantId("acme"), IdentityName("anna"), True)


def test_job_ids_are_new_each_time_and_keep_their_kind():
    renders, fits = {RenderId.new() for _ in range(100)}, {FitId.new() for _ in range(100)}
    assert len(renders) == len(fits) == 100
    for made in renders | fits:
        assert parse_job_id(str(made)) == made
        assert type(parse_job_id(str(made))) is type(made)
    assert RenderId("r-" + "0" * 32) != FitId("f-" + "0" * 32)


@pytest.mark.parametrize("text", ["", "r-", "x-" + "0" * 32, "r-" + "0" * 31, "r-" + "G" * 32, "r-" + "0" * 33, None])
def test_a_malformed_job_id_is_refused(text):
    with pytest.raises(InvalidId):
        parse_job_id(text)


def test_a_refusal_does_not_repeat_a_megabyte():
    with pytest.raises(InvalidId) as caught:
        TenantId("x" * 1_000_000)
    assert len(str(caught.value)) < 300
