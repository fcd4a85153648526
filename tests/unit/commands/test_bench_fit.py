"""`m2dao bench fit` takes real steps and says where their time goes."""

import json

import pytest

from m2dao.cli import main
from tests.support.small_capture import make_small_capture


@pytest.mark.parametrize("recipe", ["m2dao", "talking_gaussian"])
def test_steps_are_measured_stage_by_stage(tmp_path, capsys, recipe):
    capture = make_small_capture(tmp_path / "ball")
    arguments = ["bench", "fit", str(capture), "--size", "64", "--gaussians", "600", "--steps", "8", "--recipe", recipe]
    assert main([*arguments, "--threads", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["recipe"] == recipe
    assert result["threads"] == 1
    assert result["steps"] == 8
    assert 300 < result["num_gaussians"] < 900
    step_ms = 1e3 / result["steps_per_s"]
    assert all(spent > 0 for spent in result["stages_ms"].values())
    assert 0.5 * step_ms < sum(result["stages_ms"].values()) <= 1.01 * step_ms


def test_no_steps_is_an_error(tmp_path, capsys):
    capture = make_small_capture(tmp_path / "ball")
    assert main(["bench", "fit", str(capture), "--size", "64", "--steps", "0", "--json"]) == 2
    assert "--steps" in json.loads(capsys.readouterr().out)["detail"]
