"""What a module needs to add commands to ``m2dao-cluster``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # argparse has no public name for it
Run = Callable[[argparse.Namespace], dict[str, Any]]
Add = Callable[[Commands, str, Run, str], argparse.ArgumentParser]
"""Makes a command of where it goes, its name, what it runs and what it says of itself."""
