"""What is in a file and what will be done with it, as `m2dao probe` tells it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from m2dao.errors import InputError, MediaError
from m2dao.files import whole_file
from m2dao.media.audio import AudioInfo, SoundChoice, probe_audio, read_audio, write_wav
from m2dao.media.container import DEFAULT_LIMITS, MediaLimits
from m2dao.media.picture.still import is_still
from m2dao.media.survey.tracks import Survey, survey
from m2dao.media.video import VideoInfo, probe_video, read_frames


def look(
    path: Path | str,
    *,
    limits: MediaLimits = DEFAULT_LIMITS,
    audio_track: int | None = None,
    video_track: int | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Tell what is in a file.

    Args:
        path: of the file.
        limits: of what is read.
        audio_track, video_track: numbers of the tracks to use; chosen if None.
        out: folder for what the readers read: ``sound.wav``, ``first.png``, ``middle.png`` and ``last.png``.

    Raises:
        MediaError: it is no media file, or a track that was asked for cannot be used.
        InputError: there is no room or leave to write.
    """
    path = Path(path)
    found = survey(path)
    notes = found.glued_notes()
    video, audio = None, None
    if video_track is not None or any(track.kind == "video" and not track.trouble for track in found.tracks):
        video = probe_video(path, limits, track=video_track)
    if audio_track is not None or any(track.kind == "audio" and not track.trouble for track in found.tracks):
        audio = probe_audio(path, limits, track=audio_track)
    if video is None and audio is None:
        raise _nothing(found)
    notes += [*(video.notes if video else ()), *(audio.notes if audio else ())]
    if video is None:
        notes.append("no picture: it can drive a render, but not become a capture")
    if audio is None:
        notes.append("no sound: it cannot become a capture, nor drive a render")
    if video is not None and is_still(path, limits=limits, track=video.index):
        notes.append("picture: a still, nothing moves; it cannot become a capture")
    if out is not None:
        told = _write(path, out, limits, video, audio)
        notes += [note for note in told if note not in notes]
    used = {track.index for track in (video, audio) if track is not None}
    return {
        "container": found.container,
        "duration_s": round(_duration_s(found, video, audio), 3),
        "video": None if video is None else _video_facts(video),
        "audio": None if audio is None else _audio_facts(audio),
        "other_tracks": [
            {"index": track.index, "kind": track.kind, "codec": track.codec, "title": track.title, "why": track.trouble}
            for track in found.tracks
            if track.index not in used
        ],
        "notes": notes,
    }


def _video_facts(video: VideoInfo) -> dict[str, Any]:
    return {
        "index": video.index,
        "codec": video.codec,
        "width": video.width,
        "height": video.height,
        "fps": round(video.fps, 3),
        "num_frames": video.num_frames,
        "rotation_deg": video.rotation_deg,
        "mirrored": video.mirrored,
        "transfer": video.transfer,
        "interlaced": video.interlaced,
    }


def _audio_facts(audio: AudioInfo) -> dict[str, Any]:
    return {
        "index": audio.index,
        "codec": audio.codec,
        "sample_rate": audio.sample_rate,
        "channels": audio.num_channels,
        "duration_s": round(audio.duration_s, 3),
        "channel": audio.channel,
    }


def _duration_s(found: Survey, video: VideoInfo | None, audio: AudioInfo | None) -> float:
    """From the first stamp of the tracks that are used to their end, of all parts together."""
    used = [track.index for track in (video, audio) if track is not None]
    clocks = [source.clock(*used) for source in found.sources]
    return sum(clock.length_s for clock in clocks)


def _nothing(found: Survey) -> MediaError:
    there = "; ".join(map(str, found.tracks)) or "no tracks"
    return MediaError(str(found.path), "a picture or sound track that can be decoded", there, "export it as mp4")


def _write(path: Path, out: Path, limits: MediaLimits, video: VideoInfo | None, audio: AudioInfo | None) -> list[str]:
    """Write what the readers read; returns their notes."""
    notes: list[str] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        if audio is not None:
            picture = None if video is None else video.index
            choice = SoundChoice(limits=limits, track=audio.index, video_track=picture)
            waveform = read_audio(path, choice, notes=notes)
            with whole_file(out / "sound.wav") as aside:
                write_wav(aside, waveform)
        if video is not None:
            _write_pictures(path, out, limits, video, notes)
    except OSError as error:
        raise InputError(f"--out {out}", "room and leave to write", error.strerror or str(error)) from error
    return notes


def _write_pictures(path: Path, out: Path, limits: MediaLimits, video: VideoInfo, notes: list[str]) -> None:
    """The first, the middle and the last picture, in two passes that hold one picture at a time."""
    num_frames, last = 0, None
    for frame in read_frames(path, limits=limits, track=video.index, notes=notes):
        if not num_frames:
            _write_png(out / "first.png", frame.rgb)
        num_frames, last = num_frames + 1, frame.rgb
    for frame in read_frames(path, limits=limits, track=video.index):
        if frame.index == num_frames // 2:
            _write_png(out / "middle.png", frame.rgb)
            break
    if last is not None:
        _write_png(out / "last.png", last)


def _write_png(path: Path, rgb: np.ndarray) -> None:
    import cv2

    written, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    assert written  # memory aside, any uint8 picture becomes a PNG
    with whole_file(path) as aside:
        aside.write_bytes(data.tobytes())
