"""`m2dao bench service`: what it refuses, and that the serving half offers what it measures."""

import argparse
from importlib.metadata import entry_points

import pytest

from m2dao.commands.bench import service as bench_service
from m2dao.errors import ConfigError


def parse(*words):
    parser = argparse.ArgumentParser()
    bench_service.add_parser(parser.add_subparsers())
    return parser.parse_args(["service", *words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--what", "saturation", "--url", "http://a", "--api-key", "k"], "--url"),
        (["--what", "uploads", "--url", "http://a"], "both or none"),
        (["--what", "uploads", "--api-key", "k"], "both or none"),
        (["--what", "overhead", "--requests", "0"], "--requests"),
        (["--what", "overhead", "--outage", "s3"], "--what failover"),
        (["--what", "failover", "--outage", "s3", "--outage-seconds", "0"], "--outage-seconds"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_starts(words, message):
    with pytest.raises(ConfigError, match=message):
        bench_service.run(parse(*words))


def test_the_serving_half_offers_the_bench():
    (offered,) = entry_points(group="m2dao.benches", name="service")
    assert callable(offered.load())


def test_every_promise_can_be_asked_for_and_is_explained():
    for what in bench_service.WHAT:
        assert parse("--what", what).what == what
        assert f"\n{what} " in bench_service.EXAMPLES
