"""`m2dao bench`: the figures the project quotes, each by one command."""

from __future__ import annotations

import argparse
import importlib
import pkgutil

import m2dao.commands as commands


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("bench", help="measure speed and quality on this machine")
    benches = parser.add_subparsers(dest="bench", required=True, metavar="BENCH")
    for module in pkgutil.iter_modules(commands.__path__):
        if module.name.startswith("bench_"):
            importlib.import_module(f"m2dao.commands.{module.name}").add_parser(benches)
