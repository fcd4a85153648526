"""From what a client writes to a pinned ref, and how long that is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.ids import AliasRef, IdentityName, ModelRef, TenantId
from m2dao.errors import RegistryUnavailable, UnknownIdentity
from serve_apps.identities.aliases import RefResolver, parse_identity
from serve_apps.problems import ApiProblem

ACME = TenantId("acme")
CHAMPION = AliasRef(ACME, IdentityName("anna"))


class Known:
    """A registry of one identity; counts the questions."""

    def __init__(self, version: int | None = 1):
        self.version = version
        self.num_asked = 0
        self.during = lambda: None

    def resolve(self, ref):
        self.num_asked += 1
        answer = self.version
        self.during()
        if answer is None:
            raise UnknownIdentity(str(ref))
        return ref if isinstance(ref, ModelRef) else ModelRef(ref.tenant, ref.identity, answer)


def resolver_of(registry: Known, now: list[float]) -> RefResolver:
    return RefResolver(registry, ttl_s=10.0, unknown_ttl_s=1.0, clock=lambda: now[0])


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


def test_an_alias_is_asked_for_once_within_its_time():
    now, registry = [0.0], Known()
    resolver = resolver_of(registry, now)
    for _ in range(3):
        assert resolver.resolve(CHAMPION).version == 1
    assert registry.num_asked == 1


def test_a_promotion_whose_message_was_lost_is_seen_after_the_time():
    now, registry = [0.0], Known()
    resolver = resolver_of(registry, now)
    resolver.resolve(CHAMPION)
    registry.version = 2
    now[0] = 9.9
    assert resolver.resolve(CHAMPION).version == 1
    now[0] = 10.0
    assert resolver.resolve(CHAMPION).version == 2


def test_a_message_shows_the_new_champion_at_once():
    registry = Known()
    resolver = resolver_of(registry, [0.0])
    resolver.resolve(CHAMPION)
    registry.version = 2
    resolver.forget("acme.anna")
    assert resolver.resolve(CHAMPION).version == 2


def test_a_message_about_another_identity_changes_nothing():
    registry = Known()
    resolver = resolver_of(registry, [0.0])
    resolver.resolve(CHAMPION)
    resolver.forget("acme.ben")
    resolver.resolve(CHAMPION)
    assert registry.num_asked == 1


def test_an_answer_that_was_on_its_way_during_a_promotion_is_not_kept():
    registry = Known(version=1)
    resolver = resolver_of(registry, [0.0])

    def promote() -> None:
        registry.version, registry.during = 2, lambda: None
        resolver.forget("acme.anna")

    registry.during = promote
    assert resolver.resolve(CHAMPION).version == 1
    assert resolver.resolve(CHAMPION).version == 2


def test_an_unknown_identity_is_asked_for_again_soon():
    now, registry = [0.0], Known(version=None)
    resolver = resolver_of(registry, now)
    for _ in range(2):
        with pytest.raises(UnknownIdentity):
            resolver.resolve(CHAMPION)
    assert registry.num_asked == 1
    registry.version, now[0] = 1, 1.0
    assert resolver.resolve(CHAMPION).version == 1


def test_a_registry_that_does_not_answer_is_not_remembered():
    registry = Known()
    resolver = resolver_of(registry, [0.0])

    def fail() -> None:
        registry.during = lambda: None
        raise RegistryUnavailable("registry")

    registry.during = fail
    with pytest.raises(RegistryUnavailable):
        resolver.resolve(CHAMPION)
    assert resolver.resolve(CHAMPION).version == 1
