"""The SDK against the real API: what it uploads, follows, fetches and decides is really there."""

from __future__ import annotations

import asyncio
import hashlib
import os
from datetime import date
from pathlib import Path

import pytest

from cluster.settings import MB
from cluster.state.people.principals import Scope
from m2dao_client import AsyncClient, Client, Damaged, JobFailed, StoreRefused, problems
from tests.support.serve import renderers, speech

PART = 6 * MB


def padded(video: Path, path: Path, num_bytes: int) -> Path:
    """The same film as a longer file; players stop at the end of the last box."""
    content = video.read_bytes()
    path.write_bytes(content + os.urandom(8) + bytes(num_bytes - len(content) - 8))
    return path


def test_a_recording_is_uploaded_in_parts_with_progress_and_becomes_ready(sdk, keeper, video, tmp_path):
    film, told = padded(video, tmp_path / "anna.mp4", 2 * PART + 1000), []
    recording = sdk.recordings.upload(film, on_progress=told.append)
    assert [transfer.num_bytes for transfer in told] == [PART, 2 * PART, 2 * PART + 1000]
    assert {transfer.total_bytes for transfer in told} == {2 * PART + 1000}
    states = []
    ready = sdk.recordings.wait(recording.id, on_progress=states.append)
    assert (ready.state, ready.sha256) == ("ready", hashlib.sha256(film.read_bytes()).hexdigest())
    assert ready.report["video"]["width"] == 288
    assert states[-1] == ready
    assert sdk.recordings.upload(film).id == recording.id  # nothing is sent again
    assert [found.id for found in sdk.recordings.list()] == [recording.id]
    sdk.recordings.delete(recording.id)
    with pytest.raises(problems.UnknownRecording):
        sdk.recordings.get(recording.id)


def test_an_upload_that_broke_off_goes_on_with_what_is_missing(sdk, keeper, video, tmp_path):
    film, told = padded(video, tmp_path / "anna.mp4", 2 * PART + 1000), []

    class Gone(Exception):
        pass

    def first(transfer):
        raise Gone

    with pytest.raises(Gone):
        sdk.recordings.upload(film, on_progress=first)
    (broken,) = sdk.recordings.list()
    assert [part.number for part in sdk.recordings.parts(broken.id).stored] == [1]
    recording = sdk.recordings.upload(film, on_progress=told.append)
    assert recording.id == broken.id
    assert [transfer.num_bytes for transfer in told] == [2 * PART, 2 * PART + 1000]
    assert sdk.recordings.wait(recording.id).state == "ready"


def test_what_is_no_recording_is_refused_with_a_reason(sdk, keeper, tmp_path):
    film = tmp_path / "page.mp4"
    film.write_text("<html>" + os.urandom(8).hex(), encoding="utf-8")
    with pytest.raises(JobFailed, match="refused") as failure:
        sdk.recordings.wait(sdk.recordings.upload(film).id)
    assert isinstance(failure.value.problem, problems.RecordingRejected | problems.UnreadableMedia)


def test_a_store_that_refuses_parts_is_told_as_such(sdk, video, tmp_path, monkeypatch):
    film = padded(video, tmp_path / "anna.mp4", 1000 + video.stat().st_size)
    parts = type(sdk.recordings)._send_part

    def spoiled(self, part, content):
        return parts(
            self, part.model_copy(update={"url": part.url.replace("X-Amz-Signature=", "X-Amz-Signature=0")}), content
        )

    monkeypatch.setattr(type(sdk.recordings), "_send_part", spoiled)
    with pytest.raises(StoreRefused, match="403"):
        sdk.recordings.upload(film)


def test_a_render_is_made_waited_for_and_saved(api, sdk, tmp_path):
    states, sizes = [], []
    render = sdk.renders.create("anna", speech(0.5), background="#102030", once="first")
    assert sdk.renders.create("anna", speech(0.5), background="#102030", once="first").id == render.id
    with renderers(api.platform.settings, tmp_path / "disk"):
        done = sdk.renders.wait(render.id, on_progress=states.append)
    assert done.result is not None
    path = sdk.renders.download(render.id, tmp_path / "anna.mp4", on_progress=sizes.append)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == done.result.sha256
    assert sizes[-1].num_bytes == sizes[-1].total_bytes == done.result.num_bytes
    assert b"".join(sdk.renders.video(render.id)) == path.read_bytes()
    assert sorted(found.name for found in tmp_path.iterdir()) == ["anna.mp4", "disk"]
    assert [found.id for found in sdk.renders.list()] == [render.id]


def test_a_render_that_is_cancelled_ends_the_wait_as_such(sdk):
    render = sdk.renders.create("anna", speech(0.5))
    assert sdk.renders.cancel(render.id).status == "cancelled"
    with pytest.raises(JobFailed, match="cancelled"):
        sdk.renders.wait(render.id)
    with pytest.raises(JobFailed, match="cancelled"):
        sdk.renders.download(render.id, "never.mp4")
    assert not Path("never.mp4").exists()


