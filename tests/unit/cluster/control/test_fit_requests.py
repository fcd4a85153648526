"""What fit jobs store is found again by those that can use it."""

from pathlib import Path

from cluster.control.fit_requests import FitOptions, FitRequest
from cluster.ids import IdentityName, TenantId
from m2dao.formats import CAPTURE, CAPTURE_GENERATION


def test_captures_of_another_format_or_making_lie_under_another_name():
    request = FitRequest(
        batch="f-1",
        identity=IdentityName("anna"),
        recording_sha256="0" * 64,
        recording_name="anna.mp4",
        options=FitOptions(),
    )
    name = Path(request.capture_key(TenantId("acme"))).name
    assert name.startswith(f"v{CAPTURE.version}.{CAPTURE_GENERATION}-"), (
        "or fits would fetch captures that they cannot open, or worse ones"
    )
