"""``m2dao-cluster token``: what web pages of tenants may hold."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from cluster.commands.times import minute
from cluster.control.people.tokens import USUAL_LIFE_S, Tokens
from cluster.ids import TenantId
from cluster.operate.parser import Add, Commands
from cluster.platform import Platform
from cluster.settings import Settings
from cluster.state.people.tokens import TokenInfo
from m2dao.command_line import say

_MINUTE_S = 60


def add_token_commands(commands: Commands, add: Add) -> None:
    """Add the group ``token`` to the commands."""
    token = commands.add_parser("token", help="Make, list and revoke client tokens for web pages.").add_subparsers(
        required=True, metavar="COMMAND"
    )
    create = add(token, "create", _create, "Make a client token for renders of one identity, and print it, this once.")
    create.add_argument("tenant")
    create.add_argument("identity", help="the only one whose renders it makes")
    create.add_argument(
        "--origin", required=True, metavar="URL", help="of the pages that may use it: https://HOST[:PORT]"
    )
    create.add_argument(
        "--minutes", type=float, default=USUAL_LIFE_S / _MINUTE_S, metavar="N", help="its life (default: %(default)g)"
    )
    add(token, "list", _list, "List a tenant's client tokens that let in.").add_argument("tenant")
    revoke = add(token, "revoke", _revoke, "Void a client token at once.")
    revoke.add_argument("tenant")
    revoke.add_argument("token_id", help="from token list")


def _tokens() -> Tokens:
    return Tokens(Platform(Settings.from_env()).state.tokens)


def _create(arguments: argparse.Namespace) -> dict[str, Any]:
    tenant, life_s = TenantId.parse(arguments.tenant), arguments.minutes * _MINUTE_S
    new = _tokens().make(tenant, arguments.identity, origin=arguments.origin, life_s=life_s)
    if not arguments.json:
        print(new.token)
    return {"tenant": str(tenant), "token": new.token, **_shown(new.info)}


def _list(arguments: argparse.Namespace) -> dict[str, Any]:
    infos, _ = _tokens().page(TenantId.parse(arguments.tenant), limit=10_000)
    if not arguments.json:
        print("\n".join(f"{i.token_id}  ends {minute(i.ends_s)}  {i.identity}  {i.origin}" for i in infos))
    return {"tenant": arguments.tenant, "tokens": [_shown(info) for info in infos]}


def _revoke(arguments: argparse.Namespace) -> dict[str, Any]:
    _tokens().revoke(TenantId.parse(arguments.tenant), arguments.token_id)
    say(f"token {arguments.token_id} revoked")
    return {"tenant": arguments.tenant, "token_id": arguments.token_id, "revoked": True}


def _shown(info: TokenInfo) -> dict[str, Any]:
    return {**asdict(info), "identity": str(info.identity)}
