"""The stored form of an error."""

from __future__ import annotations

from cluster.state.problems import Problem
from m2dao.errors import CaptureRejected


def test_an_error_of_ours_keeps_its_code_and_its_whole_message():
    error = CaptureRejected("anna.mp4", "a face", "none", "film again")
    problem = Problem.of(error)
    assert (problem.code, problem.detail) == ("recording-rejected", str(error))
    assert problem.title == "A recording decodes but cannot become a capture."


def test_any_other_error_is_internal_and_says_of_what_type_it_was():
    problem = Problem.of(ValueError("x"))
    assert (problem.code, problem.detail) == ("internal-error", "ValueError: x")


def test_a_problem_comes_back_as_it_was_stored():
    problem = Problem(code="worker-died", title="t", detail="d")
    assert Problem.from_dict(problem.as_dict()) == problem
