"""Command line: one module per command."""

from __future__ import annotations

import argparse

RawFormatter = argparse.RawDescriptionHelpFormatter  # examples keep their lines
