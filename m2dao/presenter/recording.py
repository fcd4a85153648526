"""Films a presenter: a video file and, beside it, the truth about every frame."""

from __future__ import annotations

import functools
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from m2dao.errors import ConfigError
from m2dao.media.mux import VideoWriter
from m2dao.presenter import performance, scene
from m2dao.presenter.expressions import CONTROLS
from m2dao.presenter.incidents import Take, draw_incidents, get_incident
from m2dao.presenter.people import Person, get_person, persons
from m2dao.presenter.visemes import BILABIALS, closure_frame
from m2dao.regions import REGIONS
from m2dao.timeline import FRAME_RATE, SAMPLE_RATE, num_samples_for_frames
from m2dao.tts import Phone, Speech, synthesise

Retouch = Callable[[int, np.ndarray, np.ndarray], None]  # frame, picture uint8 [H, W, 3] to change, its landmarks
MASK_STRIDE = 25  # frames between two masks in the truth file; all of them would be half a gigabyte
LEAD_IN_S = 0.45
_SENTENCE_GAP_S = 0.45
_SETTLE_S = 0.12  # lips need this long to close after a word, and start this early before one
_KEYS = {
    "viewmats": "f32 [T,4,4] head space to camera, metres, OpenCV axes; origin 27 mm below the eyes, 7 cm inside",
    "K": "f32 [3,3] pixels",
    "lip_opening": "f32 [T] gap between the inner lips at the middle / distance of the outer eye corners",
    "lip_width": "f32 [T] distance of the mouth corners / distance of the outer eye corners",
    "blink": "f32 [T,2] image-left and image-right eye, 0 open to 1 closed",
    "gaze": "f32 [T,2] radians the eyes turn in the head, to image right and down",
    "controls": "f32 [T,K] weights of control_names",
    "landmarks": "f32 [T,L,2] pixels, of landmark_names",
    "closed": "u8 [T] 1 where the presenter closes the lips for m, b or p",
    "silent": "u8 [T] 1 in pauses longer than 0.24 s, where the lips have settled",
    "masks": "u8 [M,H,W,4] soft masks of mask_names in the frames mask_frames",
    "mask_frames": "i64 [M]",
    "backdrop": "u8 [H,W,3] what stands behind the presenter",
}


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What ``make_recording`` wrote."""

    person: str
    video: Path
    truth: Path
    truth_description: Path
    num_frames: int
    size: int
    seconds: float
    sentence: str
    made_in_s: float

    def as_dict(self) -> dict:
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}


def make_recording(
    out_dir: str | Path,
    *,
    person: str | Person,
    seconds: float = 20,
    seed: int = 0,
    size: int = 512,
    sentence: str | None = None,
    incidents: Sequence[str] = (),
    on_progress: Callable[[float], None] | None = None,
) -> Recording:
    """Write ``<person>.mp4``, ``<person>.truth.safetensors`` and ``<person>.truth.json`` into ``out_dir``.

    The same arguments give the same frames and samples.

    Args:
        out_dir: made when missing.
        person: one of ``persons()``, or somebody else.
        seconds: length, 1 to 600; the sentence is repeated or cut to fit.
        seed: of everything that is random: head motion, blinks, freckles, hair.
        size: side of the square picture in pixels, even, 64 to 1024.
        sentence: text in the language of the person; the person's own by default.
        incidents: what goes wrong, names of ``incidents.INCIDENTS``.
        on_progress: called with the share done, 0..1.

    Raises:
        ConfigError: an argument out of its range, or an unknown person.
    """
    who = get_person(person) if isinstance(person, str) else person
    for change in (get_incident(name).person for name in incidents):
        who = change(who) if change else who
    _check(seconds, size)
    started = time.perf_counter()
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    num_frames = int(round(seconds * FRAME_RATE))
    text = sentence or who.sentence
    speech = _fill(synthesise(text, who.voice, language=who.language, seed=seed), num_frames)
    own_seed = seed * 65_537 + zlib.crc32(who.name.encode()) % 65_537  # two people must not move alike
    states = performance.perform(speech.phones, num_frames, seed=own_seed)
    states, speech, spans = _with_incidents(incidents, states, speech, who, own_seed)
    num_frames = len(states)
    stage = scene.Scene(who, size=size, seed=own_seed)
    video = out / f"{who.name}.mp4"
    retouch = functools.partial(draw_incidents, incidents, spans)
    kept = _film(video, stage, states, speech, retouch, on_progress or (lambda share: None))
    truth, description = _write_truth(out, who, stage, states, speech, kept, text, spans)
    return Recording(
        person=who.name,
        video=video,
        truth=truth,
        truth_description=description,
        num_frames=num_frames,
        size=size,
        seconds=num_frames / FRAME_RATE,
        sentence=text,
        made_in_s=time.perf_counter() - started,
    )


def _check(seconds: float, size: int) -> None:
    if not 1 <= seconds <= 600:
        raise ConfigError("seconds", "1 to 600", str(seconds))
    if size % 2 or not 64 <= size <= 1024:
        raise ConfigError("size", "an even number of pixels from 64 to 1024", str(size))


def _film(
    video: Path,
    stage: scene.Scene,
    states: list,
    speech: Speech,
    retouch: Retouch,
    on_progress: Callable[[float], None],
) -> list[tuple]:
    """Write the video; returns the truth of every frame, with masks every ``MASK_STRIDE`` frames."""
    kept = []
    with VideoWriter(video, width=stage.size, height=stage.size, waveform=speech.waveform) as writer:
        for index, frame in enumerate(_render_in_order(stage, states)):
            retouch(index, frame.rgb, frame.landmarks)
            writer.write(frame.rgb)
            masks = frame.masks if index % MASK_STRIDE == 0 else None
            kept.append((frame.lip_opening, frame.lip_width, frame.blink, frame.landmarks, masks))
            on_progress((index + 1) / len(states))
    return kept


def _with_incidents(names: Sequence[str], states: list, speech: Speech, who: Person, seed: int):
    """States and speech as the incidents change them, and when each of those happens."""
    acting = [act for act in (get_incident(name).act for name in names) if act]
    if not acting:
        return states, speech, {}
    other = next(person for person in persons() if person != who.name)
    somebody = get_person(other)
    take = Take(
        states=list(states),
        waveform=speech.waveform,
        other_voice=synthesise(somebody.sentence, somebody.voice, seed=seed).waveform,
        rng=np.random.default_rng([seed, 41]),
    )
    for act in acting:
        act(take)
    return take.states, Speech(take.waveform, speech.phones), take.spans


def _fill(speech: Speech, num_frames: int) -> Speech:
    """Repeat or cut speech to ``num_frames`` frames, after a short silence."""
    wave = np.zeros(num_samples_for_frames(num_frames), np.float32)
    end_s = num_frames / FRAME_RATE
    phones, clock = [Phone("", 0.0, LEAD_IN_S)], LEAD_IN_S
    while clock < end_s - 0.5:
        start = int(round(clock * SAMPLE_RATE))
        part = speech.waveform[: len(wave) - start]
        wave[start : start + len(part)] = part
        phones += [Phone(p.symbol, p.start_s + clock, p.end_s + clock, p.stressed) for p in speech.phones]
        clock += len(speech.waveform) / SAMPLE_RATE
        phones.append(Phone("", clock, clock + _SENTENCE_GAP_S))
        clock += _SENTENCE_GAP_S
    return Speech(wave, tuple(p for p in phones if p.start_s < end_s))


def _render_in_order(stage: scene.Scene, states: list) -> Iterator[scene.Rendered]:
    """Render frames in several threads and yield them in order, in constant memory."""
    num_threads = max(min(os.cpu_count() or 1, 8), 1)
    with ThreadPoolExecutor(num_threads, thread_name_prefix="presenter") as pool:
        waiting = []
        for state in states:
            waiting.append(pool.submit(stage.render, state))
            if len(waiting) > 2 * num_threads:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def _write_truth(
    out: Path, who: Person, stage: scene.Scene, states, speech: Speech, kept, text, spans
) -> tuple[Path, Path]:
    openings, widths, blinks, landmarks, masks = zip(*kept, strict=True)
    times = np.arange(len(states)) / FRAME_RATE
    closed, silent = np.zeros(len(states), np.uint8), np.zeros(len(states), np.uint8)
    for phone in speech.phones:
        frame = closure_frame(phone)
        if phone.symbol in BILABIALS and frame < len(closed):
            closed[frame] = 1
        elif not phone.symbol and phone.end_s - phone.start_s > 2 * _SETTLE_S:
            silent[(times > phone.start_s + _SETTLE_S) & (times < phone.end_s - _SETTLE_S)] = 1
    tensors = {
        "viewmats": np.stack([s.head for s in states]).astype(np.float32),
        "K": scene.intrinsics(stage.size),
        "lip_opening": np.array(openings, np.float32),
        "lip_width": np.array(widths, np.float32),
        "blink": np.stack(blinks).astype(np.float32),
        "gaze": np.array([s.gaze for s in states], np.float32),
        "controls": np.stack([s.controls for s in states]).astype(np.float32),
        "landmarks": np.stack(landmarks),
        "closed": closed,
        "silent": silent,
        "masks": np.stack([m for m in masks if m is not None]),
        "mask_frames": np.flatnonzero([m is not None for m in masks]).astype(np.int64),
        "backdrop": stage.backdrop_rgb(),
    }
    truth, description = out / f"{who.name}.truth.safetensors", out / f"{who.name}.truth.json"
    save_file(tensors, truth)
    document = {
        "format": "m2dao.presenter-truth",
        "version": 2,
        "person": who.name,
        "size": stage.size,
        "frame_rate": FRAME_RATE,
        "num_frames": len(states),
        "sentence": text,
        "keys": _KEYS,
        "control_names": list(CONTROLS),
        "landmark_names": list(scene.Scene.LANDMARKS),
        "mask_names": list(REGIONS),
        "incidents": {name: [list(span) for span in each] for name, each in spans.items()},
        "phones": [[p.symbol, round(p.start_s, 4), round(p.end_s, 4)] for p in speech.phones],
    }
    description.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return truth, description
