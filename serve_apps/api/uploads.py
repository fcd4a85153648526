"""Reads the multipart body of ``POST /v1/renders``: bounded, straight to disk, checked by field."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from cluster.settings import MB, ServeConfig
from serve_apps.api.decode import PICTURE_BYTES, speech_bytes
from serve_apps.problems import ApiProblem

_FILES = ("audio", "background_image")
_TEXTS = ("identity", "background")
_BACKGROUND = re.compile(r"plate|#[0-9a-fA-F]{6}")
_MAX_TEXT_BYTES = 1024
_NO_FILE = "a file is expected; send it with a filename"
_MAX_FILES = 4  # two too many, so that the answer can name them
_WRITE_BYTES = 1 << 18  # of a file that are written together
_FIRST_SECONDS_S = 10.0  # in which a body may be as slow as it likes
# Without this header the server would go on to receive what it does not want, however long it is.
_CLOSE = {"Connection": "close"}


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


def disk_need(request: Request, config: ServeConfig) -> int:
    """Temporary disk that a request may need, in bytes: its body as it comes, and what is made of it.

    Raises:
        ApiProblem: the body says that it is too large.
    """
    max_bytes, declared = config.max_upload_mb * MB, request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    return (int(declared) if declared.isdigit() else max_bytes) + speech_bytes(config.max_audio_s) + PICTURE_BYTES


async def read_render_form(
    request: Request, config: ServeConfig, work_dir: Path, writers: ThreadPoolExecutor
) -> RenderForm:
    """Read the whole body, its files straight into ``work_dir``, by threads of ``writers``.

    Raises:
        ApiProblem: the body is of another type, too large, too slow, malformed, or has wrong fields.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise ApiProblem("unsupported-media-type", "the body must be multipart/form-data")
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise ApiProblem("unsupported-media-type", f"the body is packed ({coding[:40]}); send it as it is")
    try:
        parser = _FormParser(
            request.headers, arriving(request, config, config.max_upload_mb * MB), work_dir=work_dir, writers=writers
        )
        form = await parser.parse()
    except MultiPartException as error:
        detail = error.message
        if "boundary" in detail:
            detail += " Let your client set Content-Type by itself: it knows the boundary."
        raise ApiProblem("malformed-request", detail) from error
    except ClientDisconnect as error:
        raise ApiProblem("malformed-request", "the body ended early") from error
    return _checked(form)


async def arriving(request: Request, config: ServeConfig, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body piece by piece, as long as it comes fast enough and is not too large.

    Raises:
        ApiProblem: it is larger, or too slow.
    """
    num_bytes = 0
    started = asyncio.get_running_loop().time()
    body = request.stream()
    while True:
        enough_s = _FIRST_SECONDS_S + num_bytes / (config.upload_min_kb_s * 1000)
        try:
            async with asyncio.timeout_at(started + min(enough_s, config.upload_timeout_s)):
                chunk = await anext(body, None)
        except TimeoutError:
            detail = f"at least {config.upload_min_kb_s:g} kB a second, within {config.upload_timeout_s:g} s"
            raise ApiProblem("upload-too-slow", detail, _CLOSE) from None
        if chunk is None:
            return
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            raise _too_large(max_bytes)
        yield chunk


def _too_large(max_bytes: int) -> ApiProblem:
    return ApiProblem("upload-too-large", f"a request may have at most {max_bytes / MB:g} MB", _CLOSE)


class _KeptFile(UploadFile):
    """A file of a form, written where it stays and hashed on the way, a few pieces at a time."""

    def __init__(self, path: Path, writers: ThreadPoolExecutor):
        super().__init__(path.open("wb"), size=0)  # closed by _FormParser.parse
        self.path, self._writers, self._hash = path, writers, hashlib.sha256()
        self._waiting: list[bytes] = []
        self._num_waiting = 0  # bytes

    async def write(self, data: bytes) -> None:
        self._waiting.append(data)
        self._num_waiting += len(data)
        if self._num_waiting >= _WRITE_BYTES:  # a thread for each piece would cost more than the writing
            await self._flush()

    async def seek(self, offset: int) -> None:
        """Write what waits: the parser rewinds files that are complete, and this one is not read through it."""
        await self._flush()

    async def _flush(self) -> None:
        pieces, self._waiting, self._num_waiting = self._waiting, [], 0
        await asyncio.get_running_loop().run_in_executor(self._writers, self._write, pieces)

    def _write(self, pieces: list[bytes]) -> None:
        for data in pieces:
            self.file.write(data)
            self._hash.update(data)

    def saved(self) -> SavedFile:
        return SavedFile(path=self.path, sha256=self._hash.hexdigest())


class _FormParser(MultiPartParser):
    """The framework's parser, but files go to their place at once instead of through a temporary copy."""

    def __init__(
        self, headers: Headers, stream: AsyncGenerator[bytes, None], *, work_dir: Path, writers: ThreadPoolExecutor
    ):
        super().__init__(headers, stream, max_files=_MAX_FILES, max_fields=8, max_part_size=_MAX_TEXT_BYTES)
        self._work_dir, self._writers = work_dir, writers
        self._kept: list[_KeptFile] = []

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        if self._current_part.file is not None:
            self._current_part.file.file.close()  # the temporary one, still empty
            kept = _KeptFile(self._work_dir / f"upload-{len(self._kept)}", self._writers)
            self._kept.append(kept)
            self._current_part.file = kept

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Names the field where a file comes without a file name, and so as a text that is too long."""
        try:
            super().on_part_data(data, start, end)
        except MultiPartException as error:
            name = self._current_part.field_name[:80]
            detail = _NO_FILE if name in _FILES else f"text of at most {_MAX_TEXT_BYTES} bytes is expected"
            errors = [{"field": name, "detail": detail}]
            raise ApiProblem("invalid-request", "the form is not valid", errors=errors) from error

    async def parse(self) -> FormData:
        try:
            return await super().parse()
        finally:
            for kept in self._kept:
                kept.file.close()


def _checked(form: FormData) -> RenderForm:
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
        audio=_saved(form["audio"]),
        background_image=None if image is None else _saved(image),
    )


def _text(field: UploadFile | str) -> str:
    assert isinstance(field, str)  # _checked refuses files here
    return field.strip()


def _saved(field: UploadFile | str) -> SavedFile:
    assert isinstance(field, _KeptFile)  # _checked refuses text here, and the parser makes no other files
    return field.saved()
