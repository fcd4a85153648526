"""Tenants and their API keys.

An API key is 256 bits from the system's random source, so nobody can guess one however fast the hash is, and a slow
password hash would only slow every request down. A plain SHA-256 is therefore right, keyed (HMAC) with a pepper that
is not in Redis: a stolen copy of the database neither holds keys nor lets anybody test one. There is no salt per key,
because all keys differ and the hash must be found by looking it up.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from dataclasses import dataclass

from cluster.ids import TenantId
from cluster.state import keys, scripts
from cluster.state.link import RedisLink, new_nonce
from m2dao.errors import AlreadyExists, ConfigError, InputError, UnknownTenant

_KEY_SHAPE = re.compile(r"m2dao_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, kw_only=True)
class ApiKeyInfo:
    """What is known of an API key; the key itself was shown once and is not kept."""

    key_id: str
    label: str
    created_s: float  # Unix time


class Accounts:
    """Who may use the platform. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink, *, pepper: str):
        self._link = link
        self._pepper = pepper.encode()

    def check_pepper(self) -> None:
        """Return when the keys in this store were made with our pepper; who asks first decides for all.

        Raises:
            ConfigError: they were made with another one: none of them would let anybody in here.
        """
        ours = hmac.new(self._pepper, b"m2dao pepper", hashlib.sha256).hexdigest()[:16]
        self._link.call("SET", keys.PEPPER, ours, "NX")
        known = self._link.call("GET", keys.PEPPER)
        if known != ours:
            remedy = f"set it as on the other nodes; to void all API keys, delete the key {keys.PEPPER!r} in Redis"
            raise ConfigError("M2DAO_KEY_PEPPER", f"the one with the fingerprint {known}", f"that of {ours}", remedy)

    def create_tenant(self, tenant: TenantId) -> None:
        """Add a tenant.

        Raises:
            AlreadyExists: there is one of that name.
        """
        if not self._link.run(scripts.CREATE_TENANT, [keys.TENANTS, keys.answer(new_nonce())], [str(tenant)]):
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
        names = [keys.api_keys(tenant), keys.TENANTS, keys.answer(new_nonce())]
        removed = self._link.run(scripts.DELETE_TENANT, names, [str(tenant), *keys.KINDS])
        for key in list(self._link.scan(keys.everything_of(tenant))):
            self._link.call("DEL", key)
        if not removed:
            raise UnknownTenant(f"tenant {tenant}", "a tenant", "none of that name")

    def create_api_key(self, tenant: TenantId, *, label: str = "") -> str:
        """Make an API key and return it. This is the only time it can be seen.

        Args:
            tenant: whom it lets in.
            label: a note for the list of keys, up to 80 characters.

        Raises:
            ConfigError: the keys in this store were made with another pepper.
            UnknownTenant: there is no such tenant.
        """
        self.check_pepper()
        if len(label) > 80 or not label.isprintable():
            raise InputError("label", "up to 80 printable characters", repr(label[:80]))
        key = "m2dao_" + secrets.token_urlsafe(32)
        key_id = secrets.token_hex(6)
        digest = self._digest(key)
        entry = json.dumps({"hash": digest, "label": label, "created_s": time.time()})
        names = [keys.TENANTS, keys.api_key(digest), keys.api_keys(tenant)]
        if not self._link.run(scripts.CREATE_API_KEY, names, [str(tenant), key_id, entry]):
            raise UnknownTenant(f"tenant {tenant}", "a tenant", "none of that name", "create it first")
        return key

    def list_api_keys(self, tenant: TenantId) -> list[ApiKeyInfo]:
        """The tenant's keys, oldest first."""
        entries = ((key_id, json.loads(text)) for key_id, text in self._link.hash(keys.api_keys(tenant)).items())
        infos = [ApiKeyInfo(key_id=i, label=e["label"], created_s=e["created_s"]) for i, e in entries]
        return sorted(infos, key=lambda info: info.created_s)

    def revoke(self, tenant: TenantId, key_id: str) -> bool:
        """Void one of the tenant's keys at once; returns whether there was such a key."""
        names = [keys.api_keys(tenant), keys.answer(new_nonce())]
        return bool(self._link.run(scripts.REVOKE_API_KEY, names, [key_id]))

    def key_of(self, api_key: str) -> str | None:
        """Where in Redis the tenant of an API key stands; None for what cannot be an API key.

        The entry is found by its hash, so the time this takes says nothing about how nearly right a guess was.
        """
        return keys.api_key(self._digest(api_key)) if _KEY_SHAPE.fullmatch(api_key) else None

    def _digest(self, key: str) -> str:
        return hmac.new(self._pepper, key.encode(), hashlib.sha256).hexdigest()
