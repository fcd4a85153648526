"""`m2dao bench service`: what the running service promises, measured from outside of it."""

from __future__ import annotations

import argparse
from importlib.metadata import entry_points

from m2dao.commands.shared import Commands, add_command
from m2dao.errors import ConfigError

WHAT = (
    *("promotion", "overhead", "uploads", "saturation", "fits", "residents", "failover", "outages", "reconcile"),
    *("metrics", "api", "matrix"),
)
_ANYWHERE = ("overhead", "uploads")  # what can be asked of a deployment that is not ours

EXAMPLES = """examples:
  m2dao bench service --what overhead --json
  m2dao bench service --what fits --identities 4 --json
  m2dao bench service --what failover --outage s3 --outage-seconds 300 --json
  m2dao bench service --what uploads --url https://talk.example --identity anna --api-key $KEY_A --api-key $KEY_B

A stack of its own is started in a temporary folder, measured and removed; a running one is neither used nor stopped.
Needs: pip install 'm2dao[demo]'. The load comes from this process, the service runs in others. All times are those
of the client. The identities are specimens (64 px, or 256 px for saturation and uploads); `fits` uses synthetic people.

promotion   {p50_ms, p99_ms, requests, failed_requests}: from the move of the alias to the first answer that names the
            new version; 20 promotions of new versions while two clients ask without a pause and wait for their videos.
            The probe before each move is not counted
overhead    {p50_ms, p99_ms, requests}: from sending a request to its stored video, less the median of the bare render
            of the same sound: the engine alone writes the same file
uploads     {sent, accepted, accept_p50_ms, accept_p99_ms, refuse_p99_ms}: 32 uploads of 10 s at once from 8 tenants
            while every replica renders; refused are a tenant's beyond its quota, which hold back their bodies for 1 s
saturation  {throughput_ratio, num_renders}: 20 renders of 6 s queued at once, after ten others that made the service
            add replicas; seconds of video a second, over those of the engine alone with all cores
fits        {num_identities, overhead_ratio, seconds}: from submitting to the last end, over what the stages of the
            fits took together, divided among the workers
residents   {num_identities, rss_mb, resolve_p99_ms}: memory of the largest replica after each of 500 has spoken, and
            the time to resolve one of 10,000 champions
failover    {recovery_s, lost, doubled, requests}: every replica is killed while three clients ask; until the next
            video is done. With --outage a service of the stack is stopped as well, and started again after
            --outage-seconds; then from that moment on
outages     {s3_refuses, s3_stalls, redis_refuses, ...: {requests, lost, readyz_max_ms}}: each service goes away for
            --outage-seconds while six renders run; with MLflow away also {accepted, accept_max_ms} of ten requests
reconcile   {num_identities, num_changes, noticed_p50_s, noticed_max_s}: from setting an alias in MLflow, at any
            moment, until Redis knows of it; 30 changes among 100 identities, or --requests among --identities
metrics     {keeper_bytes, keeper_series, keeper_p99_ms, ray_bytes, ray_series, ray_p99_ms, ...}: size of the pages
            that Prometheus fetches, and the time of a scrape, while three tenants render; 100 scrapes of each
api         {p50_ms, p99_ms, requests, num_identities, num_renders}: 2000 reads of lists and single things of a tenant
            with 10,000 identities (--identities) and 100,000 ended renders (--registered)
matrix      {largest_difference, requests, routes: [{route, foreign_p50_ms, unknown_p50_ms, difference}]}: the median
            time of a 404 for what is another tenant's beside one for what is nobody's; 500 of each in turn
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "service", run, summary="measure the service from outside", examples=EXAMPLES)
    parser.add_argument("--what", choices=WHAT, required=True, help="which promise")
    parser.add_argument("--url", help=f"a deployment of yours in place of an own one ({', '.join(_ANYWHERE)})")
    parser.add_argument(
        "--api-key", action="append", default=[], metavar="KEY", help="of a tenant there; repeat for more tenants"
    )
    parser.add_argument("--identity", default="anna", help="what those tenants ask for (default anna)")
    parser.add_argument(
        "--requests",
        type=int,
        metavar="N",
        help="of overhead (200), failover (60); how many promotions (20), changes (30), scrapes (100), reads",
    )
    parser.add_argument(
        "--identities", type=int, metavar="N", help="of fits (8), residents (500), reconcile (100), api"
    )
    parser.add_argument(
        "--registered", type=int, metavar="N", help="champions that residents resolves (10000), renders of api (100000)"
    )
    parser.add_argument("--outage", choices=("redis", "s3", "mlflow"), help="what failover stops as well")
    parser.add_argument(
        "--outage-seconds", type=float, default=60.0, metavar="S", help="for how long, of outages too (default 60)"
    )


def run(args: argparse.Namespace) -> dict:
    _check(args)
    found = entry_points(group="m2dao.benches", name="service")
    if not found:
        raise ConfigError("m2dao bench service", "the package's serving half", "none", "reinstall m2dao")
    (offered,) = found
    names = ("url", "api_key", "identity", "requests", "identities", "registered", "outage", "outage_seconds")
    return offered.load()(args.what, {name: getattr(args, name) for name in names})


def _check(args: argparse.Namespace) -> None:
    for name in ("requests", "identities", "registered"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name}", "a whole number of at least 1", str(value))
    if not 1 <= args.outage_seconds <= 3600:
        raise ConfigError("--outage-seconds", "1 to 3600", str(args.outage_seconds))
    if args.url and args.what not in _ANYWHERE:
        raise ConfigError("--url", f"one of --what {', '.join(_ANYWHERE)}", args.what, "leave --url out")
    if bool(args.url) != bool(args.api_key):
        raise ConfigError("--url and --api-key", "both or none", "one of them")
    if args.outage and args.what != "failover":
        raise ConfigError("--outage", "--what failover", args.what)
