"""The `m2dao-train` command: fit many identities on the cluster, and decide which versions serve."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias

from cluster.control.champions import Champions
from cluster.control.exports import Exports
from cluster.control.fit_requests import PRIORITIES, PROTOCOLS, SIZES, FitOptions
from cluster.control.fits import Batch, FitService, Recording
from cluster.control.gate import Promotion, Promotions
from cluster.control.people.audit import acting_as_command
from cluster.control.promotion.checks import GateThresholds
from cluster.ids import AliasRef, FitId, ModelRef, TenantId, parse_ref
from cluster.platform import Platform
from cluster.settings import Settings
from cluster.state.records import JobRecord
from cluster.state.seats import KEEPER
from cluster.telemetry.traces.export import start_traces
from m2dao.command_line import run_command, say
from m2dao.errors import InputError
from m2dao.progress import Progress

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # argparse has no public name for it
Run = Callable[[argparse.Namespace], dict[str, Any]]
DESCRIPTION = """Fit identities on the cluster, register them, and decide which version of each serves.

examples:
  m2dao-train fit --tenant acme --identity anna=anna.mp4 --identity ben=ben.mp4 --size 256 --minutes 10 --promote
  m2dao-train fit --tenant acme --identity anna=anna.mp4 --consent "signed release 2024-117, A. Smith" --detach
  m2dao-train watch --tenant acme f-0b1c...
  m2dao-train resume --tenant acme f-0b1c...
  m2dao-train list --tenant acme
  m2dao-train show acme.anna@7
  m2dao-train promote acme.anna@7 --expected-version 6
  m2dao-train rollback acme.anna

Exit codes: 0 done, 1 our fault or the machine's (also: a fit failed), 2 bad input or usage, 130 interrupted.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="m2dao-train", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_fit(commands)
    for name, what, function in (
        ("watch", "show the progress of fits until they end", _watch),
        ("resume", "go on with fits that failed or were cancelled, from their step checkpoints", _resume),
        ("cancel", "end fits", _cancel),
    ):
        command = _command(commands, name, what, function)
        command.add_argument("--tenant", required=True, help="whose fits they are")
        command.add_argument("fits", nargs="+", metavar="FIT", help="ids, f-...")
        if name == "resume":
            command.add_argument("--detach", action="store_true", help="do not wait for the fits to end")
    jobs = _command(commands, "jobs", "list a tenant's fits, newest first", _jobs)
    jobs.add_argument("--tenant", required=True)
    promote = _command(commands, "promote", "make a version the champion, if it passes the quality gate", _promote)
    promote.add_argument("ref", metavar="TENANT.IDENTITY@VERSION")
    promote.add_argument("--expected-version", type=int, metavar="N", help="refuse unless N is the champion now")
    promote.add_argument("--force", action="store_true", help="promote even if the gate refuses; recorded as forced")
    _add_gate(promote)
    rollback = _command(commands, "rollback", "make the previous champion the champion again", _rollback)
    rollback.add_argument("identity", metavar="TENANT.IDENTITY")
    challenge = _command(
        commands, "challenge", "let a share of the renders go to a version beside the champion", _challenge
    )
    challenge.add_argument("ref", metavar="TENANT.IDENTITY@VERSION")
    challenge.add_argument("--share", type=int, default=10, metavar="N", help="percent of the renders (default 10)")
    challenge.add_argument("--force", action="store_true", help="even if the gate refuses; recorded as forced")
    withdraw = _command(commands, "withdraw", "let an identity have no challenger", _withdraw)
    withdraw.add_argument("identity", metavar="TENANT.IDENTITY")
    listing = _command(commands, "list", "list a tenant's identities and versions", _list)
    listing.add_argument("--tenant", required=True)
    export = _command(
        commands, "export", "pack a version as one tar of safetensors, and tell where to fetch it", _export
    )
    export.add_argument("ref", metavar="TENANT.IDENTITY@VERSION")
    show = _command(commands, "show", "show what is registered of a version", _show)
    show.add_argument("ref", metavar="TENANT.IDENTITY@VERSION", help="or @champion, @previous")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    args = build_parser().parse_args(argv)
    with acting_as_command():
        return run_command(f"m2dao-train {args.command}", lambda: args.run(args), as_json=args.json)


