"""A whole capture of a synthetic presenter against the truth that was written beside the recording."""

from __future__ import annotations

import argparse

import pytest

from m2dao.commands.bench import capture as bench_capture
from m2dao.presenter import persons


@pytest.fixture(scope="module")
def found():
    """The row of each presenter."""
    parser = argparse.ArgumentParser()
    bench_capture.add_parser(parser.add_subparsers())
    result = bench_capture.run(parser.parse_args(["capture", "--seconds", "6", "--size", "256"]))
    assert result["recordings"] == []
    return {row["person"]: row for row in result["presenters"]}


@pytest.mark.parametrize("person", persons())
def test_the_head_turns_as_it_did(found, person):
    row = found[person]
    assert row["rotation_error_deg"] < 1.0
    assert row["rotation_error_deg"] < 0.25 * row["rotation_range_deg"] + 0.2
    assert row["rotation_noise_deg"] < 0.25  # brows and lips move; of the face alone they make 0.4 to 0.6 of it


@pytest.mark.parametrize("person", persons())
def test_lips_and_lids_move_as_they_did(found, person):
    row = found[person]
    assert row["lip_correlation"] > 0.9
    assert row["lip_error"] < 0.05
    assert row["lip_opening_when_closed"] < 0.06
    assert row["blink_correlation"] > 0.85
    assert row["gaze_across_correlation"] > 0.7


@pytest.mark.parametrize("person", persons())
def test_masks_cover_what_was_drawn(found, person):
    row = found[person]
    assert row["person_iou"] > 0.95
    assert row["facial_iou"] > 0.8
    assert row["torso_iou"] > 0.85
    assert row["oral_iou"] > 0.6
    assert row["head_iou"] > 0.6


@pytest.mark.parametrize("person", persons())
def test_the_sound_is_in_time(found, person):
    assert found[person]["sync_offset_frames"] == 0
    assert found[person]["verdict"] in ("good", "usable")
