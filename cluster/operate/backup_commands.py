"""The commands about backups: ``backup``, ``restore`` and ``erasures export``."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster.operate.backups.archive import read_manifest
from cluster.operate.backups.backup import copy_database, make_backup
from cluster.operate.backups.ledger_file import read_ledger, write_ledger
from cluster.operate.backups.restore import restore
from cluster.operate.parser import Add, Commands
from cluster.platform import Platform
from cluster.settings import Settings
from cluster.stack.stack import Stack
from m2dao.command_line import say
from m2dao.errors import ConfigError
from m2dao.files import check_place

_STORES = ("redis", "s3", "mlflow")


def add_backup_commands(commands: Commands, add: Add) -> None:
    """Add them to the program; see ``add_commands``."""
    backup = add(commands, "backup", _backup, "Save records, objects and the model registry into a new folder.")
    backup.add_argument("folder", type=Path, help="where to; it must not exist")
    backup.add_argument(
        "--objects",
        action=argparse.BooleanOptionalAction,
        help="copy the object store too (default: where it is the embedded one)",
    )
    back = add(
        commands, "restore", _restore, "Make a platform of a backup, in empty services, without what was erased."
    )
    back.add_argument("folder", type=Path, help="a folder that backup has made")
    ledger = back.add_mutually_exclusive_group(required=True)
    ledger.add_argument("--erasures", type=Path, metavar="FILE", help="the ledger of erasures, as exported last")
    ledger.add_argument("--nothing-erased", action="store_true", help="nothing was erased since the backup")
    ledger.add_argument("--check", action="store_true", help="only compare every file with its hash")
    erasures = commands.add_parser("erasures", help="Export the ledger of erasures, which restore needs.")
    export = erasures.add_subparsers(required=True, metavar="COMMAND")
    to = add(export, "export", _export, "Write the ledger of erasures into a file, to be kept apart from backups.")
    to.add_argument("file", type=Path, help="where to; what is there is replaced")


def _backup(arguments: argparse.Namespace) -> dict[str, Any]:
    settings, own = Settings.from_env(), Settings.from_env(use_stack=False)
    _check_one_pepper(settings)
    platform = Platform(settings)
    objects = own.s3.endpoint is None if arguments.objects is None else arguments.objects
    database = _database(settings) if own.mlflow.url is None else None
    manifest = make_backup(
        platform.state, arguments.folder, store=platform.store if objects else None, mlflow_db=database, say=say
    )
    if not objects:
        say("the objects are not in it: copy the bucket by the tools of your object store, after this")
    if database is None:
        say("the database of MLflow is not in it: copy it by its own tools")
    say("the pepper (M2DAO_KEY_PEPPER) is not in it: keep it elsewhere")
    return {"folder": str(arguments.folder), **{k: v for k, v in asdict(manifest).items() if k != "files"}}


def _check_one_pepper(settings: Settings) -> None:
    """A backup names one pepper; keys that need the other would let nobody in where it is restored."""
    if settings.plain("key_pepper_other"):
        remedy = "end the change first: m2dao-cluster pepper status tells which keys are left"
        raise ConfigError("M2DAO_KEY_PEPPER_OTHER", "no change of the pepper under way", "one", remedy)


def _restore(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.check:
        manifest = read_manifest(arguments.folder)
        say(f"{len(manifest.files)} files are as they were saved")
        return {"folder": str(arguments.folder), "num_files": len(manifest.files)}
    ledger = None if arguments.nothing_erased else read_ledger(arguments.erasures)
    settings, own = Settings.from_env(), Settings.from_env(use_stack=False)

    def put_mlflow(database: Path) -> None:
        stack = Stack(own)
        stack.stop_service("mlflow")
        for path in _database(settings).parent.glob(f"{_database(settings).name}*"):  # a journal of its own too
            path.unlink()
        copy_database(database, _database(settings))
        stack.up(services=_STORES, progress=say)

    done = restore(
        Platform(settings),
        arguments.folder,
        ledger=ledger,
        put_mlflow=put_mlflow if own.mlflow.url is None else None,
        say=say,
    )
    for ref in done.incomplete:
        say(f"{ref}: its files are not in the object store")
    return {"folder": str(arguments.folder), **asdict(done), "failed": len(done.incomplete)}


def _database(settings: Settings) -> Path:
    """MLflow's database in the embedded stack."""
    return settings.home / "mlflow" / "mlflow.db"


def _export(arguments: argparse.Namespace) -> dict[str, Any]:
    check_place(arguments.file)
    ledger = write_ledger(Platform(Settings.from_env()).state.erasures, arguments.file)
    say(f"{len(ledger.entries)} erasures")
    return {"file": str(arguments.file), "num_erasures": len(ledger.entries)}
