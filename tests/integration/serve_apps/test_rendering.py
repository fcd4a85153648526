"""Renders by a worker, without Ray: the video, its ends, identities that change, vanish or rot."""

from __future__ import annotations

import errno
import itertools
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest

from cluster.ids import RenderId
from cluster.state import keys
from cluster.state.records import Claim
from m2dao.errors import RenderBackendUnavailable
from m2dao.formats import IDENTITY, RENDER_JOB_VERSION
from m2dao.identity.talker import Talker
from m2dao.media.audio import probe_audio, read_audio, read_sent
from m2dao.media.video import probe_video, read_frames
from serve_apps.identities.node_cache import NodeCache
from serve_apps.identities.source import IdentitySource
from serve_apps.identities.talker_cache import TalkerCache
from serve_apps.rendering.worker import MAX_DODGES
from serve_apps.tickets import render_prefix
from tests.support.media.sounds import tone, wav_bytes
from tests.support.serve import Api, Customer, Gated, api_over, do, make_worker, speech, take, ticket_of
from tests.support.tiny_identity import make_tiny_identity

WAIT_S = 120
RENDER_JOB_TAG = f"m2dao.render-job {RENDER_JOB_VERSION}"


@pytest.fixture(scope="module")
def api(stack):
    with api_over(stack) as api:
        yield api


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("identities")
    return [make_tiny_identity(root / str(hue), size=32, hue=hue) for hue in (0.1, 0.6)]


@pytest.fixture
def own(api: Api, folders: list[Path]) -> Customer:
    customer = api.customer()
    api.register(customer.tenant, folders[0])
    return customer


def render_of(customer: Customer, claim: Claim) -> dict:
    return customer.client.get(f"/v1/renders/{claim.job.id}").json()


def files_of(api: Api, customer: Customer, claim: Claim) -> list[str]:
    prefix = render_prefix(customer.tenant, claim.job.id)
    return [info.key.removeprefix(prefix) for info in api.services.store.list(prefix)]


def test_a_render_becomes_a_video_of_exactly_its_sound(api, own, tmp_path):
    own.ask(2.02, background="#ff0000")
    claim = take(api.services, own.tenant)
    worker, _ = make_worker(api.services, tmp_path / "disk")
    assert do(worker, claim) == "done"
    render = render_of(own, claim)
    assert (render["status"], render["progress"], render["error"]) == ("done", 1.0, None)
    figures = render["figures"]
    assert (figures["num_frames"], figures["width"], figures["height"]) == (51, 32, 32)  # 2.02 s end within frame 51
    video = tmp_path / "video.mp4"
    video.write_bytes(httpx.get(render["result"]["url"], trust_env=False).content)
    assert video.stat().st_size == render["result"]["num_bytes"]
    frames = list(read_frames(video))
    assert len(frames) == 51
    corner = frames[0].rgb[:3, :3].reshape(-1, 3).mean(axis=0)
    assert corner[0] > 200
    assert corner[1:].max() < 60
    assert probe_video(video).width == 32
    assert probe_audio(video).sample_rate == 16_000
    sound = read_audio(video)
    assert np.abs(sound).max() > 0.2
    assert len(sound) == pytest.approx(51 * 640, abs=1024)  # AAC ends on a block


def test_a_video_carries_the_sound_as_it_was_sent_in_sync_to_the_sample(api, own, tmp_path):
    click = np.zeros((2, 2 * 44_100), np.float32)
    click[:, 44_100:44_200] = 0.9
    click[1] += tone(2.0, 44_100, hz=10_000.0, level=0.2)
    own.ask(audio=wav_bytes(click, 44_100))
    worker, _ = make_worker(api.services, tmp_path / "node")
    claim = take(api.services, own.tenant)
    assert do(worker, claim) == "done"
    video = tmp_path / "sent.mp4"
    video.write_bytes(httpx.get(render_of(own, claim)["result"]["url"], trust_env=False).content)
    info = probe_audio(video)
    assert (info.sample_rate, info.num_channels) == (44_100, 2)
    samples = np.concatenate(list(read_sent(video)), axis=1)
    assert np.argmax(np.abs(samples[0]) > 0.4) == pytest.approx(44_100, abs=8)
    spectrum = np.abs(np.fft.rfft(samples[1, :22_050]))
    assert np.argmax(spectrum) * 2 == pytest.approx(10_000, abs=4)


def test_the_same_request_gives_the_same_video_whoever_renders_it(api, own, tmp_path):
    hashes = set()
    for name in ("a", "b"):
        own.ask(1)
        claim = take(api.services, own.tenant)
        worker, _ = make_worker(api.services, tmp_path / name)
        assert do(worker, claim) == "done"
        hashes.add(render_of(own, claim)["result"]["sha256"])
    assert len(hashes) == 1


