"""``m2dao-cluster key``: the API keys of tenants."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from cluster.commands.times import minute
from cluster.control.people.keys import Keys
from cluster.ids import TenantId
from cluster.operate.parser import Add, Commands
from cluster.platform import Platform
from cluster.settings import Settings
from cluster.state.people.principals import USUAL_SCOPES, ApiKeyInfo, KeyTerms, NewApiKey, Scope
from m2dao.command_line import say

_DAY_S = 86_400
_HOUR_S = 3600


def add_key_commands(commands: Commands, add: Add) -> None:
    """Add the group ``key`` to the commands."""
    key = commands.add_parser("key", help="Make, list, rotate and revoke API keys.").add_subparsers(
        required=True, metavar="COMMAND"
    )
    create = add(key, "create", _create, "Make an API key and print it, this once.")
    create.add_argument("tenant")
    create.add_argument("--label", default="", help="a note for the list of keys")
    create.add_argument(
        "--scope",
        action="append",
        choices=[scope.value for scope in Scope],
        help="what it may do, several times for several: client renders, operator makes identities, admin manages "
        "keys (default: client)",
    )
    create.add_argument("--days", type=float, metavar="N", help="it ends after this time (default: never)")
    add(key, "list", _list, "List a tenant's API keys.").add_argument("tenant")
    rotate = add(key, "rotate", _rotate, "Make a key in place of another, and print it, this once.")
    rotate.add_argument("tenant")
    rotate.add_argument("key_id", help="from key list")
    rotate.add_argument(
        "--overlap-hours", type=float, default=24.0, metavar="N", help="how long both let in (default: %(default)s)"
    )
    rotate.add_argument("--days", type=float, metavar="N", help="life of the new one (default: as the old one's)")
    revoke = add(key, "revoke", _revoke, "Void an API key at once.")
    revoke.add_argument("tenant")
    revoke.add_argument("key_id", help="from key list")


def _keys() -> Keys:
    return Keys(Platform(Settings.from_env()).state.accounts)


def _create(arguments: argparse.Namespace) -> dict[str, Any]:
    scopes = tuple(Scope(scope) for scope in arguments.scope) if arguments.scope else USUAL_SCOPES
    terms = KeyTerms(label=arguments.label, scopes=scopes, life_s=_seconds(arguments.days, _DAY_S))
    return _shown(_keys().make(TenantId.parse(arguments.tenant), terms), arguments)


def _rotate(arguments: argparse.Namespace) -> dict[str, Any]:
    tenant, life_s = TenantId.parse(arguments.tenant), _seconds(arguments.days, _DAY_S)
    overlap_s = arguments.overlap_hours * _HOUR_S
    return _shown(_keys().rotate(tenant, arguments.key_id, overlap_s=overlap_s, life_s=life_s), arguments)


def _list(arguments: argparse.Namespace) -> dict[str, Any]:
    infos, _ = _keys().page(TenantId.parse(arguments.tenant), limit=10_000)
    if not arguments.json:
        print("\n".join(_line(info) for info in infos))
    return {"tenant": arguments.tenant, "keys": [asdict(info) for info in infos]}


def _revoke(arguments: argparse.Namespace) -> dict[str, Any]:
    _keys().revoke(TenantId.parse(arguments.tenant), arguments.key_id)
    say(f"key {arguments.key_id} revoked")
    return {"tenant": arguments.tenant, "key_id": arguments.key_id, "revoked": True}


def _shown(new: NewApiKey, arguments: argparse.Namespace) -> dict[str, Any]:
    say("keep this key: it is not stored and cannot be shown again")
    if not arguments.json:
        print(new.key)
    return {"tenant": str(new.tenant), "key": new.key, **asdict(new.info)}


def _line(info: ApiKeyInfo) -> str:
    ends, used = minute(info.ends_s), minute(info.used_s)
    successor = f"  replaced by {info.successor}" if info.successor else ""
    return f"{info.key_id}  {','.join(info.scopes):21}  ends {ends:16}  used {used:16}  {info.label}{successor}"


def _seconds(number: float | None, unit_s: int) -> float | None:
    return None if number is None else number * unit_s
