"""What every command of the project does around its work: result and errors in words or as JSON, and exit codes."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

from m2dao.errors import M2daoError

EXIT_INTERRUPTED = 130


def run_command(name: str, work: Callable[[], dict[str, Any]], *, as_json: bool) -> int:
    """Do the work of a command and say how it went.

    Args:
        name: of the command, put before every error, for example ``m2dao fit``.
        work: gives the result; ``failed`` in it means that some of the work was not done, which it has told itself.
        as_json: print the result as the one object on standard output, or ``{error, detail}``.

    Returns:
        the exit code: 0 done, 1 our fault or the machine's, 2 bad input or usage, 130 interrupted.
    """
    try:
        result = work()
    except M2daoError as error:
        print(f"{name}: {error}", file=sys.stderr)
        if as_json:
            print(json.dumps({"error": error.code, "detail": str(error)}))
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception:  # whatever is left is a defect of ours, and the reader needs the trace to report it
        traceback.print_exc()
        print(f"{name}: an internal error; please report the lines above", file=sys.stderr)
        if as_json:
            print(json.dumps({"error": M2daoError.code, "detail": "an internal error"}))
        return M2daoError.exit_code
    if as_json:
        print(json.dumps(result))
    return 1 if result.get("failed") else 0
