"""The examples that platforms copy, against the real API; fits take a second, and fit nobody."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.control.fit_requests import FitRequest
from examples.avatar import make_avatar
from examples.challenge import challenge, take_back
from m2dao.media.video import probe_video
from m2dao.presenter.recording import make_recording
from m2dao_client import Client
from tests.support.compute.keeper import keeper_beside
from tests.support.serve import SMALL, Api, Customer, api_over, renderers, speech
from tests.support.small_work import small_fit
from tests.support.tiny_identity import make_tiny_identity
from train_jobs.members import BatchSpec
from train_jobs.worker import BatchWorker

FILM_PX = 128


@pytest.fixture(scope="module")
def api(stack) -> Iterator[Api]:
    with api_over(stack, SMALL.model_copy(update={"max_upload_mb": 5})) as api:
        yield api


@pytest.fixture(scope="module")
def keeper(api: Api, tmp_path_factory) -> Iterator[None]:
    """A keeper that looks into recordings and probes versions as long as the tests run."""
    with keeper_beside(api, tmp_path_factory.mktemp("keeper")):
        yield


@pytest.fixture
def worker(api: Api, tmp_path: Path) -> Iterator[None]:
    """Does every fit that is queued, in a thread of the test; what the engine makes, the demo's test sees."""
    stop, done = threading.Event(), set()

    def fit(task, monitor):
        assert probe_video(task.recording).width == FILM_PX  # what was uploaded is what is fitted
        plan = task.work_dir / "plan.json"
        plan.write_text(json.dumps({"steps": 4, "diary": str(tmp_path / "diary")}), encoding="utf-8")
        return small_fit(dataclasses.replace(task, recording=plan), monitor)

    def work() -> None:
        while not stop.wait(0.1):
            for job in api.platform.state.jobs.open("fit"):
                if job.id not in done:
                    done.add(job.id)
                    batch = FitRequest.of(job).batch
                    spec = BatchSpec(name=batch, tenant=job.tenant, fit_ids=(job.fit_id,), lease_s=60.0)
                    scratch = tmp_path / "fits"
                    BatchWorker(api.platform, spec, fit, rank=0, generation="g0", scratch=scratch).run()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.fixture
def own(api: Api) -> Customer:
    return api.customer()


@pytest.fixture
def service(own: Customer, monkeypatch) -> Iterator[Client]:
    monkeypatch.setenv("NO_PROXY", "*")  # the SDK asks this machine, also where a proxy is set for others
    monkeypatch.setenv("no_proxy", "*")
    with Client(str(own.client.base_url), own.key) as client:
        yield client


@pytest.mark.usefixtures("keeper", "worker")
def test_a_video_and_a_consent_become_a_speaking_avatar(api, service, tmp_path, capsys):
    film = make_recording(tmp_path, person="mira", seconds=6, size=FILM_PX).video
    audio, out = tmp_path / "speech.wav", tmp_path / "out.mp4"
    audio.write_bytes(speech(1.0))
    with renderers(api.platform.settings, tmp_path / "disk"):
        make_avatar(service, "mira", str(film), "nobody: a drawn presenter", str(audio), str(out), minutes=1.0)
    assert probe_video(out).frame_rate == 25
    told = capsys.readouterr().out
    assert "mira@1, promoted: True" in told
    assert service.identities.get("mira").champion == 1


@pytest.mark.usefixtures("keeper")
def test_a_version_challenges_is_promoted_and_taken_back(api, own, service, tmp_path, capsys):
    folder = make_tiny_identity(tmp_path / "anna", size=32)
    first = api.register(own.tenant, folder).version
    second = api.register(own.tenant, folder, promote=False).version

    def customers_ask() -> None:
        for _ in range(2):
            service.renders.wait(service.renders.create("anna", speech(0.3)).id)

    with renderers(api.platform.settings, tmp_path / "disk"):
        after = challenge(service, "anna", second, share=100, num_renders=2, force=True, pause=customers_ask)
    assert (after.version, after.previous) == (second, first)
    assert take_back(service, "anna").version == first
    told = capsys.readouterr().out
    assert f"roll_back {second} -> {first}" in told
    assert "psnr_db" in told


def test_the_first_example_is_short_enough_to_copy():
    text = Path("examples/avatar.py").read_text(encoding="utf-8")
    assert len([line for line in text.splitlines() if line.strip()]) <= 30
