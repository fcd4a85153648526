"""Runs the rounds of universal motion on Ray: a worker for each core, with some of the people."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.compute.client import connect, private_ray
from cluster.settings import Settings
from m2dao.training.universal import UniversalMotion
from m2dao.training.universal_fit import Learned, Learners, UniversalConfig

_MAX_RESTARTS = 3  # of a worker that dies; its people go on from their step checkpoints


@contextmanager
def learners_on_ray(
    captures: list[Path], work_dir: Path, config: UniversalConfig, universal: UniversalMotion
) -> Iterator[Learners]:
    """Everybody on Ray; arguments as in ``universal_fit.learners_here``.

    On the cluster that the settings name, whose workers must see the same folders, else on one started here and stopped
    afterwards.

    Raises:
        ClusterUnavailable: the cluster that is named does not answer.
    """
    settings = Settings.from_env()
    if settings.ray.address:
        connect(settings, log_to_driver=False)
        yield _OnRay(captures, work_dir, config, universal)
        return
    with private_ray():
        yield _OnRay(captures, work_dir, config, universal)


class _OnRay:
    """Workers, each with every n-th person."""

    def __init__(self, captures: list[Path], work_dir: Path, config: UniversalConfig, universal: UniversalMotion):
        import ray

        cores = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]  # Ray gives it no types
        num_workers = max(1, min(cores, len(captures)))
        worker: Any = ray.remote(num_cpus=1, max_restarts=_MAX_RESTARTS, max_task_retries=_MAX_RESTARTS)(_Worker)
        people = [
            (Path(path).resolve(), Path(work_dir).resolve() / str(number)) for number, path in enumerate(captures)
        ]
        shared = ray.put((config, universal))
        self._workers: list[Any] = [worker.remote(people[first::num_workers], shared) for first in range(num_workers)]
        self._num_people = len(people)

    def learn(self, motion: dict[str, Any], round_number: int) -> Iterator[Learned]:
        import ray

        shared, num_workers = ray.put(motion), len(self._workers)
        parts = [
            self._workers[number % num_workers].learn.remote(number // num_workers, shared, round_number)
            for number in range(self._num_people)
        ]
        return (Learned(*ray.get(part)) for part in parts)


class _Worker:
    """One process with the learners of some people."""

    def __init__(self, people: list[tuple[Path, Path]], shared: tuple[UniversalConfig, UniversalMotion]):
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if shared[0].backend != "gsplat":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # none is reserved, and Ray leaves them all visible
        from m2dao.kernels.threads import set_num_threads
        from m2dao.training.universal_fit import make_learner

        set_num_threads(1)
        self._learners = [make_learner(capture, work_dir, *shared) for capture, work_dir in people]

    def learn(self, number: int, motion: dict[str, Any], round_number: int) -> tuple[Any, ...]:
        return tuple(self._learners[number].learn(motion, round_number))
