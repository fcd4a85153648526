"""The render API as a client uses it: order a video over HTTP, ask how far it is, download it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from m2dao.errors import M2daoError
from m2dao.files import whole_file

_POLL_S = 0.5
_RENDER_TIMEOUT_S = 600.0


class RenderClient:
    """Speaks with one API as the owner of one key."""

    def __init__(self, http: httpx.Client):
        self._http = http

    @classmethod
    @contextlib.contextmanager
    def connect(cls, url: str, key: str) -> Iterator[RenderClient]:
        """A client of the API at ``url``."""
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as http:
            yield cls(http)

    def order(self, identity: str, audio: Path) -> dict[str, Any]:
        """Ask for a video of ``identity`` saying ``audio``; returns the accepted render."""
        with open(audio, "rb") as file:
            return _body(self._http.post("/v1/renders", files={"audio": file}, data={"identity": identity}))

    def wait(self, render: dict[str, Any], *, progress: Callable[[str], None]) -> dict[str, Any]:
        """The render when it is done.

        Args:
            render: as it was ordered.
            progress: is told what the render is at.

        Raises:
            M2daoError: it failed, was cancelled, or does not end.
        """
        subject = f"render of {render['identity']}"
        deadline = time.monotonic() + _RENDER_TIMEOUT_S
        while render["status"] in ("queued", "running"):
            if time.monotonic() > deadline:
                raise M2daoError(subject, f"to end within {_RENDER_TIMEOUT_S:.0f} s", "no end")
            progress(f"{render['stage'] or 'queued'} {render['progress']:.0%}")
            time.sleep(_POLL_S)
            render = _body(self._http.get(f"/v1/renders/{render['id']}"))
        if render["status"] != "done":
            raise M2daoError(subject, "done", render["status"], json.dumps(render["error"]))
        return render


def download(url: str, path: Path) -> None:
    """Save what is at a presigned URL."""
    with httpx.stream("GET", url, timeout=60, trust_env=False) as answer, whole_file(path) as partial:
        answer.raise_for_status()
        with open(partial, "wb") as file:
            for chunk in answer.iter_bytes():
                file.write(chunk)


def _body(answer: httpx.Response) -> dict[str, Any]:
    if answer.is_error:
        asked = f"{answer.request.method} {answer.request.url.path}"
        raise M2daoError(asked, "success", f"{answer.status_code}: {answer.text}")
    body: dict[str, Any] = answer.json()
    return body
