"""Tenants and their API keys.

An API key is 256 bits from the system's random source, so nobody can guess one however fast the hash is, and a slow
password hash would only slow every request down. A plain SHA-256 is therefore right, keyed (HMAC) with a pepper that
is not in Redis: a stolen copy of the database neither holds keys nor lets anybody test one. There is no salt per key,
because all keys differ and the hash must be found by looking it up.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any

from cluster.ids import TenantId
from cluster.state import keys, scripts
from cluster.state.link import RedisLink, new_nonce
from cluster.state.new_jobs import Once, idempotency_conflict
from cluster.state.people.audit import AuditTrail
from cluster.state.people.drafts import Draft
from cluster.state.people.principals import USUAL_SCOPES, ApiKeyInfo, KeyTerms, NewApiKey, Scope, scopes_of, unknown_key
from cluster.state.upkeep.erasures import Erasures, api_key_path
from m2dao.errors import (
    AlreadyExists,
    ConfigError,
    Conflict,
    InputError,
    UnknownTenant,
)

_PREFIX = "m2dao_"
TOKEN_PREFIX = "m2dao-token_"
_SHAPE = re.compile(rf"({_PREFIX}|{TOKEN_PREFIX})[A-Za-z0-9_-]{{43}}")
_MOST_KEYS = 200  # of a tenant: more are a mistake of a program, and each list reads all
_MOST_OVERLAP_S = 30 * 86400.0
_LONGEST_LIFE_S = 10 * 365 * 86400.0


class Accounts:
    """Who may use the platform. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink, audit: AuditTrail, *, pepper: str, other_pepper: str = ""):
        self._link, self._audit = link, audit
        self._pepper, self._other_pepper = pepper.encode(), other_pepper.encode()

    def check_pepper(self) -> None:
        """Return when the keys in this store were made with our pepper; who asks first decides for all.

        Raises:
            ConfigError: they were made with another one: none of them would let anybody in here.
        """
        ours = self.pepper_fingerprint()
        self._link.call("SET", keys.PEPPER, ours, "NX")
        known = self._link.call("GET", keys.PEPPER)
        if known not in (ours, self._other_fingerprint()):
            remedy = f"set it as on the other nodes; to void all API keys, delete the key {keys.PEPPER!r} in Redis"
            raise ConfigError("M2DAO_KEY_PEPPER", f"the one with the fingerprint {known}", f"that of {ours}", remedy)

    def pepper_fingerprint(self) -> str:
        """What tells our pepper from others; the pepper cannot be found by it."""
        return _fingerprint(self._pepper)

    def _other_fingerprint(self) -> str:
        return _fingerprint(self._other_pepper) if self._other_pepper else ""

    def switch_pepper(self) -> None:
        """Make our pepper the current one, in place of the other; keys are hashed anew when next used.

        Raises:
            ConfigError: the current pepper is neither of the two.
        """
        names, peppers = [keys.PEPPER, keys.PEPPER_SWITCHED], [self._other_fingerprint(), self.pepper_fingerprint()]
        if not self._link.run(scripts.SWITCH_PEPPER, names, peppers):
            known = self._link.call("GET", keys.PEPPER)
            remedy = "set M2DAO_KEY_PEPPER to the new one and M2DAO_KEY_PEPPER_OTHER to the one until now"
            raise ConfigError("M2DAO_KEY_PEPPER_OTHER", f"the one with the fingerprint {known}", "another", remedy)

    def keys_of_old_pepper(self, tenant: TenantId) -> list[ApiKeyInfo]:
        """The tenant's keys that are still found by the pepper before the last switch only."""
        switched_s = self._link.call("GET", keys.PEPPER_SWITCHED)
        if not switched_s:
            return []
        current = self._link.call("GET", keys.PEPPER)

        def is_old(known: Mapping[str, Any]) -> bool:
            made_with = known.get("pepper")
            if made_with is None:  # by a release that did not note it
                return bool(known["created_s"] < int(switched_s) + 1)
            return bool(made_with != current)

        return self._infos({key_id: known for key_id, known in self._known(tenant).items() if is_old(known)})

    def create_tenant(self, tenant: TenantId) -> None:
        """Add a tenant.

        Raises:
            AlreadyExists: there is one of that name.
        """
        if not self._link.run(
            scripts.CREATE_TENANT, [keys.TENANTS, keys.answer(new_nonce())], [str(tenant), self._audit.signature()]
        ):
            raise AlreadyExists(f"tenant {tenant}", "a new name", "one that is taken")

    def list_tenants(self) -> list[TenantId]:
        """All tenants, by name."""
        return sorted(TenantId(name) for name in self._link.call("SMEMBERS", keys.TENANTS))

    def delete_tenant(self, tenant: TenantId) -> None:
        """Remove a tenant: its API keys stop working at once, then everything under its name is deleted.

        The tenant's objects and models are not in Redis; delete those first.

        Raises:
            UnknownTenant: there is no such tenant.
        """
        Erasures(self._link).note(str(tenant))
        names = [keys.api_keys(tenant), keys.TENANTS, keys.answer(new_nonce())]
        removed = self._link.run(scripts.DELETE_TENANT, names, [str(tenant), *keys.KINDS])
        for key in list(self._link.scan(keys.everything_of(tenant))):
            self._link.call("DEL", key)
        if not removed:
            raise UnknownTenant(f"tenant {tenant}", "a tenant", "none of that name")

    def create_api_key(self, tenant: TenantId, *, label: str = "", scopes: tuple[Scope, ...] = USUAL_SCOPES) -> str:
        """``make_api_key`` of a key that does not end; returns the key alone."""
        return self.make_api_key(tenant, KeyTerms(label=label, scopes=scopes)).key

    def make_api_key(self, tenant: TenantId, terms: KeyTerms, *, once: Once | None = None) -> NewApiKey:
        """Make an API key and return it. This is the only time it can be seen.

        Args:
            tenant: whom it lets in.
            terms: what it is for.
            once: a client's own name for the request. Asking again under it answers with the same key.

        Raises:
            ConfigError: the keys in this store were made with another pepper.
            InputError: the label does not print, there is no scope, or the life is too short or too long.
            UnknownTenant: there is no such tenant.
            IdempotencyConflict: another key was asked for under the same name.
            Conflict: the tenant has as many keys as it may have, or the key made under this name was revoked since.
        """
        self.check_pepper()
        _check(terms)
        scopes = ",".join(sorted(set(terms.scopes)))
        wanted = [terms.label, scopes, _milliseconds(terms.life_s)]
        draft = Draft("api-key", tenant, ["create", *wanted], once)
        digest = self.digest(self.secret(_PREFIX, draft.seed))
        names = [keys.TENANTS, keys.api_key(digest), keys.api_keys(tenant), draft.entry]
        args = [
            str(tenant),
            draft.name,
            digest,
            *wanted,
            *draft.rest,
            _MOST_KEYS,
            self._audit.signature(),
            self.pepper_fingerprint(),
        ]
        return self._made(tenant, self._link.run(scripts.CREATE_API_KEY, names, args))

    def rotate_api_key(
        self, tenant: TenantId, key_id: str, *, overlap_s: float, life_s: float | None = None, once: Once | None = None
    ) -> NewApiKey:
        """Make a key with the label and the scopes of another, which ends after ``overlap_s`` seconds.

        Args:
            tenant: whose key it is.
            key_id: the key to be replaced.
            overlap_s: how long both let in; 0 ends the old one at once.
            life_s: seconds until the new one ends; None for as long as the old one was to live.
            once: as for ``make_api_key``.

        Raises:
            what ``make_api_key`` raises; UnknownKey: the tenant has no such key. Conflict: it was replaced already,
                or has ended.
        """
        self.check_pepper()
        if not 0 <= overlap_s <= _MOST_OVERLAP_S:
            raise InputError("overlap", f"0 to {_MOST_OVERLAP_S:g} seconds", f"{overlap_s:g}")
        _check(KeyTerms(life_s=life_s))
        wanted = [key_id, round(overlap_s * 1000), _milliseconds(life_s)]
        draft = Draft("api-key", tenant, ["rotate", *wanted], once)
        digest = self.digest(self.secret(_PREFIX, draft.seed))
        names = [keys.api_key(digest), keys.api_keys(tenant), draft.entry]
        args = [
            str(tenant),
            draft.name,
            digest,
            *wanted,
            *draft.rest,
            _MOST_KEYS,
            self._audit.signature(),
            self.pepper_fingerprint(),
        ]
        answer = self._link.run(scripts.ROTATE_API_KEY, names, args)
        if answer[0] == "unknown":
            raise unknown_key()
        return self._made(tenant, answer)

    def list_api_keys(self, tenant: TenantId) -> list[ApiKeyInfo]:
        """The tenant's keys, oldest first."""
        return self._infos(self._known(tenant))

    def _known(self, tenant: TenantId) -> dict[str, dict[str, Any]]:
        return {key_id: json.loads(text) for key_id, text in self._link.hash(keys.api_keys(tenant)).items()}

    def _infos(self, found: Mapping[str, Mapping[str, Any]]) -> list[ApiKeyInfo]:
        entries = self._link.hashes([keys.api_key(known["hash"]) for known in found.values()])
        infos = [_info(key_id, known, entry) for (key_id, known), entry in zip(found.items(), entries, strict=True)]
        return sorted(infos, key=lambda info: (info.created_s, info.key_id))

    def api_key(self, tenant: TenantId, key_id: str) -> ApiKeyInfo:
        """One of the tenant's keys.

        Raises:
            UnknownKey: the tenant has no such key.
        """
        text = self._link.call("HGET", keys.api_keys(tenant), key_id)
        if text is None:
            raise unknown_key()
        known = json.loads(text)
        return _info(key_id, known, self._link.hash(keys.api_key(known["hash"])))

    def revoke(self, tenant: TenantId, key_id: str) -> bool:
        """Void one of the tenant's keys at once; returns whether there was such a key."""
        Erasures(self._link).note(api_key_path(tenant, key_id))
        names = [keys.api_keys(tenant), keys.answer(new_nonce())]
        words = [key_id, str(tenant), self._audit.signature()]
        return bool(self._link.run(scripts.REVOKE_API_KEY, names, words))

    def key_of(self, api_key: str) -> str | None:
        """Where in Redis the tenant of an API key or client token stands; None for what cannot be either.

        The entry is found by its hash, so the time this takes says nothing about how nearly right a guess was.
        """
        if not _SHAPE.fullmatch(api_key):
            return None
        entry = keys.client_token if api_key.startswith(TOKEN_PREFIX) else keys.api_key
        return entry(self.digest(api_key))

    def names_of_entry(self, api_key: str) -> tuple[list[str], list[str]] | None:
        """What ``scripts.REHASH_API_KEY`` takes to find an entry that was made with the other pepper.

        None where there is no other pepper, and for what cannot be a key.
        """
        if not self._other_pepper or not _SHAPE.fullmatch(api_key):
            return None
        is_token = api_key.startswith(TOKEN_PREFIX)
        entry, digest = keys.client_token if is_token else keys.api_key, self.digest(api_key)
        other = hmac.new(self._other_pepper, api_key.encode(), hashlib.sha256).hexdigest()
        names = [entry(digest), entry(other), keys.PEPPER]
        return names, [self.pepper_fingerprint(), digest, "" if is_token else "1"]

    def _made(self, tenant: TenantId, answer: list[str]) -> NewApiKey:
        outcome, *more = answer
        match outcome:
            case "no-tenant":
                raise UnknownTenant(f"tenant {tenant}", "a tenant", "none of that name", "create it first")
            case "conflict":
                raise idempotency_conflict()
            case "gone":
                raise Conflict("API key", "one that is there", "one that was revoked", "use a new idempotency key")
            case "full":
                raise Conflict("API keys", f"at most {_MOST_KEYS}", "one more", "revoke those that nobody uses")
            case "rotated":
                raise Conflict("API key", "one without a successor", f"its successor is {more[0]}", "rotate that one")
            case "ended":
                raise Conflict("API key", "one that lets in", "one that has ended", "make a new one")
        key_id, seed = more
        key, info = self.secret(_PREFIX, seed), self.api_key(tenant, key_id)
        self.require_found("API key", keys.api_key(self.digest(key)), key_id)
        return NewApiKey(tenant=tenant, key=key, info=info)

    def require_found(self, what: str, entry: str, name: str) -> None:
        """Return when a key or token of a repeated request is found by our pepper.

        Raises:
            Conflict: it was made with another one.
        """
        if self._link.call("HGET", entry, "key_id") != name:
            raise Conflict(what, "the pepper it was made with", "another one", "use a new idempotency key")

    def secret(self, prefix: str, seed: str) -> str:
        """The key or token of a seed.

        A request that is repeated gets the same one, which is not kept. Its seed is, for a day, and is of no use
        without the pepper.
        """
        digest = hmac.new(self._pepper, f"{prefix} {seed}".encode(), hashlib.sha256).digest()
        return prefix + base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def digest(self, key: str) -> str:
        """The keyed hash by which a key or token is found."""
        return hmac.new(self._pepper, key.encode(), hashlib.sha256).hexdigest()


def _check(terms: KeyTerms) -> None:
    if len(terms.label) > 80 or not terms.label.isprintable():
        raise InputError("label", "up to 80 printable characters", repr(terms.label[:80]))
    if not terms.scopes:
        raise InputError("scopes", "one or several", "none")
    if terms.life_s is not None and not 1 <= terms.life_s <= _LONGEST_LIFE_S:
        raise InputError("life of a key", f"1 to {_LONGEST_LIFE_S:g} seconds", f"{terms.life_s:g}")


def _milliseconds(seconds: float | None) -> int | str:
    return "" if seconds is None else round(seconds * 1000)


def _info(key_id: str, known: Mapping[str, Any], entry: Mapping[str, str]) -> ApiKeyInfo:
    return ApiKeyInfo(
        key_id=key_id,
        label=known["label"],
        scopes=scopes_of(entry.get("scopes")),
        created_s=known["created_s"],
        ends_s=float(entry["ends"]) / 1000 if "ends" in entry else None,
        used_s=float(entry["used"]) if "used" in entry else None,
        successor=entry.get("successor"),
    )


def _fingerprint(pepper: bytes) -> str:
    return hmac.new(pepper, b"m2dao pepper", hashlib.sha256).hexdigest()[:16]
