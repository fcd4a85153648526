"""What fit jobs store is found again by those that can use it."""

from m2dao.capture.dataset import VERSION
from train_jobs.requests import CAPTURE_GENERATION


def test_captures_of_another_format_lie_under_another_name():
    assert CAPTURE_GENERATION == f"v{VERSION}", "or every fit would fetch a capture that it cannot open"
