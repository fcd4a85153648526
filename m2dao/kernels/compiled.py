"""Decorators of every compiled function, and the registry that compiles them ahead of use.

A *kernel* is called from Python, releases the GIL and keeps its machine code on disk. A *helper* is called by kernels
only and becomes part of them.

Numba's disk cache knows a function by its own file. A kernel also holds what it takes from other files: the code of its
helpers and the values of constants. We add a digest of all that to the cache's key, so that a kernel never runs the
machine code of an older helper.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher

log = logging.getLogger(__name__)
WarmUp = TypeVar("WarmUp", bound=Callable[[], None])

KERNELS: dict[str, Dispatcher] = {}  # by module and name
HELPERS: dict[str, Dispatcher] = {}
_caches: dict[str, _KernelCache] = {}  # of kernels whose machine code is kept
_warm_ups: dict[str, Callable[[], None]] = {}  # by module
_FOREIGN = frozenset({"builtins", "math", "numba", "numpy"})  # the cache knows Numba's version itself
_PLAIN = (bool, int, float, complex, str, bytes, np.generic, type(None), type(...))


def kernel(**options: Any) -> Callable[[Callable[..., Any]], Dispatcher]:
    """Compiles a function that Python calls; the machine code stays on disk until its source changes.

    Args:
        options: of ``numba.njit``, beyond ``nogil`` and ``cache``.
    """

    def decorate(function: Callable[..., Any]) -> Dispatcher:
        dispatcher = njit(nogil=True, **options)(function)
        try:
            dispatcher._cache = _caches[_name_of(function)] = _KernelCache(function)
        except RuntimeError as error:  # neither the package nor the user has a folder that can be written to
            log.warning("machine code is compiled again by every process: %s; set NUMBA_CACHE_DIR", error)
        KERNELS[_name_of(function)] = dispatcher
        return dispatcher

    return decorate


def helper(**options: Any) -> Callable[[Callable[..., Any]], Dispatcher]:
    """Compiles a function that only compiled functions call.

    Args:
        options: of ``numba.njit``; ``inline="always"`` where LLVM would not inline by itself.
    """

    def decorate(function: Callable[..., Any]) -> Dispatcher:
        dispatcher = HELPERS[_name_of(function)] = njit(**options)(function)
        return dispatcher

    return decorate


def warms_up(call: WarmUp) -> WarmUp:
    """Registers a call that runs kernels once on next to nothing, with arguments of real types."""
    _warm_ups[call.__module__] = functools.cache(call)
    return call


def compile_ahead(package: str = "") -> dict[str, float]:
    """Compiles the registered kernels, or loads them from disk, so that no later call waits for it.

    Args:
        package: dotted name; only kernels below it. All kernels of the modules imported so far when empty.

    Returns:
        Seconds by module.
    """
    seconds = {}
    for module, warm_up in _warm_ups.items():
        if f"{module}.".startswith(package and f"{package}."):
            began = time.perf_counter()
            warm_up()
            seconds[module] = time.perf_counter() - began
    return seconds


def machine_code_folder() -> Path | None:
    """The folder that keeps machine code; None where it lies beside the modules.

    As ``NUMBA_CACHE_DIR`` it makes another process find the same machine code.
    """
    folders = sorted({Path(cache.cache_path) for cache in _caches.values()})
    return next((path.parent for path in folders if path.name != "__pycache__"), None)


class _KernelCache(FunctionCache):
    """Numba's cache with a key that covers what a kernel takes from elsewhere."""

    def save_overload(self, sig, data):
        """Keep machine code; where that cannot be, this process goes on with what it has compiled."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            log.warning("machine code is not kept: %s", error, extra={"function": self._name})

    def _index_key(self, sig, codegen):
        return *super()._index_key(sig, codegen), self._digest

    @functools.cached_property  # at the first call and not at definition: a kernel may stand above its helpers
    def _digest(self) -> str:
        return source_digest(self._py_func)


def source_digest(function: FunctionType) -> str:
    """Digest of a function's code and of all that compiling it freezes: helpers, constants, intrinsics.

    Raises:
        TypeError: the function refers to a value of a kind that no kernel should freeze.
    """
    return hashlib.sha256("\n".join(_parts_of(function, set())).encode()).hexdigest()


def _name_of(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _parts_of(function: FunctionType, seen: set) -> Iterator[str]:
    """What the machine code of a function depends on, each part as a text."""
    if function in seen:
        return
    seen.add(function)
    values = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    values = {name: cell.cell_contents for name, cell in values.items()}
    for code in _codes_in(function.__code__):
        yield code.co_code.hex()
        yield repr((code.co_names, code.co_varnames))
        for constant in code.co_consts:
            if not isinstance(constant, CodeType):
                yield from _parts_of_value("constant", constant, seen)
        # A name may also be an attribute's; then we depend on a little more than we must.
        values |= {name: function.__globals__[name] for name in code.co_names if name in function.__globals__}
    for name, value in values.items():
        yield name
        yield from _parts_of_value(name, value, seen)


def _codes_in(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the comprehensions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes_in(constant)


def _parts_of_value(name: str, value: Any, seen: set) -> Iterator[str]:
    if isinstance(value, Dispatcher):
        yield repr(sorted((option, _ordered(choice)) for option, choice in value.targetoptions.items()))
        yield from _parts_of(value.py_func, seen)
    elif isinstance(value, _PLAIN):
        yield repr(value)
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    elif isinstance(value, tuple | frozenset):
        for part in _ordered(value):
            yield from _parts_of_value(name, part, seen)
    else:
        yield from _file_digest(name, value)


def _ordered(choice: Any) -> Any:
    """Sets in an order that does not change from process to process."""
    return sorted(choice, key=repr) if isinstance(choice, set | frozenset) else choice


def _file_digest(name: str, value: Any) -> Iterator[str]:
    """The whole file of a module, or of what defines an intrinsic or a type."""
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    if module is not None and module.partition(".")[0] in _FOREIGN:
        return
    path = getattr(sys.modules.get(module or ""), "__file__", None)
    if path is None:
        raise TypeError(
            f"a kernel refers to {name}, a {type(value).__name__}: no code or constant that can be digested"
        )
    yield hashlib.sha256(Path(path).read_bytes()).hexdigest()
