"""Several people's frames rendered together are those rendered alone."""

import copy
import gc
import threading
import time

import numpy as np
import pytest
import torch

from m2dao.gaussians.params import GaussianParams
from m2dao.identity import Talker
from m2dao.identity.batch_scheduler import BatchScheduler, Client, scheduler_of
from m2dao.identity.batches import BatchedHead, HeadStack, join_frames, kind_of
from tests.support.restless_head import KINDS, restless_head, some_conditions
from tests.support.tiny_identity import make_tiny_identity


def another(head, num_more: int, seed: int):
    """A head of the same kind with other numbers and more Gaussians."""
    torch.manual_seed(seed)
    other = copy.deepcopy(head)
    for name, group in head.groups.items():
        more = {key: torch.cat([value, value[:num_more] + 0.1]) for key, value in group.raw.items()}
        other.groups[name] = GaussianParams(more, torch.cat([group.tags, group.tags[:num_more]]))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return other


def batched(head) -> BatchedHead:
    return BatchedHead(head)


def assert_alone_is_together(heads, per_frame, stack):
    together = stack.pose([(head, frame.at(None)) for head, frame in zip(heads, per_frame, strict=True)])
    for index, (head, conditions) in enumerate(zip(heads, per_frame, strict=True)):
        alone = head.pose(conditions.at(None))
        visible = together[3][index] > 1e-9  # opacities: what fills up is transparent
        assert int(visible.sum()) == alone[3].shape[1]
        for value, stacked in zip(alone, together, strict=True):
            torch.testing.assert_close(stacked[index][visible], value[0], atol=1e-5, rtol=1e-4)


def at_once(scheduler: BatchScheduler, ask, arguments: list[tuple]) -> None:
    """Call a function in as many threads, which are served when all of them have asked."""
    threads = [threading.Thread(target=ask, args=some) for some in arguments]
    scheduler._busy = True
    for thread in threads:
        thread.start()
    while len(scheduler._waiting) < len(threads):
        time.sleep(0.01)
    with scheduler._turn:
        scheduler._busy = False
        scheduler._turn.notify_all()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(("degree", "config"), KINDS)
def test_heads_in_a_stack_are_posed_as_if_alone(tmp_path, degree, config):
    one = restless_head(tmp_path, degree=degree, **config)
    heads = [batched(one), batched(another(one, 40, 5)), batched(another(one, 7, 6))]
    per_frame = [some_conditions(torch.eye(4), posture=config.get("has_torso", True)) for _ in range(4)]
    assert_alone_is_together([heads[0], heads[1], heads[2], heads[0]], per_frame, HeadStack())


def test_a_stack_grows_for_newcomers_and_gives_away_places_of_those_who_left(tmp_path):
    one = restless_head(tmp_path, degree=1)
    per_frame = [some_conditions(torch.eye(4), posture=True) for _ in range(3)]
    stack, first, second = HeadStack(), batched(one), batched(another(one, 5, 1))
    assert_alone_is_together([first, second], per_frame[:2], stack)
    large = one
    for seed in range(3):  # twice as many each time
        large = another(large, 2048, seed)
    large = batched(large)
    assert len(large.head.groups["facial"]) > 2048
    assert_alone_is_together([second, large, first], per_frame, stack)
    num_places = len(stack._places)
    for seed in range(8):  # more than there are places
        del second
        gc.collect()
        second = batched(another(one, 5, 10 + seed))
        assert_alone_is_together([second, large, first], per_frame, stack)
    assert len(stack._places) == num_places


def test_who_moves_up_when_others_left_is_not_taken_for_the_newcomer(tmp_path):
    one = restless_head(tmp_path, degree=1)
    per_frame = [some_conditions(torch.eye(4), posture=True) for _ in range(2)]
    stack, first, second = HeadStack(), batched(one), batched(another(one, 5, 1))
    assert_alone_is_together([first, second], per_frame, stack)
    large = one
    for seed in range(3):
        large = another(large, 2048, seed)
    del first
    gc.collect()
    assert_alone_is_together(
        [second, batched(large)], per_frame, stack
    )  # larger than there is room for: everybody moves


def test_kinds_tell_heads_apart_that_cannot_be_stacked(tmp_path):
    one = restless_head(tmp_path, degree=1)
    assert kind_of(one) == kind_of(another(one, 9, 1))
    assert kind_of(one) != kind_of(restless_head(tmp_path / "other", degree=0))


def test_talkers_of_several_threads_show_what_they_show_alone(tmp_path):
    folders = [
        make_tiny_identity(tmp_path / str(n), size=size, seed=n, hue=0.3 * n) for n, size in enumerate((48, 48, 64))
    ]
    sound = np.random.default_rng(0).normal(0, 0.1, 8 * 640).astype(np.float32)
    alone = [np.stack(list(Talker.load(folder, backend="cpu").frames(sound))) for folder in folders]
    talkers = [Talker.load(folder, backend="reference") for folder in folders]
    shown: dict[int, np.ndarray] = {}

    def speak(number: int) -> None:
        shown[number] = np.stack(list(talkers[number % 3].frames(sound)))

    scheduler = scheduler_of("reference")
    sizes = []
    render = scheduler._render_together
    scheduler._render_together = lambda requests: sizes.append(len(requests)) or render(requests)
    try:
        at_once(scheduler, speak, [(number,) for number in range(6)])
    finally:
        scheduler._render_together = render
    assert max(sizes) == 4  # both threads of both identities of one size
    for number in range(6):
        assert np.abs(shown[number].astype(int) - alone[number % 3]).max() <= 1


def test_what_goes_wrong_reaches_only_whom_it_concerns(tmp_path):
    stored = Talker.load(make_tiny_identity(tmp_path / "one"), backend="reference")
    scheduler, K = BatchScheduler("reference"), torch.tensor([[100.0, 0, 32], [0, 100.0, 32], [0, 0, 1]])
    head = BatchedHead(stored.head)
    conditions = some_conditions(stored.reference_viewmat, posture=False)
    with pytest.raises(Exception, match="whole number from 1"):
        scheduler.render(Client(head, K, 0), conditions.at(None))
    good, bad = Client(head, K, 32), Client(head, K[:2], 32)  # half a matrix cannot be stacked with a whole one
    ended: dict[str, object] = {}

    def ask(name: str, client: Client) -> None:
        try:
            ended[name] = scheduler.render(client, join_frames(2 * [conditions.at(None)])).colors.shape
        except Exception as error:
            ended[name] = error

    at_once(scheduler, ask, [("good", good), ("bad", bad), ("other", good)])
    assert ended["good"] == ended["other"] == (2, 1, 32, 32, 4)
    assert isinstance(ended["bad"], Exception)
