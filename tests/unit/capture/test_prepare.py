"""The whole way from a recording to a capture, and the recordings that are turned away."""

import json

import cv2
import numpy as np
import pytest

from m2dao.capture.dataset import Capture
from m2dao.capture.faces.tracker import FaceTracker
from m2dao.capture.prepare import STAGES, prepare
from m2dao.cli import main
from m2dao.errors import CaptureRejected, ConfigError, MediaError
from m2dao.regions import REGIONS
from tests.support.recordings import SIDE, moved, portrait, write_recording
from tests.support.speech import speech_like


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A rotated phone video at an odd rate, prepared through the command."""
    folder = tmp_path_factory.mktemp("prepared")
    video = write_recording(
        folder / "phone.mov",
        seconds=5.2,
        rate=30,
        change=lambda frame, _: np.ascontiguousarray(np.rot90(frame)),
        rotation_deg=-90,
    )
    assert main(["prepare", str(video), "--out", str(folder / "capture"), "--size", "128", "--json"]) == 0
    return folder / "capture"


def test_a_rotated_video_of_another_rate_becomes_a_capture_of_25_fps(prepared):
    capture = Capture.open(prepared)
    assert capture.num_frames == 130
    assert len(capture.waveform) == 130 * 640
    assert capture.feature("phones").shape == (520, 40)
    assert capture.valid.all()
    assert capture.manifest["source"]["rotation_deg"] == 90
    assert capture.manifest["quality"]["verdict"] in ("good", "usable")


def test_landmarks_masks_and_frames_belong_together(prepared):
    capture = Capture.open(prepared, verify=False)
    tracker = FaceTracker()
    for index in (5, 64, 120):
        seen = tracker.track(capture.frame(index))
        distance = np.linalg.norm(seen.landmarks[:, :2] - capture.landmarks[index, :, :2], axis=1)
        assert np.median(distance) < 2.0
        masks = dict(zip(REGIONS, capture.masks(index).transpose(2, 0, 1).astype(int), strict=True))
        assert sum(masks.values()).max() <= 255
        nose, mouth = capture.landmarks[index, [4, 13], :2].astype(int)
        assert masks["facial"][nose[1], nose[0]] > 200
        assert masks["oral"][mouth[1], mouth[0]] > 200


def test_poses_project_the_canonical_face_onto_the_seen_one(prepared):
    capture = Capture.open(prepared, verify=False)
    points = np.concatenate([capture.canonical_landmarks, np.ones((478, 1))], axis=1)
    camera = np.einsum("tij,nj->tni", capture.viewmats, points)[..., :3]
    pixels = np.einsum("ij,tnj->tni", capture.K, camera)
    error = np.linalg.norm(pixels[..., :2] / pixels[..., 2:] - capture.landmarks[..., :2], axis=-1)
    assert np.median(error) < 1.5
    assert capture.manifest["quality"]["pose_jitter_deg"] < 0.3


def test_the_report_can_be_looked_at(prepared):
    assert cv2.imread(str(prepared / "contact_sheet.jpg")).shape[1] > 500
    assert cv2.imread(str(prepared / "plots.png")).shape[1] > 500
    assert json.loads((prepared / "quality.json").read_text())["verdict"]


def test_progress_never_goes_back_and_json_has_the_promised_keys(tmp_path, capsys):
    video = write_recording(tmp_path / "a.mp4", seconds=5.0)
    seen = []
    result = prepare(video, tmp_path / "capture", size=64, on_progress=lambda stage, share: seen.append((stage, share)))
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    promised = {"num_frames", "seconds", "fps", "pose_jitter_deg", "sync_offset_frames", "verdict", "problems"}
    assert promised <= set(json.loads(json.dumps(result.as_dict())))
    assert (result.num_frames, result.fps) == (125, 25.0)


def two_faces(frame, seconds):
    return np.concatenate([frame, moved(portrait(), seconds + 2.0)], axis=1)


def cut_to_another_scene(frame, seconds):
    return frame if seconds < 3 else 255 - cv2.flip(frame, 1)


def leave_the_frame(frame, seconds):
    shift = max(0.0, seconds - 2.5) * 220
    return cv2.warpAffine(frame, np.array([[1, 0, shift], [0, 1, 0]]), (SIDE, SIDE), borderValue=(90, 90, 90))


def shrink(frame, seconds):
    canvas = np.full_like(frame, 110)
    canvas[90:190, 90:190] = cv2.resize(frame, (100, 100), interpolation=cv2.INTER_AREA)
    return canvas


def landscape(frame, seconds):
    return np.roll(np.indices(frame.shape).sum(0) % 255, int(25 * seconds), axis=1).astype(np.uint8)


REFUSED = {
    "no sound": ({"waveform": None}, CaptureRejected, "sound"),
    "silence": ({"waveform": np.zeros(16000 * 6, np.float32)}, CaptureRejected, "silence"),
    "too short": ({"seconds": 4.0}, CaptureRejected, "at least 5 s"),
    "several faces": ({"change": two_faces}, CaptureRejected, "one face.*2 faces"),
    "a cut": ({"change": cut_to_another_scene}, CaptureRejected, r"one continuous shot.*0:03\.00|whole face"),
    "leaving": ({"change": leave_the_frame}, CaptureRejected, "whole face in every frame.*from 0:0"),
    "small face": ({"change": shrink}, CaptureRejected, "px high"),
    "no face": ({"change": landscape}, CaptureRejected, "a face"),
    "a 400 Hz sound track": (
        {"waveform": speech_like(6.0)[::40], "sample_rate": 400, "audio_codec": "pcm_s16le"},
        MediaError,
        "400",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_recording_that_will_not_do_is_refused_with_the_reason_and_nothing_is_left(tmp_path, case):
    options, error, message = REFUSED[case]
    video = write_recording(tmp_path / ("a.mkv" if "400" in case else "a.mp4"), **{"seconds": 5.2, **options})
    with pytest.raises(error, match=message) as caught:
        prepare(video, tmp_path / "capture", size=64)
    assert caught.value.exit_code == 2
    assert caught.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == [video.name]


@pytest.mark.parametrize("case", ["several faces", "a cut", "leaving"])
def test_a_long_recording_is_refused_before_half_of_it_was_looked_at(tmp_path, case):
    options, error, message = REFUSED[case]
    video = write_recording(tmp_path / "a.mp4", **{"seconds": 12, **options})
    shares = []
    with pytest.raises(error, match=message):
        prepare(video, tmp_path / "capture", size=64, on_progress=lambda stage, share: shares.append(share))
    begin, end = STAGES["following the face"], STAGES["cutting out regions"]
    assert max(shares) < (begin + end) / 2


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_what_is_no_video_leaves_nothing(tmp_path, content, capsys):
    (tmp_path / "a.mp4").write_bytes(content)
    assert main(["prepare", str(tmp_path / "a.mp4"), "--out", str(tmp_path / "capture")]) == 2
    assert "a.mp4" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_truncated_recording_is_refused(tmp_path):
    video = write_recording(tmp_path / "a.mp4", options={"movflags": "+faststart"})
    data = video.read_bytes()
    video.write_bytes(data[: len(data) * 6 // 10])
    with pytest.raises(MediaError, match="truncated"):
        prepare(video, tmp_path / "capture", size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("size", [62, 127, 2048])
def test_sizes_out_of_range_are_refused_before_any_work(tmp_path, size):
    with pytest.raises(ConfigError, match="--size"):
        prepare(tmp_path / "absent.mp4", tmp_path / "capture", size=size)