# -- fits -----------------------------------------------------------------------------------------------------


def _add_fit(commands: Commands) -> None:
    fit = _command(commands, "fit", "upload recordings and fit an identity from each, in parallel", _fit)
    fit.add_argument("--tenant", required=True, help="whose identities they become")
    fit.add_argument(
        "--identity", action="append", required=True, metavar="NAME=VIDEO", help="a person and their video; repeat"
    )
    defaults = FitOptions()
    fit.add_argument("--recipe", default=defaults.recipe, help=f"training recipe (default {defaults.recipe})")
    fit.add_argument("--size", type=int, default=defaults.size, choices=SIZES, help="side of the image in pixels")
    fit.add_argument("--capture-size", type=int, default=defaults.capture_size, metavar="PX", help="side of the crop")
    budget = fit.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, default=None, metavar="M", help="time for each fit (default 10)")
    budget.add_argument("--steps", type=int, default=None, metavar="N", help="steps instead of a time")
    fit.add_argument("--seed", type=int, default=defaults.seed, help="of everything random")
    fit.add_argument(
        "--protocols",
        default=",".join(defaults.protocols),
        metavar="LIST",
        help=f"evaluations, the gate judges the first: {', '.join(PROTOCOLS)} (default %(default)s)",
    )
    fit.add_argument("--evaluate-frames", type=int, metavar="N", help="test frames to judge (default: all)")
    fit.add_argument("--consent", metavar="TEXT", help="who said that the person consents; kept with the version")
    fit.add_argument(
        "--priority", choices=list(PRIORITIES), default="normal", help="which fits of the tenant start first"
    )
    fit.add_argument("--promote", action="store_true", help="promote each version that passes the gate")
    fit.add_argument("--detach", action="store_true", help="do not wait for the fits to end")
    _add_gate(fit)


def _fit(args: argparse.Namespace) -> dict[str, Any]:
    tenant = TenantId.parse(args.tenant)
    recordings = [Recording.parse(text) for text in args.identity]
    options = FitOptions(
        recipe=args.recipe,
        size=args.size,
        capture_size=max(args.capture_size, args.size),
        minutes=None if args.steps else args.minutes or FitOptions.minutes,
        steps=args.steps,
        seed=args.seed,
        protocols=tuple(args.protocols.split(",")),
        evaluate_frames=args.evaluate_frames,
    )
    service = _service()
    batch = service.submit(
        tenant,
        recordings,
        options,
        consent=args.consent,
        promote=args.promote,
        gate=_given_gate(args),
        priority=PRIORITIES[args.priority],
        on_progress=say,
    )
    for recording, fit_id in zip(recordings, batch.fit_ids, strict=True):
        say(f"{recording.identity}: fit {fit_id}")
    return _follow(service, batch, detach=args.detach)


def _watch(args: argparse.Namespace) -> dict[str, Any]:
    tenant, fit_ids = _fits(args)
    service = _service()
    return _follow(service, service.batch_of(tenant, fit_ids), detach=False)


def _resume(args: argparse.Namespace) -> dict[str, Any]:
    tenant, fit_ids = _fits(args)
    service = _service()
    batch = service.resume(tenant, fit_ids)
    for old, job in zip(fit_ids, batch.jobs, strict=True):
        say(f"{old}: goes on as {job.id}" if job.id != old else f"{old}: is open, and goes on by itself")
    return _follow(service, batch, detach=args.detach)


