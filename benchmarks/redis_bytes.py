"""How much memory of Redis an identity and an ended render take: ``python benchmarks/redis_bytes.py``.

It starts a Valkey of its own, writes through the platform's own tables, and prints one JSON object.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from pydantic import SecretStr

from cluster.control.promotion.checks import GateThresholds, judge
from cluster.ids import FitId, IdentityName, ModelRef, TenantId
from cluster.settings import Settings
from cluster.stack.stack import Stack
from cluster.state.store import StateStore
from cluster.state.versions import VersionDetails, VersionFacts

NUM = 500
TENANT = TenantId("measured")
FACTS = VersionFacts(files_sha256="a" * 64, num_bytes=1_400_000, format="m2dao.identity 5")
# As many as two protocols, the fit and the probe sentence give, with names and numbers as long as theirs.
METRICS = {f"portrait.some_figure_{number:02}": 0.123456 * number for number in range(100)}
TAGS = dict.fromkeys(("capture_sha256", "recording_sha256", "commit", "settings", "recipe", "fit_job"), "b" * 64)
REQUEST = {
    "identity": "anna",
    "ref": "measured.anna@3",
    "audio_seconds": 10.0,
    "background": {"kind": "plate"},
    "kept_files": ["speech.wav"],
}
RESULT = {
    "key": "measured/renders/r-" + "0" * 32 + "/video-1.mp4",
    "num_bytes": 1_000_000,
    "sha256": "a" * 64,
    "figures": {"frames": 250, "render_seconds": 4.0, "wait_seconds": 0.1, "real_time_factor": 0.4},
}


def bytes_now(state: StateStore) -> int:
    return sum(int(state._link.call("MEMORY", "USAGE", key, "SAMPLES", 0)) for key in state._link.scan("*"))


def measure(state: StateStore) -> dict[str, int]:
    state.accounts.create_tenant(TENANT)
    before = bytes_now(state)
    for number in range(NUM):
        name = IdentityName(f"person-{number}")
        for version in (1, 2, 3):
            ref = ModelRef(TENANT, name, version)
            state.versions.commit(ref, FACTS)
            details = VersionDetails(ref=ref, metrics=METRICS, tags=TAGS, created_s=1.8e9, fit_id=FitId.new())
            state.versions.describe(details)
            checks = [asdict(check) for check in judge(details, None, GateThresholds()).checks]
            state.versions.note_verdict(ref, {"verdict": "passed", "checks": checks, "judged_s": 1.8e9})
        state.champions.promote(ModelRef(TENANT, name, 3), request=f"fit-{number:032}")
    identities = bytes_now(state)
    for _ in range(NUM):
        state.jobs.create(TENANT, "render", REQUEST, cost=10.0)
        claim = state.jobs.claim("render", worker="w", lease_s=60)
        assert claim is not None
        state.jobs.finish(claim, RESULT)
    renders = bytes_now(state)
    return {
        "redis_bytes_per_identity": round((identities - before) / NUM),
        "redis_bytes_per_render": round((renders - identities) / NUM),
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        stack = Stack(Settings(home=Path(home), key_pepper=SecretStr("measured")))
        try:
            state = StateStore(stack.up(services=("redis",)))
            print(json.dumps(measure(state)))
        finally:
            stack.down()


if __name__ == "__main__":
    main()
