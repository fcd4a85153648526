"""A batch of fits on Ray Train: workers of one shape, each a run of its own, pull fits.

A run of Ray Train starts all of its workers together, or none, and restarts them together. Fits have nothing to do
with each other, so each worker has a run: it begins as soon as a node has a place for it, the places that others wait
for are what Ray's autoscaler sees, and a death stops nobody else. The workers of a batch are of one tenant.

Step checkpoints go to the object store directly and not through ``ray.train.report``.
"""

from __future__ import annotations

import itertools
import os
import uuid
from typing import Any
from urllib.parse import urlsplit

from cluster.control.fit_requests import ATTEMPTS_PER_FIT
from cluster.platform import Platform
from cluster.settings import MB, Settings
from cluster.telemetry.logs import configure_logging
from cluster.telemetry.traces.export import start_traces
from train_jobs.blame import BlameCallback
from train_jobs.members import BatchSpec, take_back
from train_jobs.supervisor import run_in_steps
from train_jobs.work import load_work
from train_jobs.worker import BatchWorker, probe_of

# Workers report nothing, so all the controller does is look whether they live: often, to restart them soon.
# A node that is still to come takes minutes; until then Ray Train would begin to wait anew every minute.
TRAIN_ENV = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600"}
EXTRA_RESTARTS = 3  # for deaths of workers that had no fit, which no fit is charged for


def run_batch(settings: Settings, batch: BatchSpec, work: str, *, run_name: str) -> bool:
    """Do all fits of the batch; returns when none of them can be taken on any more.

    How each fit ended is in its job. Must be called where ``ray.init`` has been.

    Args:
        work: the work function as ``module:attribute``.
        run_name: of the Ray Train runs; Ray continues a run of the same name silently, so never use one twice.

    Returns:
        whether all workers have ended. Others wait for places that nobody needs any more, until this process ends.

    Raises:
        ClusterUnavailable: a run itself came to an end (a worker that cannot start, a lost controller).
    """
    os.environ.update(TRAIN_ENV)  # Ray passes these on to the controllers

    starts = itertools.count()

    def run(rank: int) -> None:
        _run_worker(settings, batch, work, run_name=f"{run_name}.{rank}.{next(starts)}", rank=rank)

    return run_in_steps(Platform(settings).state.jobs, batch, run, most=settings.fit.max_workers)


def _run_worker(settings: Settings, batch: BatchSpec, work: str, *, run_name: str, rank: int) -> None:
    """One worker of the batch, restarted when it dies."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    from m2dao.errors import ClusterUnavailable

    shape = settings.fit
    # Not TorchTrainer: workers exchange no gradients, and the rendezvous it opens listens on every interface.
    trainer = DataParallelTrainer(
        _train_loop,
        train_loop_config={"batch": batch, "work": work, "rank": rank, "shape": shape},
        scaling_config=ScalingConfig(
            num_workers=1,
            use_gpu=shape.gpus > 0,
            resources_per_worker={
                "CPU": shape.cpus,
                "memory": shape.memory_mb * MB,
                **({"GPU": shape.gpus} if shape.gpus else {}),
            },
        ),
        run_config=RunConfig(
            name=run_name,
            storage_path=f"{settings.s3.bucket}/{batch.tenant}/ray-train",
            storage_filesystem=_filesystem(settings),
            failure_config=FailureConfig(max_failures=ATTEMPTS_PER_FIT * len(batch.fit_ids) + EXTRA_RESTARTS),
            callbacks=[BlameCallback(batch, rank)],  # type: ignore[list-item]  # Ray's types name its older callbacks
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise ClusterUnavailable(
            f"training run {run_name}", "a worker that runs to its end", str(error)[:500], "see the log of the Ray job"
        ) from error


def _train_loop(config: dict[str, Any]) -> None:
    """What each worker runs.

    Settings come from the worker's own environment: what is in ``config`` can be seen in Ray's dashboard, and they
    hold secrets.
    """
    batch, rank, shape = config["batch"], config["rank"], config["shape"]
    # Before anything imports numba, which takes all cores, or torch, whose waiting threads would spin.
    os.environ["NUMBA_NUM_THREADS"] = str(shape.cpus)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not shape.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves them all visible to those that reserve none
    settings = Settings.from_env()
    settings = settings.model_copy(update={"fit": shape})  # what was reserved counts
    configure_logging("fit", level=settings.log_level)
    start_traces("fit", settings)
    probe = probe_of(shape.chosen_backend)
    probe()  # or this worker does not start, and says why
    platform, generation = Platform(settings), uuid.uuid4().hex[:8]
    # An earlier worker of this rank is dead by now; its fit need not wait for its lease to run out.
    take_back(platform.state.jobs, batch, rank=rank, keep_generation=generation)
    worker = BatchWorker(
        platform,
        batch,
        load_work(config["work"]),
        rank=rank,
        generation=generation,
        num_threads=shape.cpus,
        probe=probe,
    )
    worker.clean()
    worker.run()


def _filesystem(settings: Settings) -> Any:
    """The object store as Ray Train wants it, for the files that it keeps about a run."""
    import pyarrow.fs

    parts = urlsplit(settings.require("s3.endpoint"))
    return pyarrow.fs.S3FileSystem(
        access_key=settings.plain("s3.access_key"),  # without keys the chain of AWS decides, as it does for boto3
        secret_key=settings.plain("s3.secret_key"),
        session_token=settings.plain("s3.session_token"),
        region=settings.s3.region,
        endpoint_override=parts.netloc,
        scheme=parts.scheme,
    )
