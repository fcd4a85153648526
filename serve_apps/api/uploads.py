"""Reading the multipart body of ``POST /v1/renders``: streamed, bounded, and checked field by field."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from cluster.settings import MB
from m2dao.files import file_sha256
from serve_apps.problems import ApiProblem

_FILES = ("audio", "background_image")
_TEXTS = ("identity", "background")
_BACKGROUND = re.compile(r"plate|#[0-9a-fA-F]{6}")
_MAX_TEXT_BYTES = 1024
_CHUNK_BYTES = 1 << 20
_NO_FILE = "a file is expected; send it with a filename"


@dataclass(frozen=True, kw_only=True)
class SavedFile:
    """An upload on our disk, as it came."""

    path: Path
    sha256: str


@dataclass(frozen=True, kw_only=True)
class RenderForm:
    """What a client asks for. ``background`` is ``plate`` or ``#rrggbb`` in lower case."""

    identity: str
    background: str
    audio: SavedFile
    background_image: SavedFile | None


async def read_render_form(request: Request, *, max_bytes: int, work_dir: Path) -> RenderForm:
    """Read the whole body, files into ``work_dir``.

    Raises:
        ApiProblem: the body is of another type, larger than ``max_bytes``, malformed, or has wrong fields.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise ApiProblem("unsupported-media-type", "the body must be multipart/form-data")
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise ApiProblem("unsupported-media-type", f"the body is packed ({coding[:40]}); send it as it is")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    try:
        parser = _Parser(
            request.headers, _bounded(request, max_bytes), max_files=4, max_fields=8, max_part_size=_MAX_TEXT_BYTES
        )
        form = await parser.parse()
    except MultiPartException as error:
        detail = error.message
        if "boundary" in detail:
            detail += " Let your client set Content-Type by itself: it knows the boundary."
        raise ApiProblem("malformed-request", detail) from error
    except ClientDisconnect as error:
        raise ApiProblem("malformed-request", "the body ended early") from error
    try:
        return await run_in_threadpool(_checked, form, work_dir)
    finally:
        await form.close()


class _Parser(MultiPartParser):
    """Names the field where a file comes without a file name, and so as a text that is too long."""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        try:
            super().on_part_data(data, start, end)
        except MultiPartException as error:
            name = self._current_part.field_name[:80]
            detail = _NO_FILE if name in _FILES else f"text of at most {_MAX_TEXT_BYTES} bytes is expected"
            errors = [{"field": name, "detail": detail}]
            raise ApiProblem("invalid-request", "the form is not valid", errors=errors) from error


async def _bounded(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    num_bytes = 0
    async for chunk in request.stream():
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            raise _too_large(max_bytes)
        yield chunk


def _too_large(max_bytes: int) -> ApiProblem:
    # Without this the server would go on to receive what it does not want, however long it is.
    close = {"Connection": "close"}
    return ApiProblem("upload-too-large", f"a request may have at most {max_bytes / MB:g} MB", close)


def _checked(form: FormData, work_dir: Path) -> RenderForm:
    faults = []
    for name in dict.fromkeys(name for name, _ in form.multi_items()):
        if name not in (*_FILES, *_TEXTS):
            faults.append((name[:80], f"no such field; there are {', '.join((*_FILES, *_TEXTS))}"))
        elif len(form.getlist(name)) > 1:
            faults.append((name, "given more than once"))
        elif isinstance(form[name], UploadFile) != (name in _FILES):
            faults.append((name, _NO_FILE if name in _FILES else "text is expected, not a file"))
    faults.extend((name, "is needed") for name in ("audio", "identity") if name not in form)
    background = form.get("background", "plate")
    if isinstance(background, str) and not _BACKGROUND.fullmatch(background.strip()):
        faults.append(("background", "plate or #rrggbb is expected"))
    if "background" in form and "background_image" in form:
        faults.append(("background", "give either background or background_image"))
    if faults:
        errors = [{"field": name, "detail": detail} for name, detail in faults]
        raise ApiProblem("invalid-request", "the form is not valid", errors=errors)
    image = form.get("background_image")
    return RenderForm(
        identity=_text(form["identity"]),
        background=_text(background).lower(),
        audio=_save(form["audio"], work_dir / "upload-audio"),
        background_image=None if image is None else _save(image, work_dir / "upload-image"),
    )


def _text(field: UploadFile | str) -> str:
    assert isinstance(field, str)  # _checked refuses files here
    return field.strip()


def _save(upload: UploadFile | str, path: Path) -> SavedFile:
    assert isinstance(upload, UploadFile)  # _checked refuses text here
    upload.file.seek(0)
    with open(path, "wb") as file:
        shutil.copyfileobj(upload.file, file, _CHUNK_BYTES)
    return SavedFile(path=path, sha256=file_sha256(path))