def _cancel(args: argparse.Namespace) -> dict[str, Any]:
    tenant, fit_ids = _fits(args)
    service = _service()
    jobs = [service.cancel(tenant, fit_id) for fit_id in fit_ids]
    for job in jobs:
        say(f"{job.id}: cancelled")
    return {"cancelled": [str(job.id) for job in jobs]}


def _follow(service: FitService, batch: Batch, *, detach: bool) -> dict[str, Any]:
    """Show the fits' progress until they end; the result says how each ended."""
    names = {job.id: str(job.request["identity"]) for job in batch.jobs}
    jobs = {job.id: job for job in batch.jobs}
    if not _platform().state.seats.is_held(KEEPER):
        say("no keeper is running, so fits wait: m2dao-cluster up, or python -m cluster.keeper")
    watch = f"m2dao-train watch --tenant {batch.tenant} {' '.join(map(str, batch.fit_ids))}"
    if detach:
        say(f"follow with: {watch}")
    else:
        try:
            with Progress(names.values()) as progress:
                for job in service.follow(batch):
                    jobs[job.id] = job
                    progress.show(names[job.id], _describe(job), job.progress)
        except KeyboardInterrupt:
            say(f"\nthe fits go on; watch them: {watch}")
            raise
        for job in jobs.values():
            say(_verdict(names[job.id], job))
    fits = [_job_dict(job) for job in jobs.values()]
    return {"fits": fits, "failed": sum(fit["status"] == "failed" for fit in fits)}


def _describe(job: JobRecord) -> str:
    if job.status == "running":
        return job.stage or "starting"
    if job.status == "queued":
        return "waiting for a worker" if job.attempt == 0 else f"waiting for attempt {job.attempt + 1}"
    return job.status


def _verdict(name: str, job: JobRecord) -> str:
    if job.result is None:
        return f"{name}: {job.status}" + (f": {job.error.detail}" if job.error else "")
    metrics = job.result["metrics"]
    figures = [f"{key} {metrics[key]:.2f}" for key in ("psnr_db", "sync_confidence") if key in metrics]
    words = [f"{name}: {job.result['ref']}", *figures]
    promotion = job.result["promotion"]
    if promotion is not None:
        words.append("champion" if promotion["promoted"] else f"not promoted: {promotion['detail']}")
    return ", ".join(words)


def _jobs(args: argparse.Namespace) -> dict[str, Any]:
    found = _platform().state.jobs.list(TenantId.parse(args.tenant), "fit")
    if not args.json:
        for job in found:
            print(f"{job.id}  {job.request['identity']:<20} {job.status:<8} {job.progress:4.0%}  {_describe(job)}")
    return {"fits": [_job_dict(job) for job in found]}


def _job_dict(job: JobRecord) -> dict[str, Any]:
    fields = ("status", "progress", "stage", "attempt", "result", "created_s", "updated_s")
    shown = {name: getattr(job, name) for name in fields}
    return {"id": str(job.id), "identity": job.request["identity"], **shown, "error": job.error and job.error.as_dict()}


# -- versions -------------------------------------------------------------------------------------------------


def _promote(args: argparse.Namespace) -> dict[str, Any]:
    ref = ModelRef.parse(args.ref)
    thresholds = GateThresholds(**_given_gate(args))
    promotion = _promotions().promote(ref, thresholds=thresholds, expected=args.expected_version, force=args.force)
    return _say_promotion(promotion)


def _rollback(args: argparse.Namespace) -> dict[str, Any]:
    ref = AliasRef.parse(f"{args.identity}@previous")
    return _say_promotion(_promotions().roll_back(ref.tenant, ref.identity))


def _challenge(args: argparse.Namespace) -> dict[str, Any]:
    ref = ModelRef.parse(args.ref)
    if not 0 <= args.share <= 100:
        raise InputError("--share", "0 to 100 percent", str(args.share))
    promotion = _promotions().challenge(ref, share=args.share, force=args.force)
    say(f"challenger: {ref}, {args.share} % of the renders")
    return {"challenger": str(ref), "share": args.share, "gate": promotion.as_dict()["gate"]}


