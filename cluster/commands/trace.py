"""``m2dao-cluster trace``: where the time of one render or fit went."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cluster.ids import parse_job_id
from cluster.operate.parser import Add, Commands
from cluster.settings import Settings
from cluster.telemetry.traces.export import FOLDER
from cluster.telemetry.traces.files import read_spans, trace_of
from m2dao.command_line import say
from m2dao.errors import InputError
from m2dao.files import check_place, whole_file

_KINDS = ("svg", "png")


def add_trace_command(commands: Commands, add: Add) -> None:
    """Add ``trace`` to the commands."""
    trace = add(commands, "trace", _trace, "Draw the trace of a render or a fit.")
    trace.add_argument("job", help="its id, such as r-7f3c...")
    trace.add_argument(
        "--from",
        dest="files",
        action="append",
        type=Path,
        metavar="FILE",
        help="lines of OTLP in JSON; repeat (default: the files of M2DAO_TRACES_FILES)",
    )
    trace.add_argument("--out", type=Path, metavar="FILE", help="the picture, .svg or .png (default: JOB.svg)")


def _trace(arguments: argparse.Namespace) -> dict[str, Any]:
    from cluster.telemetry.traces.waterfall import draw_trace, rows_of

    job = str(parse_job_id(arguments.job))
    out = arguments.out or Path(f"{job}.svg")
    kind = out.suffix.removeprefix(".")
    if kind not in _KINDS:
        raise InputError("--out", " or ".join(f"a name that ends in .{kind}" for kind in _KINDS), str(out))
    files = arguments.files or sorted((Settings.from_env().home / FOLDER).glob("*.jsonl*"))
    check_place(out)
    for path in files:
        if not path.is_file():
            raise InputError(str(path), "a file of spans", "none")
    spans = trace_of(job, read_spans(files))
    rows = rows_of(spans)
    for row in rows:
        say(f"{row.begin_s:9.3f} s {1000 * row.busy_s:10.1f} ms  {row.span.component:8} {row.label}")
    if not arguments.json or arguments.out:
        picture = draw_trace(spans, job, kind=kind)
        with whole_file(out) as unfinished:
            unfinished.write_bytes(picture)
        say(f"drawn in {out}")
    return {
        "job": job,
        "trace_id": spans[0].trace_id,
        "spans": [
            {
                "name": row.span.name,
                "component": row.span.component,
                "depth": row.depth,
                "begin_s": round(row.begin_s, 6),
                "seconds": round(row.seconds, 6),
                "attributes": dict(row.span.attributes),
            }
            for row in rows
        ],
    }
