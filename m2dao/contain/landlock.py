"""Landlock: from here on, this process opens the named files only, and no TCP connection."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable

from m2dao.contain import linux

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_FILE_RIGHTS_OF_VERSION_1 = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15  # since versions 2, 3, 5
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV  # the rights a rule for a file may name
_TCP = 0b11  # bind, connect; since version 4
_SCOPES = 0b11  # abstract Unix sockets, signals; since version 6


class _Ruleset(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("files", "network", "scopes")]


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def restrict(*, readable: Iterable[str], writable: Iterable[str]) -> None:
    """Allow reading below ``readable``, reading and writing below ``writable``, and nothing else.

    Raises:
        OSError: the kernel has no Landlock.
    """
    version = linux.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION))
    files = _FILE_RIGHTS_OF_VERSION_1
    files |= _REFER * (version >= 2) | _TRUNCATE * (version >= 3) | _IOCTL_DEV * (version >= 5)
    rules = _Ruleset(files=files, network=_TCP * (version >= 4), scopes=_SCOPES * (version >= 6))
    size = 8 if version < 4 else 16 if version < 6 else 24  # older kernels refuse fields that they do not know
    ruleset = linux.syscall(_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint32(0))
    for path in readable:
        _allow(ruleset, path, _READ_FILE | _READ_DIR | _EXECUTE)  # execute: libraries are mapped so
    for path in writable:
        _allow(ruleset, path, files & ~_EXECUTE & ~_IOCTL_DEV)
    linux.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= _ON_FILES
        rule = _PathRule(allowed=rights, folder=opened)
        kind, flags = ctypes.c_int(_RULE_PATH_BENEATH), ctypes.c_uint32(0)
        linux.syscall(_ADD_RULE, ctypes.c_int(ruleset), kind, ctypes.byref(rule), flags)
    finally:
        os.close(opened)
