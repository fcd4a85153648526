"""A decoder that something outside kills says nothing about its file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from cluster.settings import ServeConfig
from m2dao.errors import ContainmentUnavailable, ServiceUnavailable
from serve_apps.api.decode import DecodedAudio, UploadDecoder
from serve_apps.problems import problem_of
from tests.support.media.sounds import wav_bytes
from tests.support.processes import process_at_work

NOISE = wav_bytes(np.random.default_rng(0).uniform(-0.5, 0.5, (2, 96_000)), 48_000)  # more FLAC than a pipe holds


def decode(folder: Path, meanwhile: Callable[[UploadDecoder], None]) -> DecodedAudio:
    """Decode an upload whose decoder stands still in the middle, and do something then."""
    (folder / "upload").write_bytes(NOISE)
    os.mkfifo(folder / "sound.flac")
    decoder = UploadDecoder(ServeConfig(decode_processes=1, decode_timeout_s=600))
    decoder.start()

    async def both() -> DecodedAudio:
        doing = asyncio.create_task(asyncio.to_thread(meanwhile, decoder))
        try:
            return await decoder.decode_audio(folder / "upload", folder)
        finally:
            await doing

    try:
        return asyncio.run(both())
    finally:
        decoder.close()


@contextlib.contextmanager
def busy(decoder: UploadDecoder, folder: Path) -> Iterator[psutil.Process]:
    """The process that decodes. It has begun to write, and stands still while inside: nobody reads on."""
    sound = os.open(folder / "sound.flac", os.O_RDONLY | os.O_NONBLOCK)
    try:
        written = select.poll()
        written.register(sound, select.POLLIN)
        assert written.poll(300_000), "the decoder never wrote"
        yield process_at_work(decoder._calls._server.process.pid)
    finally:
        os.close(sound)


def test_an_upload_whose_decoder_was_killed_is_decoded_again(tmp_path):
    def once(decoder: UploadDecoder) -> None:
        with busy(decoder, tmp_path) as process:
            (tmp_path / "sound.flac").unlink()
            (tmp_path / "sound.flac").touch(mode=0o600)  # the next one does not stand still
            process.kill()

    decoded = decode(tmp_path, once)
    assert decoded.seconds == 2.0
    assert decoded.sent.read_bytes().startswith(b"fLaC")


def test_an_upload_whose_decoders_are_killed_twice_is_not_refused_but_put_off(tmp_path):
    def twice(decoder: UploadDecoder) -> None:
        with busy(decoder, tmp_path) as first:
            os.mkfifo(tmp_path / "next")
            os.replace(tmp_path / "next", tmp_path / "sound.flac")  # so that the two cannot be taken for each other
            first.kill()
        with busy(decoder, tmp_path) as second:
            second.kill()

    with pytest.raises(ServiceUnavailable, match="signal 9, sent from outside") as caught:
        decode(tmp_path, twice)
    assert problem_of(caught.value)["status"] == 503


def test_an_upload_whose_decoders_die_with_their_servers_is_not_refused_but_put_off(tmp_path):
    def each(decoder: UploadDecoder) -> None:
        for _ in range(2):
            with busy(decoder, tmp_path) as process:
                os.mkfifo(tmp_path / "next")
                os.replace(tmp_path / "next", tmp_path / "sound.flac")
                warden = process.parent()
                decoder._calls._server.process.kill()
                warden.kill()
                process.kill()  # at once: it would die with its warden, but might find before that nobody reads on

    with pytest.raises(ContainmentUnavailable) as caught:
        decode(tmp_path, each)
    assert problem_of(caught.value)["status"] == 503
