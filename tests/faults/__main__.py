"""``make test-faults``: run the matrix and print {cells, passed, skipped} as the last line.

A cell is one fault of one part; with FULL=1 it is made at every step, and it has passed when all its steps have.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

import pytest


class Tally:
    """A pytest plugin that counts cells."""

    def __init__(self) -> None:
        self._outcomes: dict[str, set[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome = report.outcome
        if report.when == "call" or outcome != "passed":  # a set-up or tear-down counts when it fails or skips
            self._outcomes.setdefault(_cell(report.nodeid), set()).add(outcome)

    def figures(self) -> dict[str, int]:
        outcomes = self._outcomes.values()
        return {
            "cells": len(self._outcomes),
            "passed": sum(found == {"passed"} for found in outcomes),
            "skipped": sum(found <= {"passed", "skipped"} and "skipped" in found for found in outcomes),
        }


def _cell(nodeid: str) -> str:
    """The test and its parameters without the step, which comes first among them."""
    name, _, parameters = nodeid.partition("[")
    return f"{name}[{parameters.partition('-')[2]}"


def main(words: Iterable[str]) -> int:
    """Run the cells; returns pytest's exit code."""
    tally = Tally()
    code = pytest.main(["tests/faults", "-m", "cell", *words], plugins=[tally])
    print(json.dumps(tally.figures()), flush=True)
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