def test_a_video_that_arrives_damaged_is_not_kept(api, sdk, tmp_path, monkeypatch):
    render = sdk.renders.create("anna", speech(0.5))
    with renderers(api.platform.settings, tmp_path / "disk"):
        sdk.renders.wait(render.id)
    monkeypatch.setattr("m2dao_client.files.Arriving.add", lambda self, piece: self._file.write(piece))
    with pytest.raises(Damaged):
        sdk.renders.download(render.id, tmp_path / "anna.mp4")
    assert [found.name for found in tmp_path.iterdir()] == ["disk"]


def test_versions_are_compared_promoted_and_rolled_back(api, own, sdk, keeper, folder):
    second = api.register(own.tenant, folder, promote=False).version
    seen = sdk.identities.champion("anna")
    first = seen.version
    assert [found.version for found in sdk.identities.versions("anna")] == [second, first]
    with pytest.raises(problems.PromotionConflict):
        sdk.identities.promote("anna", second, seen=seen.model_copy(update={"epoch": seen.epoch + 1}))
    assert sdk.identities.promote("anna", second, seen=seen, force=True).version == second
    assert sdk.identities.version("anna", second).gate.verdict == "forced"
    assert sdk.identities.roll_back("anna").version == first
    assert [move.what for move in sdk.identities.history("anna")][:2] == ["roll_back", "promote"]
    assert sdk.identities.get("anna").previous == second
    assert sdk.identities.challenge("anna", version=second, share=25, force=True).version == second
    assert sdk.identities.challenger("anna").share == 25
    assert sdk.identities.withdraw_challenger("anna").version is None
    with pytest.raises(problems.Conflict):
        sdk.identities.delete_version("anna", second)  # a rollback would need it
    with pytest.raises(problems.NotFound):
        sdk.identities.version("anna", 99)
    assert [found.identity for found in sdk.identities.list()] == ["anna"]


def test_keys_and_tokens_come_with_their_secrets_once(api, own, sdk):
    made = sdk.keys.create(label="website", scopes=("client",), once="k")
    assert {"website"} <= {key.label for key in sdk.keys.list()}
    with Client(str(own.client.base_url), made.key) as website:
        token = website.tokens.create("anna", origin="https://app.example.com")
        with pytest.raises(problems.MissingScope):
            next(iter(website.audit.list()))
        assert [found.id for found in website.tokens.list()] == [token.id]
        website.tokens.revoke(token.id)
    rotated = sdk.keys.rotate(made.id, overlap_s=0)
    assert sdk.keys.get(made.id).replaced_by == rotated.id
    sdk.keys.revoke(rotated.id)
    acts = [entry.what for entry in sdk.audit.list()]
    assert {"create-key", "rotate-key", "revoke-key"} <= set(acts)


def test_lists_are_read_to_their_end_page_by_page(api, own, sdk):
    for _ in range(3):
        api.services.state.accounts.create_api_key(own.tenant, scopes=(Scope.CLIENT,))
    from m2dao_client.models import KeyList

    def pages():
        yield from sdk._session.items(KeyList, "/v1/keys", lambda page: page.keys, limit=1)

    assert [key.id for key in sdk._driver.iterate(pages())] == [key.id for key in sdk.keys.list()]


def test_what_was_used_is_told(sdk):
    assert list(sdk.usage.list(first=date(2026, 1, 1), last=date(2026, 1, 2), identity="anna")) == []
    assert sdk.ready().status in ("ok", "degraded")


def test_a_webhook_is_made_once_rotated_and_forgotten(sdk):
    made = sdk.webhooks.create(url="https://example.com/hook", events=["fit.done"], once="w")
    assert sdk.webhooks.create(url="https://example.com/hook", events=["fit.done"], once="w").id == made.id
    assert sdk.webhooks.rotate(made.id, overlap_s=60).secret != made.secret
    assert [found.id for found in sdk.webhooks.list()] == [made.id]
    assert list(sdk.webhooks.deliveries(made.id)) == []
    sdk.webhooks.delete(made.id)
    with pytest.raises(problems.NotFound):
        sdk.webhooks.get(made.id)


def test_a_wrong_key_is_an_error_of_its_own(own):
    with Client(str(own.client.base_url), "m2_nobody") as nobody, pytest.raises(problems.InvalidCredentials):
        next(iter(nobody.identities.list()))


def test_the_same_is_awaited(api, own, keeper, video, tmp_path):
    film = padded(video, tmp_path / "anna.mp4", PART + 1000)

    async def main():
        async with AsyncClient(str(own.client.base_url), own.key) as sdk:
            sent = []
            recording = await sdk.recordings.upload(film, on_progress=sent.append)
            render = await sdk.renders.create("anna", speech(0.5))
            ready, done = await asyncio.gather(sdk.recordings.wait(recording.id), sdk.renders.wait(render.id))
            path = await sdk.renders.download(render.id, tmp_path / "anna-speaks.mp4")
            pieces = [piece async for piece in sdk.renders.video(render.id)]
            with pytest.raises(problems.UnknownFit):
                await sdk.fits.wait("f-" + "0" * 32)
            listed = [found.id async for found in sdk.recordings.list()]
            return sent, ready, done, path, pieces, listed

    with renderers(api.platform.settings, tmp_path / "disk"):
        sent, ready, done, path, pieces, listed = asyncio.run(main())
    assert (sent[-1].num_bytes, ready.state, done.status) == (PART + 1000, "ready", "done")
    assert path.read_bytes() == b"".join(pieces)
    assert listed == [ready.id]
