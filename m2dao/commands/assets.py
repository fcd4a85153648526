"""`m2dao assets`: list, fetch and verify the model files of the lock table, and compile the kernels."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
import time
from pathlib import Path

from m2dao.assets import AssetStore, fetch_all
from m2dao.commands.shared import Commands, add_command
from m2dao.errors import AssetCorrupt, ConfigError

EXAMPLES = """examples:
  m2dao assets list                     what there is, from where, under which licence
  m2dao assets fetch                    fetch what is missing (about 240 MB over the network for everything)
  m2dao assets fetch face_landmarker    only this one
  m2dao assets fetch --into DIR         fill a folder for a machine without a registry: M2DAO_ASSETS_DIR=DIR there
  m2dao assets verify                   hash every stored file again
  m2dao assets compile                  compile the kernels for this processor, so that no later command waits
"""

_WITH_KERNELS = (
    "m2dao.capture.cameras.alignment_kernel",
    "m2dao.capture.regions.mask_kernel",
    "m2dao.motion.kernels.fused_pose",
    "m2dao.presenter.scene",
    "m2dao.render.composite_kernel",
    "m2dao.render.cpu",
    "m2dao.training.frames.targets",
    "m2dao.training.losses.fused_losses",
)  # importing these registers every kernel there is


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "assets", run, summary="list, fetch and verify model files; compile kernels", examples=EXAMPLES
    )
    parser.add_argument("action", choices=("list", "fetch", "verify", "compile"))
    parser.add_argument("names", nargs="*", metavar="NAME", help="which of them (default: all)")
    parser.add_argument("--into", type=Path, metavar="DIR", help="use this folder in place of the cache")


def run(args: argparse.Namespace) -> dict:
    if args.action == "compile":
        if args.names or args.into is not None:
            given = " ".join([*args.names, *(["--into"] if args.into is not None else [])])
            raise ConfigError(
                "m2dao assets compile", "no names and no folder: it compiles every kernel", given, "leave them out"
            )
        return _compile(as_json=args.json)
    store = AssetStore.from_env()
    if args.into is not None:
        store = dataclasses.replace(store, folder=args.into, may_fetch=True)
    names = args.names or list(store.lock)
    fetched = fetch_all(names, progress=not args.json, store=store) if args.action == "fetch" else []
    rows = {name: _row(store, name) for name in names}
    if not args.json:
        for name, row in rows.items():
            state = "here" if row["stored"] else "not here"
            print(f"{name}: {state}, {row['bytes'] / 2**20:.1f} MiB, {row['licence']}")
            print(f"    {row['purpose']}")
            print(f"    from {', '.join(row['packages'])}")
        print(f"folder: {store.folder}", file=sys.stderr)
    if args.action == "verify":
        problems = [problem for row in rows.values() for problem in row["problems"]]
        if problems:
            raise AssetCorrupt(
                f"model files in {store.folder}",
                "every file of the lock table",
                "; ".join(problems),
                "run `m2dao assets fetch`",
            )
    return {"folder": str(store.folder), "fetched": fetched, "assets": rows}


def _compile(*, as_json: bool) -> dict:
    """Run every kernel once on next to nothing; the machine code stays on disk."""
    for module in _WITH_KERNELS:
        importlib.import_module(module)
    from m2dao.kernels.compiled import compile_ahead
    from m2dao.render.api import default_backend, warm_up

    seconds = {}
    for room in ("capture", "motion", "presenter", "render", "training"):
        seconds[room] = round(sum(compile_ahead(f"m2dao.{room}").values()), 2)
        if not as_json:
            print(f"{room}: compiled in {seconds[room]:.1f} s")
    if (backend := default_backend()) != "cpu":
        began = time.perf_counter()
        warm_up(backend)
        seconds[backend] = round(time.perf_counter() - began, 2)
        if not as_json:
            print(f"{backend}: compiled in {seconds[backend]:.1f} s")
    return {"seconds": seconds}


def _row(store: AssetStore, name: str) -> dict:
    problems = store.problems(name)
    asset = store.lock[name]
    return {
        "stored": not problems,
        "problems": problems,
        "bytes": asset.num_bytes,
        "licence": asset.licence,
        "purpose": asset.purpose,
        "packages": list(asset.requirements),
        "files": {file.file: file.sha256 for file in asset.files},
    }
