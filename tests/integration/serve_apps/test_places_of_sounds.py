"""Accepted sounds travel with their job while they are short, else they are in the object store."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cluster.ids import RenderId
from m2dao.media.audio import read_audio
from serve_apps.tickets import render_prefix
from tests.support.media.sounds import wav_bytes
from tests.support.serve import SMALL, api_over, do, make_worker, speech, stored, take, ticket_of

STEREO = wav_bytes(np.zeros((2, 44_100), np.float32) + 0.1, 44_100)


def in_store(api, tenant):
    return [info.key for info in api.services.store.list(f"{tenant}/renders/")]


def names_in_store(api, tenant):
    return {key.rpartition("/")[2] for key in in_store(api, tenant)}


def picture():
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, format="PNG")
    return data.getvalue()


def ask_with_picture(customer, audio):
    files = {"audio": ("a.wav", audio, "audio/wav"), "background_image": ("b.png", picture(), "image/png")}
    return customer.client.post("/v1/renders", files=files, data={"identity": "anna"})


def video_of(api, claim, tmp_path):
    result = api.services.state.jobs.get(claim.job.tenant, claim.job.id).result
    api.services.store.get_file(result["key"], tmp_path / "video.mp4")
    return tmp_path / "video.mp4"


@pytest.mark.parametrize("audio", [speech(1), STEREO], ids=["plain", "stereo"])
def test_short_sounds_are_not_in_the_object_store_and_are_gone_once_the_video_is_there(api, own, tmp_path, audio):
    assert own.ask(audio=audio).status_code == 202
    assert in_store(api, own.tenant) == []
    assert len(stored(api, own.tenant)) == 1
    claim = take(api.services, own.tenant)
    assert do(make_worker(api.services, tmp_path / "disk")[0], claim) == "done"
    assert names_in_store(api, own.tenant) == {f"video-{claim.fence}.mp4"}
    assert not list(api.services.state._link.scan(f"{own.tenant}:files:*"))
    assert len(read_audio(video_of(api, claim, tmp_path))) == pytest.approx(16_000, abs=1024)


def test_a_picture_takes_the_sounds_along_to_the_object_store(api, own, tmp_path):
    assert ask_with_picture(own, STEREO).status_code == 202
    assert names_in_store(api, own.tenant) == {"speech.wav", "sound.flac", "background.png"}
    assert do(make_worker(api.services, tmp_path / "disk")[0], take(api.services, own.tenant)) == "done"


def test_sounds_go_to_the_object_store_where_redis_has_no_room_for_them(stack, folder, tmp_path):
    with api_over(stack, SMALL.model_copy(update={"sounds_in_redis_mb": 0})) as api:
        customer = api.customer()
        api.register(customer.tenant, folder)
        assert customer.ask().status_code == 202
        assert names_in_store(api, customer.tenant) == {"speech.wav"}
        assert do(make_worker(api.services, tmp_path / "disk")[0], take(api.services, customer.tenant)) == "done"


def test_nothing_stays_when_one_of_two_files_cannot_be_stored(api, own, monkeypatch):
    decode = api.services.decoder.decode_audio

    async def lose_one(source, work_dir):
        decoded = await decode(source, work_dir)
        decoded.sent.unlink()  # what is to be stored beside the speech
        return decoded

    monkeypatch.setattr(api.services.decoder, "decode_audio", lose_one)
    assert not ask_with_picture(own, STEREO).is_success
    assert stored(api, own.tenant) == set()
    assert own.client.get("/v1/renders").json() == {"renders": [], "next": None}


@pytest.mark.parametrize("has_sound_key", [True, False], ids=["the release before", "the one before that"])
def test_a_render_that_an_older_release_accepted_is_done(api, own, tmp_path, has_sound_key):
    render_id = RenderId.new()
    prefix = render_prefix(own.tenant, render_id)
    api.services.store.put_bytes(prefix + "speech.wav", speech(1))
    request = {
        "identity": "anna",
        "ref": f"{own.tenant}.anna@1",
        "audio_key": prefix + "speech.wav",
        "audio_seconds": 1.0,
        "background": {"kind": "plate"},
    }
    if has_sound_key:
        request["sound_key"] = prefix + "speech.wav"
    api.services.state.jobs.create(own.tenant, "render", request, job_id=render_id)
    claim = take(api.services, own.tenant)
    assert do(make_worker(api.services, tmp_path / "disk")[0], claim) == "done"
    assert len(read_audio(video_of(api, claim, tmp_path))) == pytest.approx(16_000, abs=1024)


def test_only_tickets_of_renders_with_kept_sounds_are_refused_by_replicas_of_the_release_before(api, own):
    known_before = {"tenant", "job_id", "fence"}
    assert own.ask().status_code == 202
    assert set(ticket_of(take(api.services, own.tenant)).as_sent()) == known_before | {"has_kept_files"}
    assert ask_with_picture(own, speech(1)).status_code == 202
    assert set(ticket_of(take(api.services, own.tenant)).as_sent()) == known_before
