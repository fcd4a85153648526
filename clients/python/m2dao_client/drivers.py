"""The two who do the steps of an operation: one blocks, one awaits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from typing import Any, TypeVar

import httpx

from m2dao_client.errors import ConnectionFailed
from m2dao_client.steps import Answer, Call, Close, Emit, Open, Pause, Read, Request, Send, Step, Work

Item = TypeVar("Item")
Result = TypeVar("Result")


def _arguments(request: Request) -> dict[str, Any]:
    """A request as httpx takes it."""
    told = {
        "params": request.query,
        "json": request.json,
        "content": request.content,
        "data": request.form,
        "files": request.files,
    }
    return {
        "headers": dict(request.headers),
        **{name: value for name, value in told.items() if value not in (None, {})},
    }


def _failed(request: Request, error: Exception) -> ConnectionFailed:
    where = httpx.URL(request.url).copy_with(query=None)  # the query of a presigned URL is a secret
    return ConnectionFailed(f"{request.method} {where}: {type(error).__name__}: {error}")


class _Opened:
    """What is open while an operation runs."""

    def __init__(self) -> None:
        self.request: Request | None = None
        self.response: httpx.Response | None = None
        self.pieces: Any = None

    def begin(self, request: Request, response: httpx.Response, pieces: Any) -> Answer:
        self.request, self.response, self.pieces = request, response, pieces
        return Answer(response.status_code, response.headers)

    def failed(self, error: Exception) -> ConnectionFailed:
        assert self.request is not None
        return _failed(self.request, error)


class SyncDriver:
    """Does steps one after the other, in the caller's thread."""

    def __init__(self, http: httpx.Client):
        self._http = http

    def run(self, call: Call[Result]) -> Result:
        """Do all steps of an operation."""
        steps: Generator[object, None, Result] = self.iterate(call)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result

    def iterate(self, call: Generator[Step | Emit[Item], Any, Result]) -> Generator[Item, None, Result]:
        """Do the steps of an operation, and yield what it emits."""
        opened = _Opened()
        try:
            step = next(call)
            while True:
                if isinstance(step, Emit):
                    yield step.item
                    step = next(call)
                    continue
                try:
                    result = self._do(step, opened)
                except ConnectionFailed as error:
                    step = call.throw(error)
                else:
                    step = call.send(result)
        except StopIteration as end:
            done: Result = end.value
            return done
        finally:
            call.close()
            if opened.response is not None:
                opened.response.close()

    def _do(self, step: Step, opened: _Opened) -> Any:
        match step:
            case Send(request):
                try:
                    got = self._http.request(request.method, request.url, **_arguments(request))
                except httpx.HTTPError as error:
                    raise _failed(request, error) from error
                return Answer(got.status_code, got.headers, got.content)
            case Open(request):
                built = self._http.build_request(request.method, request.url, **_arguments(request))
                try:
                    response = self._http.send(built, stream=True)
                except httpx.HTTPError as error:
                    raise _failed(request, error) from error
                return opened.begin(request, response, response.iter_bytes())
            case Read():
                try:
                    return next(opened.pieces, b"")
                except httpx.HTTPError as error:
                    raise opened.failed(error) from error
            case Close():
                if opened.response is not None:
                    opened.response.close()
            case Pause(seconds):
                time.sleep(seconds)
            case Work(call):
                return call()
        return None


class AsyncDriver:
    """Does steps on the event loop; what blocks, in a thread."""

    def __init__(self, http: httpx.AsyncClient):
        self._http = http

    async def run(self, call: Call[Result]) -> Result:
        """Do all steps of an operation."""
        ended: list[Result] = []

        def noted() -> Call[None]:
            ended.append((yield from call))

        async for _ in self.iterate(noted()):
            pass
        return ended[0]

    async def iterate(self, call: Generator[Step | Emit[Item], Any, object]) -> AsyncGenerator[Item, None]:
        """Do the steps of an operation, and yield what it emits."""
        opened = _Opened()
        try:
            step = next(call)
            while True:
                if isinstance(step, Emit):
                    yield step.item
                    step = next(call)
                    continue
                try:
                    result = await self._do(step, opened)
                except ConnectionFailed as error:
                    step = call.throw(error)
                else:
                    step = call.send(result)
        except StopIteration:
            return
        finally:
            call.close()
            if opened.response is not None:
                await opened.response.aclose()

    async def _do(self, step: Step, opened: _Opened) -> Any:
        match step:
            case Send(request):
                try:
                    got = await self._http.request(request.method, request.url, **_arguments(request))
                except httpx.HTTPError as error:
                    raise _failed(request, error) from error
                return Answer(got.status_code, got.headers, got.content)
            case Open(request):
                built = self._http.build_request(request.method, request.url, **_arguments(request))
                try:
                    response = await self._http.send(built, stream=True)
                except httpx.HTTPError as error:
                    raise _failed(request, error) from error
                return opened.begin(request, response, response.aiter_bytes())
            case Read():
                try:
                    return await anext(opened.pieces, b"")
                except httpx.HTTPError as error:
                    raise opened.failed(error) from error
            case Close():
                if opened.response is not None:
                    await opened.response.aclose()
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Work(call):
                return await asyncio.to_thread(call)
        return None
