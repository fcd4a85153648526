"""``m2dao-cluster pepper``: change the secret that API keys are hashed with, with an overlap."""

from __future__ import annotations

import argparse
from typing import Any

from cluster.operate.parser import Add, Commands
from cluster.platform import Platform
from cluster.settings import Settings
from m2dao.command_line import say


def add_pepper_commands(commands: Commands, add: Add) -> None:
    """Add them to the program; see ``add_commands``."""
    pepper = commands.add_parser("pepper", help="Change the secret that API keys are hashed with, with an overlap.")
    group = pepper.add_subparsers(required=True, metavar="COMMAND")
    add(group, "switch", _switch, "Make M2DAO_KEY_PEPPER the current pepper, in place of M2DAO_KEY_PEPPER_OTHER.")
    add(group, "status", _status, "List the keys that were not used since the switch: they need the old pepper.")


def _switch(arguments: argparse.Namespace) -> dict[str, Any]:
    accounts = Platform(Settings.from_env()).state.accounts
    accounts.switch_pepper()
    say("keys are hashed anew when they are next used")
    return {"current": accounts.pepper_fingerprint()}


def _status(arguments: argparse.Namespace) -> dict[str, Any]:
    accounts = Platform(Settings.from_env()).state.accounts
    accounts.check_pepper()
    left = [(tenant, info) for tenant in accounts.list_tenants() for info in accounts.keys_of_old_pepper(tenant)]
    for tenant, info in left:
        say(f"{tenant}  {info.key_id}  {info.label}")
    say(f"{len(left)} keys need the old pepper" if left else "no key needs the old pepper: it can be dropped")
    return {"num_left": len(left), "keys": [{"tenant": str(tenant), "key_id": info.key_id} for tenant, info in left]}