def _withdraw(args: argparse.Namespace) -> dict[str, Any]:
    ref = AliasRef.parse(f"{args.identity}@challenger")
    champion = Champions(_platform().state).withdraw(ref.tenant, ref.identity).now
    say(f"challenger: none (champion: {champion.version or 'none'})")
    return {"champion": champion.version, "challenger": champion.challenger}


def _say_promotion(promotion: Promotion) -> dict[str, Any]:
    result = promotion.as_dict()
    say(f"champion: {result['champion']} (before: {result['previous'] or 'none'})")
    for reason in result["gate"]["reasons"]:
        say(f"  {'! ' if result['gate']['forced'] else '- '}{reason}")
    return result


def _list(args: argparse.Namespace) -> dict[str, Any]:
    found = _platform().state.champions.identities(TenantId.parse(args.tenant))
    if not args.json:
        for info in found:
            versions = ", ".join(f"{n}{'*' if n == info.champion else ''}" for n in info.versions)
            print(f"{info.tenant}.{info.identity}  versions {versions}{'' if info.champion else '  (no champion)'}")
    rows = [{"identity": str(i.identity), "champion": i.champion, "versions": list(i.versions)} for i in found]
    return {"tenant": args.tenant, "identities": rows}


def _export(args: argparse.Namespace) -> dict[str, Any]:
    platform = _platform()
    export = Exports(platform.state, platform.store).make(ModelRef.parse(args.ref))
    say(f"{export.name}, {export.num_bytes / 1e6:.1f} MB, for {export.url_s // 60} minutes:\n{export.url}")
    return {"url": export.url, "num_bytes": export.num_bytes, "name": export.name}


def _show(args: argparse.Namespace) -> dict[str, Any]:
    info = _platform().registry.describe(parse_ref(args.ref))
    result = {
        "ref": str(info.ref),
        "aliases": list(info.aliases),
        "created": datetime.fromtimestamp(info.created_s, UTC).isoformat(timespec="seconds"),
        "fit_id": info.fit_id and str(info.fit_id),
        "num_bytes": info.num_bytes,
        "metrics": info.metrics,
        "tags": info.tags,
    }
    if not args.json:
        for name in ("ref", "created", "fit_id", "num_bytes"):
            print(f"{name:<18} {result[name]}")
        print(f"{'aliases':<18} {', '.join(info.aliases) or 'none'}")
        for name, number in sorted(info.metrics.items()):
            print(f"{name:<34} {number:.4g}")
        for name, value in sorted(info.tags.items()):
            print(f"{name:<18} {value}")
    return result


# -- helpers --------------------------------------------------------------------------------------------------


def _command(commands: Commands, name: str, what: str, function: Run) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what, description=what)
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    parser.set_defaults(run=function)
    return parser


def _add_gate(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("quality gate")
    for field in dataclasses.fields(GateThresholds):
        flag = "--" + field.name.replace("_", "-")
        group.add_argument(flag, type=float, metavar="X", help=f"default {field.default}")


def _given_gate(args: argparse.Namespace) -> dict[str, float]:
    values = {field.name: getattr(args, field.name) for field in dataclasses.fields(GateThresholds)}
    return {name: value for name, value in values.items() if value is not None}


def _fits(args: argparse.Namespace) -> tuple[TenantId, list[FitId]]:

    return TenantId.parse(args.tenant), [FitId.parse(text) for text in args.fits]


def _platform() -> Platform:
    settings = Settings.from_env()
    start_traces("cli", settings)
    return Platform(settings)


def _service() -> FitService:
    platform = _platform()
    return FitService(state=platform.state, store=platform.store)


def _promotions() -> Promotions:
    platform = _platform()
    return Promotions(platform.state.versions, Champions(platform.state))


if __name__ == "__main__":
    sys.exit(main())
