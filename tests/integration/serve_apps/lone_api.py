"""The API in a process of its own, which a test may kill.

    python -m tests.integration.serve_apps.lone_api LISTENER UPLOADS

It answers on a listening socket that it inherits, over the services of its environment.
"""

from __future__ import annotations

import socket
import sys

import uvicorn

from cluster.settings import Settings
from serve_apps.api.ingress import create_api
from serve_apps.api.services import make_services
from tests.support.serve import SMALL


def main() -> None:
    config = SMALL.model_copy(update={"max_uploads": int(sys.argv[2])})
    app = create_api(make_services(Settings.from_env(), config))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none"))
    server.run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
