"""`m2dao bench render`: keys, scene and refusals; no timings are judged."""

import argparse

import pytest

from m2dao.commands.bench import render as bench_render
from m2dao.errors import ConfigError, InputError
from m2dao.kernels.threads import get_num_threads
from m2dao.render.api import render


def parse(*flags):
    parser = argparse.ArgumentParser()
    bench_render.add_parser(parser.add_subparsers())
    return parser.parse_args(["render", *flags])


@pytest.mark.parametrize(("backend", "size"), [("cpu", "96"), ("reference", "32")])
def test_the_result_has_the_documented_keys(backend, size, capsys):
    flags = ("--size", size, "--gaussians", "50", "--repeats", "2", "--seconds", "0.4", "--streams", "2")
    result = bench_render.run(parse("--backend", backend, *flags, "--json"))
    documented = [
        "backend",
        "size",
        "num_gaussians",
        "forward_ms",
        "backward_ms",
        "fps",
        "real_time_factor",
        "peak_rss_mb",
    ]
    assert list(result)[: len(documented)] == documented
    assert (result["backend"], result["size"], result["num_gaussians"]) == (backend, int(size), 50)
    assert 0 < result["forward_ms_min"] <= result["forward_ms"] <= result["forward_ms_max"]
    # forward_ms is given to the microsecond, of which a small scene on a fast machine takes a few hundred only
    assert 1000 / result["fps"] == pytest.approx(result["forward_ms"], abs=1e-3)
    assert result["real_time_factor"] == pytest.approx(result["forward_ms"] * 25 / 1000, rel=0.01, abs=1e-4)
    assert result["hardware"]["threads"] == get_num_threads()
    assert set(result["stages_ms"]) == {"audio", "motion", "project", "bin", "raster", "composite", "encode"}
    assert 0 < result["frame_ms_p50"] <= result["frame_ms_p99"]
    assert result["measured_streams"] == 2
    assert result["talker_real_time_factor"] == pytest.approx(2 * 25 / result["talker_fps"], rel=0.01)
    if backend == "cpu":
        assert all(value > 0 for value in result["stages_ms"].values())
        assert result["pairs_per_s"] > 0
        assert result["machine_pairs_per_s"] > 0
    assert capsys.readouterr().out == ""  # the object on standard output is the command line's


def test_the_scene_is_what_the_help_says():
    args = parse("--size", "512", "--gaussians", "3000")
    scene = bench_render.make_head(args)
    output = render(**scene, width=512, height=512, backend="cpu")
    assert float(output.radii[output.radii > 0].float().mean()) == pytest.approx(5, abs=0.5)
    assert (output.radii > 0).all()


@pytest.mark.parametrize("flag", ["--size", "--gaussians", "--channels", "--repeats", "--threads", "--streams"])
def test_counts_below_one_are_refused_by_flag(flag):
    with pytest.raises(ConfigError, match=f"{flag}: expected a whole number of at least 1; got 0"):
        bench_render.run(parse(flag, "0"))


def test_the_reference_says_which_sizes_it_draws():
    with pytest.raises(InputError, match="images up to 128 px"):
        bench_render.run(
            parse("--backend", "reference", "--size", "512", "--gaussians", "10", "--repeats", "1", "--seconds", "0")
        )
