"""Uploads that are broken, too large or not what they say are refused, and leave nothing behind."""

from __future__ import annotations

import contextlib
import io

import httpx
import pytest
from PIL import Image

from tests.support.serve import assert_problem, speech, stored


@pytest.mark.parametrize("audio", [b"", b"\x00" * 999, b"#EXTM3U\nfile:///etc/passwd\n", speech(0.02), speech(25)])
def test_sound_that_cannot_be_used_is_refused_and_leaves_nothing(api, own, audio):
    problem = assert_problem(own.ask(audio=audio), 422, "unreadable-media")
    assert "/tmp" not in problem["detail"]
    assert stored(api, own.tenant) == set()
    assert own.client.get("/v1/renders").json() == {"renders": [], "next": None}


def test_a_body_that_says_it_is_too_large_is_refused(anna):
    assert_problem(anna.ask(audio=b"x" * 1_200_000), 413, "upload-too-large")


def test_a_body_that_hides_its_size_is_cut_off(anna):
    sent = 0

    def endless():
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
        for _ in range(4000):  # 256 MB if nobody stops it
            sent += 1 << 16
            yield b"x" * (1 << 16)

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    # The server may also cut the connection while we are still sending.
    with contextlib.suppress(httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        assert_problem(anna.client.post("/v1/renders", content=endless(), headers=headers), 413, "upload-too-large")
    assert sent < 100_000_000


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "", "multipart/mixed; boundary=b"])
def test_another_media_type_is_refused(anna, content_type):
    answer = anna.client.post("/v1/renders", content=b"{}", headers={"Content-Type": content_type})
    assert_problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--b--"),
        ("multipart/form-data; boundary=b", b"no parts here"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"X-Long: " + b"y" * 9000 + b"\r\n\r\nx\r\n--b--\r\n"),
    ],
    ids=["no-boundary", "no-parts", "no-name", "long-header"],
)
def test_a_broken_body_is_refused(anna, content_type, body):
    assert_problem(
        anna.client.post("/v1/renders", content=body, headers={"Content-Type": content_type}), 400, "malformed-request"
    )


@pytest.mark.parametrize(
    ("files", "data", "field"),
    [
        ({}, {"identity": "anna"}, "audio"),
        ({"audio": ("a", b"x")}, {}, "identity"),
        ({"audio": ("a", b"x")}, {"identity": "y" * 5000}, "identity"),
        ({"audio": ("a", b"x"), "extra": ("e", b"x")}, {"identity": "anna"}, "extra"),
        ({"audio": ("a", b"x"), "identity": ("i", b"anna")}, {}, "identity"),
        ({"x": ("x", b"")}, {"identity": "anna", "audio": "text"}, "audio"),
        ({"audio": ("a", b"x")}, {"identity": ["anna", "anna"]}, "identity"),
        ({"audio": ("a", b"x")}, {"identity": "anna", "background": "green"}, "background"),
        ({"audio": ("a", b"x")}, {"identity": "anna", "background": "transparent"}, "background"),
        (
            {"audio": ("a", b"x"), "background_image": ("b", b"")},
            {"identity": "anna", "background": "plate"},
            "background",
        ),
        ({"audio": ("a", b"x")}, {"identity": "../anna"}, "identity"),
    ],
)
def test_a_wrong_field_is_named(anna, files, data, field):
    # The boundary is set by hand, because httpx sends a form without files in another media type.
    answer = anna.client.post("/v1/renders", files=files or {"": ("", b"")}, data=data)
    if not files:
        assert answer.status_code in (400, 422)
        return
    problem = assert_problem(answer, 422, "invalid-request")
    assert field in {fault["field"] for fault in problem["errors"]}


def test_a_picture_that_cannot_be_used_is_refused(api, own):
    data = io.BytesIO()
    Image.new("RGB", (400, 300)).save(data, "PNG")  # more pixels than allowed
    for picture in (data.getvalue(), b"GIF89a", b""):
        files = {"audio": ("a.wav", speech(1)), "background_image": ("b", picture)}
        answer = own.client.post("/v1/renders", files=files, data={"identity": "anna"})
        assert_problem(answer, 422, "unreadable-media")
    assert stored(api, own.tenant) == set()
