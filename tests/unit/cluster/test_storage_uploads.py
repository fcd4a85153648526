"""What an upload says to the object store."""

import pytest

from cluster.settings import Settings
from cluster.storage import ObjectStore
from m2dao.errors import ServiceError
from tests.support.http_server import serving


def test_an_upload_asks_for_no_go_ahead(tmp_path):
    """A go-ahead that is cut off in the middle would leave botocore in a loop without end."""
    (tmp_path / "video").write_bytes(b"x" * 100)
    asked = []

    async def refuse(scope, receive, send):
        if scope["type"] == "lifespan":
            for word in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{word}.complete"})
            return
        asked.append(dict(scope["headers"]))
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with serving(refuse) as client:
        settings = {"M2DAO_S3_ENDPOINT": str(client.base_url), "M2DAO_S3_ACCESS_KEY": "k", "M2DAO_S3_SECRET_KEY": "s"}
        with pytest.raises(ServiceError):
            ObjectStore(Settings().with_env(settings)).put_file("acme/video", tmp_path / "video")
    assert asked
    assert [headers.get(b"expect") for headers in asked] == [None] * len(asked)
