"""Calls that do not wait for each other."""

import threading

import pytest
import torch

from m2dao.kernels.threads import call_together, set_num_threads


@pytest.fixture(params=[1, 2, None])
def num_threads(request):
    set_num_threads(request.param)
    yield request.param
    set_num_threads(None)


def test_results_come_in_the_order_of_the_calls(num_threads):
    assert call_together([lambda value=value: value**2 for value in range(7)]) == [value**2 for value in range(7)]
    assert call_together([]) == []


def test_an_error_reaches_the_caller(num_threads):
    def fail():
        raise ValueError("no")

    for calls in ([fail, int], [int, fail], [int, int, fail]):
        with pytest.raises(ValueError, match="no"):
            call_together(calls)


def test_nobody_waits_for_a_helper_that_has_not_begun():
    set_num_threads(2)
    begun, release = threading.Event(), threading.Event()

    def keep_helpers_busy():
        begun.set()
        return release.wait(20)

    try:
        other = threading.Thread(target=call_together, args=([release.wait] + [keep_helpers_busy] * 64,))
        other.start()
        assert begun.wait(20)
        # Every helper is busy until this thread lets go, so it must do all of its own work.
        assert call_together([threading.get_ident] * 5) == [threading.get_ident()] * 5
    finally:
        release.set()
        other.join()
        set_num_threads(None)


def test_gradients_of_calls_in_several_threads_are_those_of_one(num_threads):
    weight, points = torch.randn(3, 4, requires_grad=True), torch.randn(50, 3)
    pieces = [(part @ weight).square().sum() for part in points.split(25)]
    gradients = call_together([lambda piece=piece: torch.autograd.grad(piece, weight)[0] for piece in pieces])
    torch.testing.assert_close(sum(gradients), torch.autograd.grad((points @ weight).square().sum(), weight)[0])
