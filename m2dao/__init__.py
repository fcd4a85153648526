"""M2DAO engine: video in, talking pixels out.

What is named here is all that other programs need; each name loads its part of the engine when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m2dao.capture.dataset import Capture
    from m2dao.capture.prepare import prepare
    from m2dao.evaluation.evaluate import evaluate
    from m2dao.identity.talker import Talker
    from m2dao.training.fit import fit

__version__ = "0.1.0"
__all__ = ["Capture", "Talker", "evaluate", "fit", "prepare"]

_HOMES = {
    "Capture": "m2dao.capture.dataset",
    "Talker": "m2dao.identity.talker",
    "evaluate": "m2dao.evaluation.evaluate",
    "fit": "m2dao.training.fit",
    "prepare": "m2dao.capture.prepare",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
