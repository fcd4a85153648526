"""What fit jobs store is found again by those that can use it."""

from cluster.control.fit_requests import CAPTURE_GENERATION
from m2dao.capture.dataset import VERSION
from m2dao.capture.prepare import GENERATION


def test_captures_of_another_format_or_making_lie_under_another_name():
    assert f"v{VERSION}.{GENERATION}" == CAPTURE_GENERATION, (
        "or fits would fetch captures that they cannot open, or worse ones"
    )
