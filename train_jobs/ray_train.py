"""A batch of fits as one Ray Train run.

One trainer for many fits: its workers pull fits until none is left. A trainer each would cost 10 s and a gigabyte per
fit. Ray Train restarts the whole group when one worker dies; the fits then go on from their step checkpoints, and
``train_jobs/blame.py`` sees to it that only the fit whose worker died is charged.

Step checkpoints go to the object store directly and not through ``ray.train.report``: a report waits for all workers
of the group, and here every worker is at another fit.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cluster.control.fit_requests import ATTEMPTS_PER_FIT
from cluster.platform import Platform
from cluster.settings import Settings
from cluster.telemetry.logs import configure_logging
from train_jobs.blame import BlameCallback
from train_jobs.members import BatchSpec, take_back
from train_jobs.work import load_work
from train_jobs.worker import BatchWorker

# Workers report nothing, so all the controller does is look whether they live: often, to restart them soon.
TRAIN_ENV = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"}
EXTRA_RESTARTS = 3  # for deaths of workers that had no fit, which no fit is charged for


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How many workers, and what each is given."""

    num_workers: int
    cpus_each: int = 1
    use_gpu: bool = False

    @classmethod
    def fitting(cls, num_fits: int, *, cpus: float, gpus: float) -> Workers:
        """Workers for ``num_fits`` fits on a cluster with these totals: one GPU each where there are any.

        Without GPUs every worker gets an equal share of the cores, and there are no more workers than cores.
        """
        slots = int(gpus) or max(int(cpus), 1)
        num_workers = max(1, min(num_fits, slots))
        return cls(num_workers=num_workers, cpus_each=max(1, int(cpus) // num_workers), use_gpu=gpus >= 1)


def run_batch(settings: Settings, batch: BatchSpec, workers: Workers, work: str, *, run_name: str) -> None:
    """Do all fits of the batch; returns when none of them can be taken on any more.

    How each fit ended is in its job. Must be called where ``ray.init`` has been.

    Args:
        work: the work function as ``module:attribute``.
        run_name: of the Ray Train run; Ray continues a run of the same name silently, so never use one twice.

    Raises:
        ClusterUnavailable: the run itself came to an end (workers that cannot start, a lost controller).
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    from m2dao.errors import ClusterUnavailable

    os.environ.update(TRAIN_ENV)  # Ray passes these on to the controller
    # Not TorchTrainer: workers exchange no gradients, and the rendezvous it opens listens on every interface.
    trainer = DataParallelTrainer(
        _train_loop,
        train_loop_config={"batch": batch, "work": work, "num_threads": workers.cpus_each},
        scaling_config=ScalingConfig(
            num_workers=workers.num_workers,
            use_gpu=workers.use_gpu,
            resources_per_worker={"CPU": workers.cpus_each, **({"GPU": 1} if workers.use_gpu else {})},
        ),
        run_config=RunConfig(
            name=run_name,
            storage_path=f"{settings.s3.bucket}/{batch.tenant}/ray-train",
            storage_filesystem=_filesystem(settings),
            failure_config=FailureConfig(max_failures=ATTEMPTS_PER_FIT * len(batch.fit_ids) + EXTRA_RESTARTS),
            callbacks=[BlameCallback(batch)],  # type: ignore[list-item]  # Ray's types name its older callbacks
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise ClusterUnavailable(
            f"training run {run_name}", "workers that run to their end", str(error)[:500], "see the log of the Ray job"
        ) from error


def _train_loop(config: dict[str, Any]) -> None:
    """What each worker of the group runs.

    Settings come from the worker's own environment: what is in ``config`` can be seen in Ray's dashboard, and they
    hold secrets.
    """
    import ray.train
    import ray.train.collective as collective

    # Before anything imports numba, which takes all cores, or torch, whose waiting threads would spin.
    os.environ["NUMBA_NUM_THREADS"] = str(config["num_threads"])
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    settings, batch = Settings.from_env(), config["batch"]
    configure_logging("fit", level=settings.log_level)
    rank = ray.train.get_context().get_world_rank()
    generation = collective.broadcast_from_rank_zero(uuid.uuid4().hex[:8])
    platform = Platform(settings)
    worker = BatchWorker(
        platform,
        batch,
        load_work(config["work"]),
        rank=rank,
        generation=generation,
        num_threads=config["num_threads"],
    )
    worker.clean()
    if rank == 0:  # earlier generations are dead by now; their fits need not wait for their leases to run out
        take_back(platform.state.jobs, batch, keep_generation=generation)
    collective.barrier()
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
