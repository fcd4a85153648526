"""A TCP proxy that can fail on command, to be put between us and a service.

    with FaultProxy(port) as proxy:
        ...                       # proxy.port behaves like port
        proxy.refuse()            # open connections break, new ones are refused
        proxy.stall()             # everything hangs: connections are taken, nothing is passed on
        proxy.cut()               # requests arrive, but the connection breaks in the middle of each reply
        proxy.heal()              # works again

It runs in a thread with an event loop of its own, so that it can fail while the test blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
from types import TracebackType


class FaultProxy:
    """Passes bytes between ``host:port`` and a target port of 127.0.0.1, until told otherwise."""

    def __init__(self, target_port: int, *, host: str = "127.0.0.1"):
        self._target_port = target_port
        self.host = host
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._connections: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._place: socket.socket | None = None  # bound and never listening: nobody takes the port while we refuse
        self._flow: asyncio.Event | None = None
        self._cuts = False
        self.port = 0
        self.num_connections = 0

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._do(self._stop_listening())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()
        if self._place is not None:
            self._place.close()

    def refuse(self) -> None:
        """Break every connection and refuse new ones, as when the service has died."""
        self._do(self._stop_listening())

    def stall(self) -> None:
        """Pass nothing on any more, as when the service hangs or the network swallows packets."""
        self._do(self._set_flow(False))

    def cut(self) -> None:
        """Pass requests on, and break the connection in the middle of each reply."""
        self._do(self._set_cuts(True))

    def heal(self) -> None:
        """Work again."""
        self._do(self._set_cuts(False))
        self._do(self._set_flow(True))
        if self._listener is None:
            self._do(self._listen())

    def _do(self, coroutine) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=10)

    async def _listen(self) -> None:
        if self._flow is None:
            self._flow = asyncio.Event()
            self._flow.set()
        if self._place is None:
            self._place = _bound(self.host, 0)
            self.port = self._place.getsockname()[1]
        self._listener = _bound(self.host, self.port)
        self._listener.setblocking(False)
        self._listener.listen(100)
        self._loop.add_reader(self._listener, self._accept, self._listener)

    async def _set_flow(self, flows: bool) -> None:
        self._flow.set() if flows else self._flow.clear()

    async def _set_cuts(self, cuts: bool) -> None:
        self._cuts = cuts

    async def _stop_listening(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        await self._break_connections()

    async def _break_connections(self) -> None:
        while self._connections:
            for task in self._connections:
                task.cancel()
            await asyncio.wait(self._connections)
        await asyncio.sleep(0)  # an aborted transport closes its socket in the next turn of the loop

    def _accept(self, listener: socket.socket) -> None:
        # asyncio's own servers, and its sock_accept, leak a connection that arrives while they are being closed.
        try:
            near, _ = listener.accept()
        except BlockingIOError:
            return  # whoever knocked has gone
        self.num_connections += 1
        task = self._loop.create_task(self._serve(near))
        self._connections.add(task)
        task.add_done_callback(functools.partial(self._end, near))

    def _end(self, near: socket.socket, task: asyncio.Task) -> None:
        self._connections.discard(task)
        near.close()  # also when the task never began

    async def _serve(self, near: socket.socket) -> None:
        with contextlib.ExitStack() as ends, contextlib.suppress(OSError):  # one side broke off, or nobody answers
            near_reader, near_writer = await asyncio.open_connection(sock=near)
            ends.callback(near_writer.transport.abort)  # a reset, not a polite end
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            ends.callback(far_writer.transport.abort)
            await asyncio.gather(self._pass(near_reader, far_writer), self._pass(far_reader, near_writer, replies=True))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool = False) -> None:
        while data := await reader.read(65536):
            await self._flow.wait()
            if replies and self._cuts:
                writer.write(data[: len(data) // 2])
                await writer.drain()
                raise ConnectionResetError("cut in the middle of a reply")
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()


def _bound(host: str, port: int) -> socket.socket:
    """A socket at a port that several of ours may share."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((host, port))
    return made
