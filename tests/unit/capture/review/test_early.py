"""Refusals during the first pass: once they are certain, and only what the whole is refused for."""

import dataclasses

import numpy as np
import pytest

from m2dao.capture.review.cuts import find_certain_cuts, find_cuts
from m2dao.capture.review.early import EarlyReview, LostFace
from m2dao.capture.review.quality import QualityRules, check_faces
from m2dao.errors import CaptureRejected
from tests.support.recordings import T, tracks, with_rows

RULES = QualityRules()
PIECE, STEP = 100, 25


def missing(frames, num_frames=100):
    """Tell of frames with a face but for some; gives how many were told."""
    lost = LostFace("a.mp4", num_frames, RULES)
    for frame in range(num_frames + 50):
        lost(frame, frame not in frames)
    return frame + 1


def test_a_face_that_is_lost_is_refused_within_a_second():
    with pytest.raises(CaptureRejected, match=r"no face in the picture from 0:01\.20 on"):
        missing(range(30, 1000))
    with pytest.raises(CaptureRejected, match=r"no face in the picture from 0:01\.20 to 0:01\.44"):
        missing(range(30, 36))
    with pytest.raises(CaptureRejected, match="a face; got none in the first 25 frames"):
        missing(range(1000))


def test_short_gaps_and_what_comes_after_the_sound_refuse_nothing():
    assert missing(range(30, 35)) == 150
    assert missing(range(95, 1000)) == 150


def piece(whole, first, end):
    """The tracks of some frames."""
    rows = {name: value[first:end] for name, value in vars(whole).items() if isinstance(value, np.ndarray)}
    return dataclasses.replace(whole, **rows)


def pieces(whole):
    """As the first pass tells them: every second, four seconds at most, from a face to a face."""
    for done in range(STEP, whole.num_frames + 1, STEP):
        begin = max(done - PIECE, 0)
        seen = begin + np.flatnonzero(whole.valid[begin:done])
        first = int(seen[0]) if begin else 0
        yield done, first, piece(whole, first, int(seen[-1]) + 1)


def refused_after(whole, num_frames=T):
    """Frames that were seen when a recording was refused."""
    review = EarlyReview("a.mp4", num_frames, RULES)
    for done, first, latest in pieces(whole):
        try:
            review(first, latest)
        except CaptureRejected as error:
            with pytest.raises(CaptureRejected):
                check_faces(whole, find_cuts(whole), "a.mp4", RULES)
            return done, str(error)
    return None, ""


def with_scene(at):
    return tracks(
        change=with_rows(tracks().change, at, 45.0), median_change=with_rows(tracks().median_change, at, 30.0)
    )


def with_jumps(places):
    jumping = tracks(change=with_rows(tracks().change, places, 9.0))
    for number, place in enumerate(places):
        jumping.landmarks[place:, :, 0] += 25 * (-1) ** number
    return jumping


def test_a_good_recording_is_never_refused_early():
    assert refused_after(tracks()) == (None, "")
    assert refused_after(with_jumps([60, 120])) == (None, "")
    assert refused_after(tracks(num_faces=with_rows(tracks().num_faces, 96, 2))) == (None, "")


def test_another_scene_is_refused_within_two_seconds():
    done, message = refused_after(with_scene(55))
    assert done == 75
    assert "1 cut at 0:02.20" in message


def test_many_jump_cuts_are_refused_at_the_one_that_is_too_many():
    done, message = refused_after(with_jumps(list(range(10, 190, 20))))
    assert done == 150
    assert "7 cuts at 0:00.40, 0:01.20" in message


def test_another_person_is_refused_once_it_is_too_long():
    done, message = refused_after(tracks(num_faces=with_rows(tracks().num_faces, [48, 60, 72], 2)))
    assert done == 75
    assert "2 faces, from 0:01.92 on" in message


def test_how_long_another_person_may_be_seen_depends_on_the_length():
    both = tracks(num_faces=with_rows(tracks().num_faces, [48, 60, 72], 2))
    review = EarlyReview("a.mp4", 60 * T, RULES)
    for _, first, latest in pieces(both):
        review(first, latest)


def test_a_face_that_leaves_the_picture_is_refused_while_it_is_away():
    leaving = tracks()
    leaving.landmarks[40:, :, 0] += np.minimum(np.arange(T - 40) * 30, 620)[:, None]
    done, message = refused_after(leaving)
    assert done == 75
    assert "leaves the picture from 0:02." in message
    assert message.count(" on;") == 1


def test_what_comes_after_the_sound_refuses_nothing():
    assert refused_after(with_scene(110), num_frames=112) == (None, "")
    leaving = tracks()
    leaving.landmarks[100:, :, 0] += 2000
    assert refused_after(leaving, num_frames=100) == (None, "")


@pytest.mark.parametrize("seed", range(12))
def test_cuts_that_are_certain_in_a_piece_are_those_of_the_whole(seed):
    """Whatever else moves, repeats, stands still or is missing around them."""
    rng = np.random.default_rng(seed)
    moving = with_jumps(np.sort(rng.choice(np.arange(5, 195), 8, replace=False)))
    moving.landmarks[:, :, 0] += (rng.uniform(0, 30) * np.sin(np.arange(T) / rng.uniform(3, 9)))[:, None]
    stored_again = rng.random(T) < rng.choice([0.0, 0.3, 0.6])
    valid = np.ones(T, bool)
    for start in rng.choice(np.arange(10, 190), 3, replace=False):
        valid[start : start + 4] = False
    times = np.arange(T) / 25
    times[stored_again] = np.nan
    times = times[np.maximum.accumulate(np.where(stored_again, 0, np.arange(T)))]
    changed = with_rows(moving.change, np.flatnonzero(rng.random(T) < 0.1), 0.001)
    whole = dataclasses.replace(moving, valid=valid, source_times_s=np.nan_to_num(times), change=changed)
    known, certain = find_cuts(whole), set()
    for _, first, latest in pieces(whole):
        found = find_certain_cuts(latest, begins=first == 0)
        assert set(np.add(found.jumps, first).astype(int)) <= set(known.jumps)
        assert set(np.add(found.scenes, first).astype(int)) <= set(known.scenes)
        certain |= set(np.add(found.jumps, first).astype(int))
    far_from_the_end = {frame for frame in known.jumps if frame < T - 60}
    assert far_from_the_end <= certain or stored_again.any()
