"""`m2dao bench`: the figures the project quotes, each by one command."""

from __future__ import annotations

import importlib
import pkgutil

from m2dao.commands.shared import Commands

_NOT_BENCHES = ("cast", "talker_clock")  # what benches use


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser("bench", help="measure speed and quality on this machine")
    benches = parser.add_subparsers(dest="bench", required=True, metavar="BENCH")
    for module in pkgutil.iter_modules(__path__):
        if module.name not in _NOT_BENCHES:
            importlib.import_module(f"{__name__}.{module.name}").add_parser(benches)
