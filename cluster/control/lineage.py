"""Tells which code is running, for what it makes."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

from cluster.environment import COMMIT_VARIABLE
from m2dao.formats import CAPTURE_GENERATION, ENGINE_VERSION

_ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def running_commit() -> str:
    """The commit of the code that runs, as git names it; empty where nobody can tell."""
    if named := os.environ.get(COMMIT_VARIABLE, ""):
        return named[:64]
    if not (_ROOT / ".git").exists():
        return ""
    command = ["git", "-C", str(_ROOT), "rev-parse", "HEAD"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


def lineage_of_code() -> dict[str, str]:
    """What is told with a version of the code that made it."""
    known = {"engine": str(ENGINE_VERSION), "capture_generation": str(CAPTURE_GENERATION)}
    commit = running_commit()
    return {**known, **({"commit": commit} if commit else {})}