def test_a_render_finishes_on_the_version_it_was_created_with(api, own, folders, tmp_path):
    own.ask(1)
    api.register(own.tenant, folders[1])
    claim = take(api.services, own.tenant)
    worker, talkers = make_worker(api.services, tmp_path / "disk")
    assert do(worker, claim) == "done"
    assert [str(ref) for ref in talkers.resident()] == [f"{own.tenant}.anna@1"]


def test_a_request_routed_by_another_model_id_is_not_rendered(api, own, tmp_path):
    own.ask(1)
    claim = take(api.services, own.tenant)
    worker, talkers = make_worker(api.services, tmp_path / "disk")
    assert worker.run(ticket_of(claim), "victim.anna@1") == "retry"
    assert talkers.resident() == []


def under_way(api, claim, folder):
    """A render in a thread, held at its first frame: worker, talker, thread, list for its outcome."""
    gated: list[Gated] = []
    worker, _ = make_worker(api.services, folder, load=lambda folder: gated.append(Gated(folder)) or gated[0])
    outcome: list[str] = []
    thread = threading.Thread(target=lambda: outcome.append(do(worker, claim)))
    thread.start()
    while not gated:
        thread.join(0.01)
        assert thread.is_alive()
    assert gated[0].reached.wait(WAIT_S)
    return worker, gated[0], thread, outcome


def test_a_cancelled_render_stops_and_leaves_nothing(api, own, tmp_path):
    own.ask(4)
    claim = take(api.services, own.tenant)
    _, talker, thread, outcome = under_way(api, claim, tmp_path / "disk")
    assert own.client.delete(f"/v1/renders/{claim.job.id}").json()["status"] == "cancelled"
    talker.go_on.set()
    thread.join(WAIT_S)
    assert outcome == ["lost"]
    assert talker.closed.is_set()
    assert render_of(own, claim)["status"] == "cancelled"
    assert files_of(api, own, claim) == []


def test_a_worker_that_was_only_slow_cannot_overwrite_the_result(api, own, tmp_path):
    own.ask(1)
    slow = take(api.services, own.tenant, lease_s=0.001)
    while api.services.state.jobs.get(own.tenant, slow.job.id).status == "running":
        api.services.state.jobs.requeue_expired("render")
    worker, _ = make_worker(api.services, tmp_path / "disk")
    quick = take(api.services, own.tenant)
    assert do(worker, quick) == "done"
    result = render_of(own, quick)["result"]
    assert do(worker, slow) == "lost"
    render = render_of(own, quick)
    assert (render["status"], render["attempt"], render["result"]["sha256"]) == ("done", 2, result["sha256"])
    assert httpx.get(render["result"]["url"], trust_env=False).status_code == 200
    assert [name for name in files_of(api, own, quick) if name.startswith("video")] == ["video-2.mp4"]


def test_an_identity_that_was_tampered_with_in_the_store_is_never_shown(api, own, tmp_path):
    ref = f"{own.tenant}/identities/anna/1/"
    own.ask(1)
    claim = take(api.services, own.tenant)
    data = bytearray(api.services.store.get_bytes(ref + "gaussians.safetensors"))
    data[-1] ^= 1
    api.services.store.put_bytes(ref + "gaussians.safetensors", bytes(data))
    worker, talkers = make_worker(api.services, tmp_path / "disk")
    assert do(worker, claim) == "failed"
    render = render_of(own, claim)
    assert (render["status"], render["attempt"]) == ("failed", 1)  # trying again would end the same way
    assert talkers.resident() == []


def test_a_copy_that_rotted_on_disk_is_fetched_anew(api, own, tmp_path):
    disk = tmp_path / "disk"
    outcomes = []
    for _ in range(2):
        own.ask(1)
        claim = take(api.services, own.tenant)
        worker, _ = make_worker(api.services, disk)  # a new replica: nothing in memory
        outcomes.append(do(worker, claim))
        (copy,) = [path for path in disk.iterdir() if path.is_dir()]
        manifest = copy / "identity.json"  # the one file that no hash inside the folder covers
        manifest.write_text(manifest.read_text().replace('"m2dao"', '"other"', 1))
    assert outcomes == ["done", "done"]


def test_a_store_that_does_not_answer_means_trying_again(api, own, tmp_path, monkeypatch):
    from m2dao.errors import StorageUnavailable

    own.ask(1)
    claim = take(api.services, own.tenant)
    worker, _ = make_worker(api.services, tmp_path / "disk")

    def unavailable(*args, **options):
        raise StorageUnavailable("bucket")

    with monkeypatch.context() as broken:
        broken.setattr(api.services.store, "put_file", unavailable)
        assert do(worker, claim) == "put off storage-unavailable"
    shown = own.client.get(f"/v1/renders/{claim.job.id}").json()
    assert (shown["status"], shown["attempt"]) == ("queued", 0)
    assert do(worker, take_soon(api, own)) == "done"


