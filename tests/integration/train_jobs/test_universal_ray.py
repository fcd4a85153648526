"""`m2dao universal` on a private Ray: the rounds give what they give in one process."""

import contextlib
import json
import os
import subprocess
import sys
import time

import psutil
from safetensors.torch import load_file

from m2dao.training.universal import TENSORS_NAME
from m2dao.training.universal_fit import UniversalConfig, learn_universal
from tests.support.processes import LOOPBACK_ADDRESSES, listening_addresses
from tests.support.small_capture import make_small_capture


def living(processes):
    """Those that have not ended some time later; a zombie has, whoever waits for it."""
    _, left = psutil.wait_procs(processes, timeout=10)
    alive = []
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive


CONFIG = UniversalConfig(size=64, rounds=2, steps_per_round=4, speech_steps=30)


def test_on_ray_as_in_one_process(tmp_path):
    captures = [make_small_capture(tmp_path / f"{seed}", seed=seed) for seed in (1, 2, 3)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("M2DAO_RAY", "RAY_"))}
    command = [sys.executable, "-m", "m2dao.cli", "universal", *captures, "--out", tmp_path / "ray", "--json"]
    process = subprocess.Popen(
        [*map(str, command), "--size", "64", "--rounds", "2", "--steps", "4", "--speech-steps", "30"],
        env={**environment, "M2DAO_HOME": str(tmp_path / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    listening, started = set(), set()
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            started.update(psutil.Process(process.pid).children(recursive=True))
        listening |= listening_addresses(child.pid for child in started)
        time.sleep(0.3)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert listening, "Ray listens"
    assert listening <= LOOPBACK_ADDRESSES, "and on the loopback alone"
    assert not living(started), "nothing is left of it"
    here = learn_universal(captures, tmp_path / "here", CONFIG, num_threads=1)
    assert json.loads(out)["psnr_train_db"] == here.as_dict()["psnr_train_db"]
    first, second = (load_file(tmp_path / name / TENSORS_NAME) for name in ("ray", "here"))
    assert all(value.equal(second[name]) for name, value in first.items())
