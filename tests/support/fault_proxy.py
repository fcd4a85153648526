"""A TCP proxy that can fail on command, to be put between us and a service.

    with FaultProxy(port) as proxy:
        ...                       # proxy.port behaves like port
        proxy.refuse()            # open connections break, new ones are refused
        proxy.stall()             # everything hangs: connections are taken, nothing is passed on
        proxy.heal()              # works again

It runs in a thread with an event loop of its own, so that it can fail while the test blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import TracebackType


class FaultProxy:
    """Passes bytes between ``127.0.0.1:<port>`` and a target port of 127.0.0.1, until told otherwise."""

    def __init__(self, target_port: int):
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task] = set()
        self._server: asyncio.Server | None = None
        self._flow: asyncio.Event | None = None
        self.port = 0
        self.num_connections = 0

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def refuse(self) -> None:
        """Break every connection and refuse new ones, as when the service has died."""
        self._do(self._stop_listening())

    def stall(self) -> None:
        """Pass nothing on any more, as when the service hangs or the network swallows packets."""
        self._do(self._set_flow(False))

    def heal(self) -> None:
        """Work again."""
        self._do(self._set_flow(True))
        if self._server is None:
            self._do(self._listen())

    def _do(self, coroutine) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=10)

    async def _listen(self) -> None:
        if self._flow is None:
            self._flow = asyncio.Event()
            self._flow.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]  # the same one again after refuse()

    async def _set_flow(self, flows: bool) -> None:
        self._flow.set() if flows else self._flow.clear()

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()  # a reset, not a polite end

    async def _close(self) -> None:
        await self._stop_listening()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except BaseException as error:  # a cancelled task must close its connection too
            writer.transport.abort()
            self._tasks.discard(task)
            if isinstance(error, OSError):
                return
            raise
        pair = {writer, far_writer}
        self._writers |= pair
        try:
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        except OSError:
            pass  # one side broke off; the other follows
        finally:
            for end in pair:
                end.transport.abort()
            self._writers -= pair
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._flow.wait()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()
