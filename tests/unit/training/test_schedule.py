"""Schedules and recipes are data that cannot be wrong."""

from itertools import pairwise

import pytest

from m2dao.errors import ConfigError
from m2dao.training.budget import FitBudget, ProgressBegin
from m2dao.training.recipes import RECIPES, SIZES, get_recipe
from m2dao.training.schedule import (
    Phase,
    Schedule,
    Span,
    alternating_schedule,
    refining_schedule,
    sequential_schedule,
)

ROW = Span(until=1.0, phases=(Phase(name="all", trainables=("colors",)),))


def test_facial_and_oral_take_turns_with_the_other_frozen():
    span = alternating_schedule().span_at(0.5)
    phases = [span.phase_at(step) for step in range(0, 4 * span.block_steps, span.block_steps)]
    assert [phase.name for phase in phases] == ["facial", "oral", "facial", "oral"]
    for phase, other in pairwise(phases):
        frozen = {"facial.gaussians", "facial.field", "oral.gaussians", "oral.field"} - set(phase.trainables)
        assert frozen
        assert frozen <= set(other.trainables)


def test_ours_grows_facial_and_oral_together_refines_them_in_turns_and_ends_with_both():
    schedule = refining_schedule()
    growing, refining, ending = schedule.span_at(0.5), schedule.span_at(0.8), schedule.span_at(0.99)
    for together in (growing, ending):
        assert {"facial.field", "oral.field"} <= set(together.phase_at(0).trainables)
    assert growing.densify
    assert not refining.densify
    assert not ending.densify
    assert [phase.name for phase in refining.phases] == ["facial", "oral"]


def test_our_torso_is_done_when_gaussians_have_grown():
    schedule = refining_schedule()
    for progress in (0.3, 0.64):
        assert {"torso.gaussians", "torso.field"} <= set(schedule.span_at(progress).phase_at(0).trainables)
    for progress in (0.66, 0.99):
        assert not any(
            name.startswith("torso") for phase in schedule.span_at(progress).phases for name in phase.trainables
        )


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_begins_at_rest_and_ends_moving(name):
    schedule = get_recipe(name, 256).schedule
    assert not schedule.span_at(0.0).moving
    assert schedule.span_at(0.999999).moving


def test_the_published_schedules_end_with_colours_alone():
    for schedule in (alternating_schedule(), sequential_schedule()):
        assert schedule.span_at(0.999999).phases[0].trainables == ("colors",)


@pytest.mark.parametrize("size", SIZES)
def test_more_pixels_get_more_gaussians(size):
    assert get_recipe("m2dao", size).seeds["facial"] >= get_recipe("m2dao", 64).seeds["facial"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Schedule(spans=()),
        lambda: Schedule(spans=(Span(until=0.5, phases=ROW.phases),)),
        lambda: Schedule(spans=(ROW, Span(until=0.5, phases=ROW.phases))),
        lambda: Phase(name="x", trainables=("hands",)),
        lambda: Phase(name="x", trainables=()),
        lambda: get_recipe("m2dao", 300),
        lambda: get_recipe("other", 256),
        lambda: FitBudget(),
        lambda: FitBudget(steps=1, minutes=1),
        lambda: FitBudget(steps=0),
        lambda: FitBudget(minutes=-1.0),
    ],
)
def test_what_makes_no_sense_is_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_preparations_use_up_minutes_but_no_part_of_the_schedule():
    budget = FitBudget(minutes=2)
    first = ProgressBegin(progress=0.0, elapsed_s=60.0)
    assert budget.progress(0, 60.0, first) == 0.0
    assert budget.progress(9, 88.65, first) == pytest.approx(0.5)
    assert budget.progress(9, 117.3, first) == pytest.approx(1.0)
    again = ProgressBegin(progress=0.5, elapsed_s=100.0)  # gone on with after more preparations
    assert budget.progress(9, 100.0, again) == 0.5
    assert budget.progress(9, 117.3, again) == pytest.approx(1.0)
    assert budget.progress(0, 130.0, ProgressBegin(progress=0.0, elapsed_s=130.0)) == 1.0, "nothing is left for steps"
    assert FitBudget(steps=10).progress(5, 1e9, first) == 0.5


def test_mouth_and_face_of_the_published_schedule_begin_with_closed_mouths_each():
    schedule = sequential_schedule()
    mouth, face = schedule.spans[1:3]
    for begin, span in ((0.055, mouth), (0.48, face)):
        length = span.rising * (span.until - begin)
        assert schedule.rise_at(begin) == pytest.approx(0)
        assert schedule.rise_at(begin + 0.5 * length) == pytest.approx(0.5)
        assert schedule.rise_at(begin + 1.01 * length) is None
    assert schedule.rise_at(0.01) is None, "a static warm-up takes all frames alike"
    assert all(refining_schedule().rise_at(share) is None for share in (0.0, 0.3, 0.7, 0.99))
