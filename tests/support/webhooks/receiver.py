"""A receiver of webhooks: a real HTTP server that keeps what it was sent and answers as a test says."""

from __future__ import annotations

import contextlib
import queue
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WAIT_S = 120


@dataclass(frozen=True)
class Sent:
    """One request."""

    path: str
    headers: dict[str, str]
    body: str


Answer = Callable[[BaseHTTPRequestHandler, Sent], None]


def say(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Answers always the same."""

    def answer(handler: BaseHTTPRequestHandler, sent: Sent) -> None:
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@dataclass
class Receiver:
    """What came, in order; ``answer`` may be changed at any time."""

    url: str
    answer: Answer = say(204)
    came: queue.Queue[Sent] = field(default_factory=queue.Queue)
    going_on: threading.Event = field(default_factory=threading.Event)  # set at the end, for answers that wait
    now: int = 0
    most_at_once: int = 0

    def next(self) -> Sent:
        """The next request, waiting for it."""
        return self.came.get(timeout=WAIT_S)

    def wait(self, handler: BaseHTTPRequestHandler, sent: Sent) -> None:
        """An answer that does not come while the receiver lives."""
        self.going_on.wait(WAIT_S)


@contextlib.contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Receive on a free port of this machine until the block ends."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            sent = Sent(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            with lock:
                receiver.now += 1
                receiver.most_at_once = max(receiver.most_at_once, receiver.now)
            receiver.came.put(sent)
            try:
                with contextlib.suppress(OSError):  # the other side has gone
                    receiver.answer(self, sent)
            finally:
                with lock:
                    receiver.now -= 1

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *arguments: object) -> None:
            """A handshake that was broken off is what a test may want."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "http" if tls is None else "https"
    receiver = Receiver(f"{scheme}://localhost:{server.server_address[1]}/hooks?of=me")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.going_on.set()
        server.shutdown()
        server.server_close()
        thread.join(WAIT_S)
