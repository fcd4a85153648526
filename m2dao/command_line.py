"""What every command does around its work: results and errors in words or JSON, exit codes."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from m2dao.errors import M2daoError, SystemFault
from m2dao.secrets import scrub

EXIT_INTERRUPTED = 130
_STDOUT, _STDERR = 1, 2  # file descriptors
_FREE, _LEAVE, _PLACE = "free some disk space", "change its permissions, or name another place", "name another place"
_REMEDIES = {  # what only whoever owns the machine can mend; a missing file may be a defect of ours
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EACCES: _LEAVE,
    errno.EPERM: _LEAVE,
    errno.EROFS: _PLACE,
    errno.EISDIR: _PLACE,
    errno.ENOTDIR: _PLACE,
    errno.EEXIST: _PLACE,
    errno.ENAMETOOLONG: _PLACE,
    errno.EIO: "look at the health of the disk",
}


def run_command(name: str, work: Callable[[], dict[str, Any]], *, as_json: bool) -> int:
    """Do the work of a command and say how it went.

    Args:
        name: of the command, put before every error, for example ``m2dao fit``.
        work: gives the result; ``failed`` in it means that some of the work was not done, which it has told itself.
        as_json: print the result as the one object on standard output, or ``{error, detail}``. Whatever else is
            written to standard output meanwhile, by Python or not, goes to standard error.

    Returns:
        the exit code: 0 done, 1 our fault or the machine's, 2 bad input or usage, 130 interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files go out as the bytes that they are
    with stdout_to_stderr() if as_json else contextlib.nullcontext():
        result, exit_code = _outcome(name, work)
    if as_json and result is not None:
        print(json.dumps(result), flush=True)
    return exit_code


def say(line: str) -> None:
    """Tell a person at the terminal; standard output stays free for results."""
    print(line, file=sys.stderr, flush=True)


def _outcome(name: str, work: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any] | None, int]:
    """The object to print, None after an interruption, and the exit code; errors are told here."""
    try:
        result = _work_on_files(work)
    except M2daoError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return {"error": error.code, "detail": str(error)}, error.exit_code
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return None, EXIT_INTERRUPTED
    except Exception:  # whatever is left is a defect of ours, and the reader needs the trace to report it
        print(scrub(traceback.format_exc()), end="", file=sys.stderr)
        print(f"{name}: an internal error; please report the lines above", file=sys.stderr)
        return {"error": M2daoError.code, "detail": "an internal error"}, M2daoError.exit_code
    return result, 1 if result.get("failed") else 0


def _work_on_files(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do the work; a file that the machine does not let us use is told as such, wherever it is met."""
    try:
        return work()
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "a file"
        remedy = _REMEDIES[error.errno]
        raise SystemFault(name, "leave and room to use it", error.strerror or str(error), remedy) from error


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send to standard error what this process or a child writes to standard output inside.

    Libraries print from C, and through streams that they took hold of earlier. So the file descriptor itself is
    redirected, beside ``sys.stdout``; and what waits in a buffer is written out before each of the two changes.
    """
    _write_out_buffers()
    kept = None
    with contextlib.suppress(OSError):  # one of the two is closed: nothing is lost
        kept = os.dup(_STDOUT)
        os.dup2(_STDERR, _STDOUT)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _write_out_buffers()
        if kept is not None:
            os.dup2(kept, _STDOUT)
            os.close(kept)


def _write_out_buffers() -> None:
    """Flush Python's standard output, and every stream of the C library."""
    sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)
