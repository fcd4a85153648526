"""A version of a recording of five seconds speaks the probe sentence; the gate sees that it cannot."""

from __future__ import annotations

import pytest

from cluster.control.fit_requests import FitOptions
from cluster.control.promotion.checks import GateThresholds, judge
from cluster.ids import ModelRef
from cluster.state.versions import VersionDetails
from m2dao.training.fit import fit
from tests.support.small_capture import make_small_capture, small_recipe
from train_jobs import work


class Quiet:
    """A monitor that notes the stages."""

    def __init__(self):
        self.stages = []

    def stage(self, name: str, fraction: float, detail: str = "") -> None:
        self.stages.append((name, fraction, detail))


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> work.FitTask:
    """A capture of 132 frames and an identity fitted to it in a few steps."""
    folder = tmp_path_factory.mktemp("fit")
    capture, identity = make_small_capture(folder / "capture"), folder / "identity"
    fit(capture, identity, recipe=small_recipe(), steps=10, backend="cpu")
    return work.FitTask(
        name="anna",
        recording=folder / "none.mp4",
        capture_dir=capture,
        work_dir=folder / "steps",
        identity_dir=identity,
        report_dir=folder / "reports",
        options=FitOptions(size=64, capture_size=64, protocols=("paper",)),
    )


def test_a_short_recording_whose_voice_learned_nothing_does_not_pass_the_gate(task):
    monitor = Quiet()
    metrics = {"psnr_db": 40.0, "num_frames": 12.0, "fit.speech_held_out_r": -0.07}
    metrics |= work._speak_probe(task, monitor)
    assert metrics["probe.num_frames"] == 166  # 6.6 s
    assert monitor.stages[-1][0] == "evaluate"
    assert monitor.stages[-1][2] == "probe sentence"
    details = VersionDetails(ref=ModelRef.parse("acme.anna@1"), metrics=metrics)
    decision = judge(details, None, GateThresholds())
    assert not decision.passed
    refused = {check.name for check in decision.checks if not check.passed}
    assert {"sync_confidence", "fit.speech_held_out_r", "probe.sync_confidence"} <= refused
