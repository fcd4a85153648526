"""The log lines that this process writes inside a block, as a component of the platform writes them."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

from cluster.telemetry.logs import configure_logging


@contextlib.contextmanager
def log_lines(component: str = "ingress") -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Yields a function that returns the lines until now."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging(component, stream=stream)
    try:
        yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    finally:
        root.handlers[:], root.level = before[0], before[1]
