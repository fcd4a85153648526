"""``m2dao-cluster plan``: how many machines a platform needs."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from cluster.operate.parser import Add, Commands
from cluster.operate.sizing.figures import measure_stream, measured
from cluster.operate.sizing.plan import Assumptions, Wish, as_dict, as_text, make_plan
from m2dao.command_line import say
from m2dao.errors import ConfigError

_SIZES = (256, 512)


def add_plan_command(commands: Commands, add: Add) -> None:
    """Add it to the program; see ``add_commands``."""
    plan = add(commands, "plan", _plan, "Say how many machines are needed, with every figure and every assumption.")
    plan.add_argument("--identities", type=int, required=True, metavar="N", help="people that are fitted")
    plan.add_argument("--streams", type=int, required=True, metavar="N", help="renders at the same time, at the most")
    plan.add_argument("--fits-per-day", type=int, required=True, metavar="N", help="new versions a day")
    plan.add_argument(
        "--size", type=int, choices=_SIZES, default=256, help="pictures, in pixels (default: %(default)s)"
    )
    stream = plan.add_mutually_exclusive_group()
    stream.add_argument("--measure", action="store_true", help="measure a stream on this machine now, about a minute")
    stream.add_argument("--stream-cores", type=float, metavar="N", help="cores of a stream, measured by yourself")
    for each in fields(Assumptions):
        option = "--" + each.name.replace("_", "-")
        help = f"{each.metadata['help']} (default: {each.default:g})"
        plan.add_argument(option, type=float, default=each.default, metavar="N", help=help)


def _plan(arguments: argparse.Namespace) -> dict[str, Any]:
    for name in ("identities", "streams", "fits_per_day"):
        if getattr(arguments, name) < 0:
            raise ConfigError(f"--{name.replace('_', '-')}", "0 or more", str(getattr(arguments, name)))
    wish = Wish(
        identities=arguments.identities,
        streams=arguments.streams,
        fits_per_day=arguments.fits_per_day,
        size=arguments.size,
    )
    assumed = Assumptions(**{each.name: getattr(arguments, each.name) for each in fields(Assumptions)})
    figures, name = dict(measured()), f"stream_cores_{wish.size}"
    if arguments.measure:
        say("measuring a stream on all cores of this machine")
        figures[name] = measure_stream(wish.size)
    elif arguments.stream_cores is not None:
        if not 0 < arguments.stream_cores < 1000:
            raise ConfigError("--stream-cores", "a number above 0", f"{arguments.stream_cores:g}")
        figures[name] = figures[name].told(arguments.stream_cores)
    lines = make_plan(wish, figures, assumed)
    if not arguments.json:
        print(as_text(wish, figures, assumed, lines))
    return as_dict(wish, figures, assumed, lines)
