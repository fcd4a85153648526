"""``m2dao-cluster``: the embedded stack, tenants and API keys, and the care of the whole platform."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cluster.commands.audit import add_audit_command
from cluster.commands.keys import add_key_commands
from cluster.commands.tokens import add_token_commands
from cluster.commands.trace import add_trace_command
from cluster.control.people.audit import acting_as_command
from cluster.control.sweep import sweep_all_renders
from cluster.control.tenants import Tenants
from cluster.operate.commands import add_commands
from cluster.operate.parser import Commands, Run
from cluster.platform import Platform
from cluster.settings import Settings
from cluster.stack.services import SERVICES
from m2dao.command_line import run_command, say
from m2dao.errors import ServiceError

_EXAMPLES = """examples:
  m2dao-cluster up                              start Valkey, SeaweedFS, MLflow, Ray and a keeper
  m2dao-cluster up --services redis,s3,mlflow   the same without Ray
  m2dao-cluster status --json
  m2dao-cluster doctor                          try Redis, S3, MLflow and Ray for all that is needed of them
  m2dao-cluster tenant create acme
  m2dao-cluster key create acme --label website
  m2dao-cluster key create acme --scope admin --days 90
  m2dao-cluster audit acme --limit 20           who has done what, the newest first
  m2dao-cluster token create acme anna --origin https://app.example.com --minutes 30
  m2dao-cluster key rotate acme 0b1c2d3e4f5a --overlap-hours 24
  m2dao-cluster sweep --days 30                 delete videos and sound of renders that are older (for a daily job)
  m2dao-cluster trace r-7f3c1f0e5b1d4d0fa2b5e0f4c1a2b3c4      draw where its time went
  m2dao-cluster maintenance on --wait           accept nothing new, and return when all that was accepted is done
  m2dao-cluster maintenance off
  m2dao-cluster plan --identities 10000 --streams 500 --fits-per-day 200
  m2dao-cluster pepper switch                   see docs/guides/operating.md
  m2dao-cluster support-bundle support.tar.gz   without secrets, names, faces and sound
  m2dao-cluster backup /backups/monday
  m2dao-cluster erasures export /elsewhere/erasures.json      often: what was erased, as hashes
  m2dao-cluster restore /backups/monday --erasures /elsewhere/erasures.json
  m2dao-cluster down

settings come from the environment, see docs/reference/settings.md; exit codes: 0 done, 2 bad input, 1 our fault"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)  # a stop from outside is undone like Ctrl-C
    with acting_as_command():
        return run_command("m2dao-cluster", lambda: arguments.run(arguments), as_json=arguments.json)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="m2dao-cluster",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(group: Commands, name: str, run: Run, help: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = group.add_parser(name, help=help, description=help, parents=[shared])
        command.set_defaults(run=run)
        return command

    up = add(commands, "up", _up, "Start the embedded services that are missing, and wait until they answer.")
    up.add_argument(
        "--services", default=",".join(SERVICES), metavar="LIST", help="which ones, by comma (default: %(default)s)"
    )
    up.add_argument("--owner-pid", type=int, metavar="PID", help="stop the stack when this process ends")
    add(commands, "down", _down, "Stop everything that up started; data stays.")
    add(commands, "status", _status, "Say how each service is.")
    add(commands, "doctor", _doctor, "Try every service for what we need of it, and say what is missing.")
    tenant = commands.add_parser("tenant", help="Make and list tenants.").add_subparsers(
        required=True, metavar="COMMAND"
    )
    add(tenant, "create", _tenant_create, "Add a tenant.").add_argument("tenant", type=str)
    add(tenant, "list", _tenant_list, "List the tenants.")
    add_key_commands(commands, add)
    add_token_commands(commands, add)
    add_audit_command(commands, add)
    sweep = add(commands, "sweep", _sweep, "Delete what renders have stored, once it is old.")
    sweep.add_argument("--days", type=float, default=8.0, metavar="N", help="older than this (default: %(default)s)")
    add_commands(commands, add)
    add_trace_command(commands, add)
    return parser


def _up(arguments: argparse.Namespace) -> dict[str, Any]:
    from cluster.stack.stack import Stack

    stack = Stack(Settings.from_env(use_stack=False))
    names = [name for name in arguments.services.split(",") if name]
    settings = stack.up(services=names, progress=say, owner_pid=arguments.owner_pid)
    say(f"the stack is up; its home is {settings.home}")
    return {"home": str(settings.home), "services": [asdict(entry) for entry in stack.status()]}


def _down(arguments: argparse.Namespace) -> dict[str, Any]:
    from cluster.stack.stack import Stack

    settings = Settings.from_env(use_stack=False)
    killed = Stack(settings).down(progress=say)
    say("the stack is down" + (f" ({killed} processes had to be killed)" if killed else ""))
    return {"home": str(settings.home), "num_killed": killed}


def _status(arguments: argparse.Namespace) -> dict[str, Any]:
    from cluster.stack.stack import Stack

    settings = Settings.from_env(use_stack=False)
    entries = Stack(settings).status()
    for entry in entries:
        say(f"{entry.name:8} {entry.state:14} {entry.address:22} {'' if entry.pid is None else f'pid {entry.pid}'}")
    return {"home": str(settings.home), "services": [asdict(entry) for entry in entries]}


def _doctor(arguments: argparse.Namespace) -> dict[str, Any]:
    from cluster.stack.doctor import examine

    findings = []
    for finding in examine(_platform()):
        findings.append(finding)
        say(f"{finding.service:7} {'ok' if not finding.trouble else 'MISSING':8} {finding.needed}")
        if finding.trouble:
            say(f"        {finding.trouble}")
    missing = [finding for finding in findings if finding.trouble]
    if missing and not arguments.json:
        raise ServiceError("services", "all that is needed", f"{len(missing)} trials failed", "see above")
    return {"ok": not missing, "findings": [asdict(finding) for finding in findings]}


def _platform() -> Platform:
    return Platform(Settings.from_env())


def _tenants() -> Tenants:
    return Tenants(_platform().state.accounts)


def _tenant_create(arguments: argparse.Namespace) -> dict[str, Any]:
    tenant = _tenants().create(arguments.tenant)
    say(f"tenant {tenant} created")
    return {"tenant": str(tenant)}


def _tenant_list(arguments: argparse.Namespace) -> dict[str, Any]:
    names = [str(tenant) for tenant in _tenants().list()]
    if not arguments.json:
        print("\n".join(names))
    return {"tenants": names}


def _sweep(arguments: argparse.Namespace) -> dict[str, Any]:
    platform = _platform()
    deleted = sweep_all_renders(platform.state, platform.store, days=arguments.days)
    say(f"{sum(deleted.values())} objects of {len(deleted)} tenants deleted")
    return {"days": arguments.days, "deleted": {str(tenant): count for tenant, count in deleted.items()}}


if __name__ == "__main__":
    # Whatever still runs in the background must not keep the command from ending.
    code = main()
    sys.stdout.flush()
    os._exit(code) if code == 130 else sys.exit(code)
