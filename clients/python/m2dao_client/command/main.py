"""Recordings, fits, promotions and videos over the M2DAO API.

The address and the key come from the environment: M2DAO_API_URL and M2DAO_API_KEY.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from m2dao_client.client import KEY, URL, Client
from m2dao_client.command import actions
from m2dao_client.command.actions import Told
from m2dao_client.errors import ApiError, ConfigurationError, JobFailed, M2daoClientError

EXIT_OURS, EXIT_ASKED, EXIT_INTERRUPTED = 1, 2, 130
_EXAMPLES = f"""examples:
  export {URL}=https://avatars.example.com {KEY}=...
  m2dao-client upload anna.mp4
  m2dao-client fit anna rec-7f3c1f0e5b1d4d0fa2b5e0f4c1a2b3c4 --quality good --watch
  m2dao-client list versions --identity anna
  m2dao-client promote anna 7
  m2dao-client say anna speech.wav --out anna.mp4
  m2dao-client rollback anna

exit codes: 0 done, 1 the service or the connection failed, 2 what was asked for cannot be done, 130 interrupted"""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    asked = build_parser().parse_args(argv)
    try:
        with Client(asked.url) as api:
            told: Told = asked.act(api, asked)
    except KeyboardInterrupt:
        print("m2dao-client: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (M2daoClientError, OSError, ValueError) as error:
        print(f"m2dao-client: {error}", file=sys.stderr)
        if asked.json:
            print(json.dumps(_document(error)), flush=True)
        return EXIT_ASKED if _is_askers(error) else EXIT_OURS
    if asked.json:
        print(_json(told), flush=True)
    else:
        print(told.text, flush=True)
    return 0


def _json(told: Told) -> str:
    if isinstance(told.objects, list):
        return json.dumps([body.model_dump(mode="json") for body in told.objects])
    return told.objects.model_dump_json()


def _document(error: Exception) -> dict[str, object]:
    """What machines are told of an error."""
    code = error.code if isinstance(error, ApiError) else ""
    return {"error": code or type(error).__name__, "detail": str(error)}


def _is_askers(error: Exception) -> bool:
    """Whether another question is needed, and not another try."""
    if isinstance(error, ApiError):
        return error.status < 500
    return isinstance(error, ConfigurationError | JobFailed | OSError | ValueError)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="m2dao-client", description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON value on standard output")
    shared.add_argument("--url", metavar="URL", help=f"address of the API (default: {URL})")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, act: Callable[[Client, argparse.Namespace], Told], example: str) -> argparse.ArgumentParser:
        words = (act.__doc__ or "").strip()
        command = commands.add_parser(
            name,
            help=words,
            description=words,
            epilog=f"example: m2dao-client {name} {example}",
            parents=[shared],
        )
        command.set_defaults(act=act)
        return command

    _add_making(add)
    _add_deciding(add)
    _add_looking(add)
    return parser


Add = Callable[[str, Callable[[Client, argparse.Namespace], Told], str], argparse.ArgumentParser]


def _add_making(add: Add) -> None:
    upload = add("upload", actions.upload, "anna.mp4")
    upload.add_argument("file", help="the video")
    upload.add_argument("--name", help="its name, for people (default: the file's)")
    upload.add_argument("--no-wait", dest="wait", action="store_false", help="do not wait until it was looked into")
    _waiting(upload)

    fit = add("fit", actions.fit, "anna rec-7f3c1f0e5b1d4d0fa2b5e0f4c1a2b3c4 --watch")
    fit.add_argument("identity", help="the person's name")
    fit.add_argument("recording", help="id of a recording that is ready")
    fit.add_argument("--quality", choices=["quick", "good", "best"], help="2, 10 or 30 minutes (default: good)")
    fit.add_argument("--minutes", type=float, metavar="M", help="how long to fit, exactly")
    fit.add_argument("--size", type=int, choices=[64, 128, 256, 512], help="side of the picture in pixels")
    fit.add_argument("--consent", help="who said, and where, that the person consents")
    fit.add_argument("--priority", choices=["low", "normal", "high"], help="which of your fits start first")
    fit.add_argument("--promote", action="store_true", help="promote the version if it passes the gate")
    fit.add_argument("--watch", action="store_true", help="follow it to its end")
    _once(fit)
    _waiting(fit)

    watch = add("watch", actions.watch, "f-7f3c1f0e5b1d4d0fa2b5e0f4c1a2b3c4")
    watch.add_argument("fit", help="id of the fit")
    _waiting(watch)

    say = add("say", actions.say, "anna speech.wav --out anna.mp4")
    say.add_argument("identity", help="`anna` (its champion), `anna@challenger` or `anna@7`")
    say.add_argument("audio", help="a sound file")
    say.add_argument("--out", required=True, metavar="FILE", help="where the video goes")
    say.add_argument("--background", metavar="COLOUR", help="`plate` (default) or `#rrggbb`")
    _once(say)
    _waiting(say)


def _add_deciding(add: Add) -> None:
    promote = add("promote", actions.promote, "anna 7")
    promote.add_argument("identity", help="the person's name")
    promote.add_argument("version", type=int, help="the version")
    promote.add_argument("--force", action="store_true", help="also against the gate")
    rollback = add("rollback", actions.roll_back, "anna")
    rollback.add_argument("identity", help="the person's name")
    _once(rollback)
    cancel = add("cancel", actions.cancel, "f-7f3c1f0e5b1d4d0fa2b5e0f4c1a2b3c4")
    cancel.add_argument("name", help="id of a fit or a render")


def _add_looking(add: Add) -> None:
    listing = add("list", actions.show_list, "fits --identity anna")
    listing.add_argument("kind", choices=actions.KINDS, help="what to list")
    listing.add_argument("--identity", help="only of this person; needed for versions")
    show = add("show", actions.show, "anna@7")
    show.add_argument("name", help="an identity, `anna@7`, or the id of a recording, a fit or a render")
    download = add("download", actions.download, "r-7f3c1f0e5b1d4d0fa2b5e0f4c1a2b3c4 --out anna.mp4")
    download.add_argument("render", help="id of the render")
    download.add_argument("--out", metavar="FILE", help="where the video goes (default: ID.mp4)")


def _waiting(command: argparse.ArgumentParser) -> None:
    command.add_argument("--timeout-s", type=float, metavar="S", help="how long to wait (default: to its end)")


def _once(command: argparse.ArgumentParser) -> None:
    command.add_argument("--once", metavar="NAME", help="your own name for this request: repeating it does nothing new")
