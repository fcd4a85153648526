"""What running text says of the code is so: numbers, formats, and docstrings that once said otherwise."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import cluster
from cluster.control.promotion.checks import GateThresholds
from cluster.state import jobs, new_jobs
from m2dao import formats
from m2dao.capture.review.quality import QualityRules
from m2dao.identity import checkpoint
from m2dao.motion.speech import SpeechConfig, SpeechDriver
from tests.support.tiny_identity import make_tiny_identity
from tests.unit.docs.markdown import ROOT
from train_jobs.members import LEASE_S
from train_jobs.ray_train import ATTEMPTS_PER_FIT
from train_jobs.step_checkpoints import STEPS_EVERY_S

WORDS = {"two": 2, "three": 3, "week": 7}
FACTS = [
    ("docs/explain/jobs-and-leases.md", r"for (\d+) hours", new_jobs.IDEMPOTENCY_S / 3600),
    ("docs/explain/jobs-and-leases.md", r"at most (\d+) s old", STEPS_EVERY_S),
    ("docs/explain/jobs-and-leases.md", r"After (\w+) the fit fails", ATTEMPTS_PER_FIT),
    ("docs/guides/registry.md", r"of at most (\d+) s ago", STEPS_EVERY_S),
    ("docs/guides/registry.md", r"a lease lasts (\d+) s", LEASE_S),
    ("docs/guides/registry.md", r"after (\w+) attempts it fails", ATTEMPTS_PER_FIT),
    ("docs/guides/render-api.md", r"forgotten after a (\w+)", jobs.RETENTION_S / (24 * 3600)),
    ("docs/guides/captures.md", r"under (\d+) s or over", QualityRules().min_seconds),
    ("docs/guides/captures.md", r"a face under (\d+) px", QualityRules().min_face_px),
    ("docs/guides/captures.md", r"more than (\d+) jump cuts a minute", QualityRules().max_jumps_per_minute),
    ("CHANGELOG.md", r"Captures have format (\d+)", formats.CAPTURE.version),
    ("CHANGELOG.md", r"identities format (\d+)", formats.IDENTITY.version),
    ("CHANGELOG.md", r"universal motion format (\d+)", formats.UNIVERSAL.version),
    *(
        ("docs/guides/registry.md", rf"`--{field.name.replace('_', '-')}` \| ([\d.]+) \|", field.default)
        for field in dataclasses.fields(GateThresholds)
    ),
]


@pytest.mark.parametrize(("page", "sentence", "value"), FACTS)
def test_a_number_in_running_text_is_that_of_the_code(page, sentence, value):
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    found = re.search(sentence, text)
    assert found, f"{page} no longer says {sentence!r}"
    assert float(WORDS.get(found[1], found[1])) == value


def test_the_cluster_names_every_module_of_the_engine_that_it_imports():
    imported = set()
    for path in (ROOT / "cluster").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("m2dao."):
                imported.add(node.module)
    assert set(re.findall(r"``(m2dao\.\w+)``", cluster.__doc__)) == imported


@pytest.fixture(scope="module")
def identity(tmp_path_factory) -> Path:
    return make_tiny_identity(tmp_path_factory.mktemp("identity") / "anna", size=32)


def test_the_description_of_an_identity_names_its_files_and_signals(identity):
    described = dict(re.findall(r"^(\S+\.\S+) {2,}(.*)$", checkpoint.__doc__, re.MULTILINE))
    listed = json.loads((identity / "identity.json").read_text())["files"]
    assert set(described) == {"identity.json", *listed}
    with safe_open(identity / "signals.safetensors", framework="pt") as signals:
        assert set(described["signals.safetensors"].split(", ")) == set(signals.keys())


def test_lips_go_as_far_as_the_mean_of_the_encoders_says():
    driver = SpeechDriver(SpeechConfig(features="phones", num_features=40, rows_per_frame=4, num_encoders=3))
    windows = torch.randn(20, driver.config.window_shape.num_rows, 40)
    with torch.no_grad():
        mean = torch.stack([encoder(windows) for encoder in driver.encoders]).mean(0)
        assert torch.equal(driver.articulation(windows), mean)
