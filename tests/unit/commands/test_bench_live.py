"""`m2dao bench live`: keys and refusals; no timings are judged."""

import argparse

import pytest

from m2dao.commands.bench import live as bench_live
from m2dao.errors import ConfigError
from tests.support.tiny_identity import make_tiny_identity


def parse(*flags):
    parser = argparse.ArgumentParser()
    bench_live.add_parser(parser.add_subparsers())
    return parser.parse_args(["live", *flags])


def test_sound_is_awaited_and_every_latency_counts_it(tmp_path):
    identity = str(make_tiny_identity(tmp_path / "ball"))
    result = bench_live.run(parse("--identity", identity, "--seconds", "1.2", "--streams", "2"))
    assert list(result) == [
        "backend",
        "size",
        "num_gaussians",
        "streams",
        "talkers",
        "seconds",
        "piece_ms",
        "lookahead_ms",
        "cold_first_frame_ms",
        "first_frame_ms",
        "latency_ms_p50",
        "latency_ms_p99",
        "frame_ms_p50",
        "frame_ms_p99",
        "rss_growth_mb",
    ]
    assert (result["size"], result["num_gaussians"], result["streams"]) == (64, 440, 2)
    # No frame can be there before the sound it needs, and the first waits for whole pieces of it.
    assert result["lookahead_ms"] - 40 <= result["first_frame_ms"] <= result["latency_ms_p99"] + 1
    assert 0 < result["frame_ms_p50"] <= result["frame_ms_p99"]


@pytest.mark.parametrize(
    ("flag", "value"), [("--seconds", "0"), ("--piece-ms", "1"), ("--streams", "0"), ("--size", "8")]
)
def test_what_cannot_be_measured_is_refused_by_flag(flag, value):
    with pytest.raises(ConfigError, match=f"{flag}: expected at least"):
        bench_live.run(parse(flag, value))


def test_streams_are_shared_among_specimens():
    flags = "--size 32 --gaussians 64 --seconds 1 --streams 3 --talkers 2 --backend reference"
    result = bench_live.run(parse(*flags.split()))
    assert (result["streams"], result["talkers"], result["backend"]) == (3, 2, "reference")


def test_specimens_do_not_go_with_an_identity(tmp_path):
    with pytest.raises(ConfigError, match="--talkers"):
        bench_live.run(parse("--identity", str(tmp_path), "--talkers", "2"))