@pytest.mark.parametrize("error", [RenderBackendUnavailable("gsplat"), OSError(errno.ENOSPC, "disk full")])
def test_a_replica_that_lacks_something_leaves_the_render_to_others_uncounted(api, own, tmp_path, monkeypatch, error):
    own.ask(1)
    claim = take(api.services, own.tenant)
    broken, _ = make_worker(api.services, tmp_path / "a", load=_raising(error), name="broken")
    assert do(broken, claim).startswith("put off")
    again = take_soon(api, own)
    assert again.job.failed_on == ("broken",)
    assert do(broken, again) == "retry"  # it has failed it before: another replica shall
    whole, _ = make_worker(api.services, tmp_path / "b", name="whole")
    last = take_soon(api, own)
    assert do(whole, last) == "done"
    assert render_of(own, last)["attempt"] == 1


def test_an_error_of_the_engine_counts_and_three_of_them_are_enough(api, own, tmp_path):
    own.ask(1)
    worker, _ = make_worker(api.services, tmp_path / "disk", load=_raising(ZeroDivisionError("a bug")))
    outcomes = []
    while "failed" not in outcomes:
        claim = take_soon(api, own)
        outcomes.append(do(worker, claim))
    render = render_of(own, claim)
    assert (render["attempt"], render["error"]["status"]) == (3, 500)
    assert len(outcomes) - 3 <= MAX_DODGES  # it dodged before it was clear that there is no other


def test_a_render_under_way_when_its_process_must_end_is_given_back_uncounted(api, own, tmp_path):
    own.ask(2)
    claim = take(api.services, own.tenant)
    worker, talker, thread, outcome = under_way(api, claim, tmp_path / "disk")
    worker.give_up()
    again = take(api.services, own.tenant)
    assert (again.job.id, again.job.attempt) == (claim.job.id, 1)
    talker.go_on.set()
    thread.join(WAIT_S)
    assert outcome == ["lost"]


def test_a_render_that_came_to_a_replica_of_another_release_goes_back_untried(api, own, tmp_path):
    """While an application is updated, a new dispatcher may still have old replicas."""
    own.ask(1)
    claim = take(api.services, own.tenant)
    assert set(claim.job.needs) == {RENDER_JOB_TAG, IDENTITY.tag_of(IDENTITY.version)}
    old, _ = make_worker(api.services, tmp_path / "old", serves={RENDER_JOB_TAG, "m2dao.identity 3"})
    new, _ = make_worker(api.services, tmp_path / "new")
    assert do(old, claim) == "retry"
    again = take_soon(api, own)
    assert (again.job.id, again.job.attempt, again.job.num_put_off) == (claim.job.id, 1, 0)
    assert do(new, again) == "done"


def take_soon(api: Api, own: Customer) -> Claim:
    """Claim a render that was put off, once its wait is over."""
    while True:
        claim = api.services.state.jobs.claim("render", worker="test", lease_s=20, tenant=own.tenant)
        if claim is not None:
            return claim


def _raising(error: Exception):
    def load(folder):
        raise error

    return load


def test_evicting_an_identity_does_not_disturb_its_open_render(api, own, folders, tmp_path):
    api.register(own.tenant, folders[1], name="ben")
    source = IdentitySource(
        versions=api.services.state.versions,
        store=api.services.store,
        disk=NodeCache(tmp_path / "disk", byte_budget=10**9),
        load_talker=Talker.load,
    )
    with source.prepare(_ref(own, "anna")) as prepared:
        one = prepared.num_bytes
        assert prepared.load().num_bytes <= one, "more than it will need"
    talkers = TalkerCache(source.prepare, byte_budget=one * 3 // 2)  # room for one, not for two
    waveform = np.frombuffer(speech(1)[44:], "<i2").astype(np.float32) / 32768
    undisturbed = list(Talker.load(folders[0]).frames(waveform))
    with talkers.lease(_ref(own, "anna")) as talker:
        frames = talker.frames(waveform)
        first = list(itertools.islice(frames, 5))
        del talker
        talkers.discard(_ref(own, "anna"))
        talkers.prefetch(_ref(own, "ben"))
        assert talkers.resident() == [_ref(own, "ben")]
        rest = list(frames)
    assert np.array_equal(np.stack(undisturbed), np.stack(first + rest))


def _ref(customer: Customer, name: str):
    from cluster.ids import ModelRef

    return ModelRef.parse(f"{customer.tenant}.{name}@1")


def test_an_id_that_is_gone_is_nothing_to_do(api, own, tmp_path):
    own.ask(1)
    claim = take(api.services, own.tenant)
    api.services.state.jobs.cancel(own.tenant, claim.job.id)
    api.services.state._link.call("DEL", keys.job(own.tenant, claim.job.id))
    worker, _ = make_worker(api.services, tmp_path / "disk")
    assert do(worker, claim) == "lost"
    assert own.client.get(f"/v1/renders/{RenderId.new()}").status_code == 404
