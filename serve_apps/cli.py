"""``m2dao-serve``: put the HTTP API on the running Ray cluster, take it off, and look at it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from m2dao.command_line import run_command, say

_EXAMPLES = """examples:
  m2dao-serve deploy                      serve on 127.0.0.1:8000, or M2DAO_API_HOST and M2DAO_API_PORT
  m2dao-serve status --json
  m2dao-serve undeploy                    let the running renders finish, then stop; queued ones stay queued
  m2dao-serve openapi > openapi.json      the API's own description; needs no running service

settings come from the environment, see docs/reference/settings.md;
exit codes: 0 done, 2 bad input, 1 our fault"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    return run_command("m2dao-serve", lambda: arguments.run(arguments), as_json=arguments.json)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="m2dao-serve", description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Any, help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help, parents=[shared])
        command.set_defaults(run=run)
        return command

    deploy = add("deploy", _deploy, "Start the API, or change a running one, and wait until it answers.")
    deploy.add_argument(
        "--timeout-s", type=float, default=180.0, metavar="S", help="how long to wait (default: %(default)s)"
    )
    add("undeploy", _undeploy, "Let the running renders finish and stop the API.")
    add("status", _status, "Say how the API's deployments are.")
    add("openapi", _openapi, "Print the OpenAPI document.")
    return parser


def _deploy(arguments: argparse.Namespace) -> dict[str, Any]:
    from cluster.settings import Settings
    from serve_apps.deploy import deploy

    settings = Settings.from_env()
    url = deploy(settings, settings.serve, timeout_s=arguments.timeout_s, progress=say)
    say(f"the API answers at {url}")
    return {"url": url}


def _undeploy(arguments: argparse.Namespace) -> dict[str, Any]:
    from cluster.settings import Settings
    from serve_apps.deploy import undeploy

    settings = Settings.from_env()
    was_running = undeploy(settings, timeout_s=settings.serve.drain_s + 60)
    say("the API is stopped" if was_running else "the API was not running")
    return {"was_running": was_running}


def _status(arguments: argparse.Namespace) -> dict[str, Any]:
    from cluster.settings import Settings
    from serve_apps.deploy import status

    result = status(Settings.from_env())
    say(f"{result['status']} at {result['url']}")
    for deployment in result["deployments"]:
        say(f"{deployment['name']:10} {deployment['status']:12} {deployment['replicas']} running")
    return result


def _openapi(arguments: argparse.Namespace) -> dict[str, Any]:
    from serve_apps.api.ingress import create_api

    document = create_api(None).openapi()
    if not arguments.json:
        print(json.dumps(document, indent=2))
    return document


if __name__ == "__main__":
    sys.exit(main())
