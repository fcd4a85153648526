"""The entry of ``m2dao bench service``: which bench, with which numbers, on which service."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from cluster.settings import ServeConfig
from serve_apps.bench.site import Site, own_site, own_stack

UPLOADS = ServeConfig(max_active_renders=4)
READS = ServeConfig(request_burst=1_000_000)  # one client asks more often than people


def run_service_bench(what: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Measure one promise.

    Args:
        what: one of ``m2dao.commands.bench.service.WHAT``.
        options: of the command, by name; None where it was not given.

    Returns:
        the figures, with the keys that the command's help names.
    """
    return {
        "promotion": _promotion,
        "overhead": _overhead,
        "uploads": _uploads,
        "saturation": _saturation,
        "fits": _fits,
        "residents": _residents,
        "failover": _failover,
        "outages": _outages,
        "reconcile": _reconcile,
        "metrics": _metrics,
        "api": _api,
        "matrix": _matrix,
    }[what](options)


def _promotion(options: Mapping[str, Any]) -> dict[str, Any]:
    from serve_apps.bench.promotion import measure_promotion

    with _site() as site:
        return measure_promotion(site, num_promotions=options["requests"] or 20, say=_say)


def _overhead(options: Mapping[str, Any]) -> dict[str, Any]:
    from serve_apps.bench.overhead import measure_overhead, measure_overhead_elsewhere

    num_requests = options["requests"] or 200
    if options["url"]:
        key = options["api_key"][0]
        return measure_overhead_elsewhere(options["url"], key, options["identity"], num_requests=num_requests, say=_say)
    with _site() as site:
        return measure_overhead(site, num_requests=num_requests, say=_say)


def _uploads(options: Mapping[str, Any]) -> dict[str, Any]:
    from serve_apps.bench.uploads import measure_uploads, measure_uploads_elsewhere

    if options["url"]:
        return measure_uploads_elsewhere(options["url"], options["api_key"], options["identity"], say=_say)
    with _site(UPLOADS) as site:
        return measure_uploads(site, say=_say)


def _saturation(options: Mapping[str, Any]) -> dict[str, Any]:
    from serve_apps.bench.saturation import NUM_RENDERS, measure_saturation

    with _site(ServeConfig(max_active_renders=NUM_RENDERS)) as site:
        return measure_saturation(site, say=_say)


def _fits(options: Mapping[str, Any]) -> dict[str, Any]:
    from serve_apps.bench.fits import measure_fits

    with own_site(ServeConfig(), say=_say, with_api=False) as site:
        return measure_fits(site, num_identities=options["identities"] or 8, say=_say)


def _residents(options: Mapping[str, Any]) -> dict[str, Any]:
    from serve_apps.bench.residents import measure_residents

    num_identities = options["identities"] or 500
    num_registered = max(options["registered"] or 10_000, num_identities)
    with _site() as site:
        return measure_residents(site, num_identities=num_identities, num_registered=num_registered, say=_say)


def _failover(options: Mapping[str, Any]) -> dict[str, Any]:
    from serve_apps.bench.failover import Outage, measure_failover

    outage = Outage(options["outage"], options["outage_seconds"]) if options["outage"] else None
    with _site() as site:
        return measure_failover(site, num_requests=options["requests"] or 60, outage=outage, say=_say)


def _outages(options: Mapping[str, Any]) -> dict[str, Any]:
    from serve_apps.bench.outages import measure_outages

    with _site() as site:
        return measure_outages(site, seconds=options["outage_seconds"], say=_say)


def _reconcile(options: Mapping[str, Any]) -> dict[str, Any]:
    from serve_apps.bench.reconcile import STACK, measure_reconcile

    num_identities, num_changes = options["identities"] or 100, options["requests"] or 30
    with own_stack(ServeConfig(), say=_say, services=STACK) as (settings, stack):
        return measure_reconcile(settings, stack, num_identities=num_identities, num_changes=num_changes, say=_say)


def _metrics(options: Mapping[str, Any]) -> dict[str, Any]:
    from serve_apps.bench.metrics import measure_metrics

    with _site() as site:
        return measure_metrics(site, num_scrapes=options["requests"] or 100, say=_say)


def _api(options: Mapping[str, Any]) -> dict[str, Any]:
    from serve_apps.bench.reads import measure_reads

    with _site(READS) as site:
        return measure_reads(
            site,
            num_identities=options["identities"] or 10_000,
            num_renders=options["registered"] or 100_000,
            num_requests=options["requests"] or 2000,
            say=_say,
        )


def _matrix(options: Mapping[str, Any]) -> dict[str, Any]:
    from serve_apps.bench.reads import measure_matrix

    with _site(READS) as site:
        return measure_matrix(site, num_requests=options["requests"] or 500, say=_say)


@contextlib.contextmanager
def _site(config: ServeConfig | None = None) -> Iterator[Site]:
    with own_site(config or ServeConfig(), say=_say) as site:
        yield site


def _say(line: str) -> None:
    print(f"[bench] {line}", file=sys.stderr, flush=True)
