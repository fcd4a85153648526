"""The Ray job: does the fits it is given, on the cluster it runs on, and ends.

    python -m train_jobs.job --tenant acme --batch f-0b1c... --run-name f-0b1c...-1 --fit f-0b1c... --fit f-77aa...

``m2dao-train fit`` submits it; nobody calls it by hand. All it knows of the fits is in the job store, so it can be
killed at any moment and submitted again.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time

from cluster.control.fit_requests import ENGINE_WORK, FitRequest
from cluster.ids import FitId, TenantId
from cluster.platform import Platform
from cluster.settings import Settings
from cluster.telemetry.logs import configure_logging
from cluster.telemetry.traces import spans
from cluster.telemetry.traces.export import flush_traces, start_traces
from m2dao.errors import M2daoError, ServiceError
from train_jobs.members import BatchSpec, known_jobs, take_back

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Do the fits; returns 0 when every one of them has ended, well or not."""
    args = _parse(argv)
    settings = Settings.from_env()
    configure_logging("fit", level=settings.log_level)
    start_traces("fit", settings)
    try:
        return run(settings, args)
    except M2daoError as error:
        print(f"train_jobs.job: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        flush_traces()


def run(settings: Settings, args: argparse.Namespace) -> int:
    import ray

    from train_jobs.ray_train import run_batch

    batch = BatchSpec(
        name=args.batch,
        tenant=TenantId.parse(args.tenant),
        fit_ids=tuple(FitId.parse(text) for text in args.fit),
        lease_s=args.lease_s,
        steps_every_s=args.steps_every_s,
    )
    platform, began_s = Platform(settings), time.time()
    platform.store.ensure_bucket()
    take_back(platform.state.jobs, batch)  # of an earlier run of this job
    ray.init(log_to_driver=True)
    has_ended = True
    try:
        logger.info("%d fits on at most %d workers", len(batch.fit_ids), settings.fit.max_workers)
        has_ended = run_batch(settings, batch, args.work, run_name=args.run_name)
    finally:
        if has_ended:
            ray.shutdown()  # ends the workers; a living one would take its fit again as soon as it is back in the queue
        take_back(platform.state.jobs, batch)
        _close_runs(platform, batch)
        _record(platform, batch, args.run_name, began_s)
    unfinished = [job for job in known_jobs(platform.state.jobs, batch) if not job.finished]
    return 1 if unfinished else 0


def _record(platform: Platform, batch: BatchSpec, run_name: str, began_s: float) -> None:
    """Show each fit's trace how long this job ran for its batch."""
    for job in known_jobs(platform.state.jobs, batch) if spans.is_tracing() else ():
        with job.worked_on():
            spans.record("ray job", began_s, time.time(), run=run_name, num_fits=len(batch.fit_ids))


def _close_runs(platform: Platform, batch: BatchSpec) -> None:
    """Close the runs of fits that failed or were cancelled; registration closed the others."""
    for job in known_jobs(platform.state.jobs, batch):
        if job.status in ("failed", "cancelled"):
            try:
                platform.registry.runs.end(job.tenant, FitRequest.of(job).identity, job.fit_id, failed=True)
            except ServiceError as error:
                with job.worked_on():
                    logger.warning("run of %s: %s", job.id, error)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="train_jobs.job", description="Do fits on this Ray cluster.")
    parser.add_argument("--tenant", required=True, help="whose fits they are")
    parser.add_argument("--batch", required=True, help="name of the batch")
    parser.add_argument("--run-name", required=True, help="name of the Ray Train run; new for every submission")
    parser.add_argument("--fit", action="append", required=True, metavar="ID", help="a fit to do; repeat")
    parser.add_argument("--work", default=ENGINE_WORK, help="work function, MODULE:FUNCTION")
    parser.add_argument("--lease-s", type=float, default=30.0, help="seconds a worker may be silent")
    parser.add_argument("--steps-every-s", type=float, default=20.0, help="seconds between copies of step checkpoints")
    return parser.parse_args(argv)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads may wait for workers that nobody needs any more
