"""Calls of the Linux kernel that Python has no functions for.

Each raises ``OSError`` when the kernel refuses. We call them through ctypes because the bindings on PyPI cover a part
each, and those for Landlock are drafts.
"""

from __future__ import annotations

import ctypes
import os
import platform

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC = 1, 2, 4, 8

CAP_CHOWN, CAP_SYS_ADMIN = 0, 21
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 4, 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAP_VERSION_3 = 0x20080522
_SIGKILL = 9

MACHINE = platform.machine()
_NUMBERS = {
    "x86_64": {"pivot_root": 155, "capget": 125, "capset": 126},
    "aarch64": {"pivot_root": 41, "capget": 90, "capset": 91},
}
_MOUNT_SETATTR = 442

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


class _CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapData(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def syscall(number: int, *arguments: object) -> int:
    """Make a system call by its number."""
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments))


def unshare(flags: int) -> None:
    """Leave the namespaces that ``flags`` name for new, empty ones."""
    _checked(_libc.unshare(ctypes.c_int(flags)))


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """Mount a file system, or change a mount."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    options = None if data is None else data.encode()
    _checked(_libc.mount(*words, ctypes.c_ulong(flags), options))


def restrict_mount(path: str, attributes: int, *, recursive: bool = True) -> None:
    """Add attributes such as ``ATTR_RDONLY`` to the mount at ``path``, and to those below it."""
    change = _MountAttr(set=attributes)
    flags = ctypes.c_uint(_AT_RECURSIVE if recursive else 0)
    size = ctypes.c_size_t(ctypes.sizeof(change))
    syscall(_MOUNT_SETATTR, ctypes.c_int(_AT_FDCWD), os.fsencode(path), flags, ctypes.byref(change), size)


def change_root(new_root: str) -> None:
    """Make the mount at ``new_root`` the root, and let go of everything outside it."""
    os.chdir(new_root)
    syscall(_number("pivot_root"), b".", b".")  # the old root now lies on top of the new one
    _checked(_libc.umount2(b".", ctypes.c_int(MNT_DETACH)))
    os.chdir("/")


def has_capability(capability: int) -> bool:
    """Whether this process has a capability."""
    header, data = _CapHeader(version=_CAP_VERSION_3), (_CapData * 2)()
    syscall(_number("capget"), ctypes.byref(header), ctypes.byref(data))
    return bool(data[capability // 32].effective >> (capability % 32) & 1)


def drop_capabilities() -> None:
    """Give up all capabilities, and the way to get them back."""
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) < 0:
            break  # beyond the last one, or none to be dropped
    _libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_PR_CAP_AMBIENT_CLEAR_ALL), 0, 0, 0)
    header, data = _CapHeader(version=_CAP_VERSION_3), (_CapData * 2)()
    syscall(_number("capset"), ctypes.byref(header), ctypes.byref(data))


def die_with_parent() -> None:
    """Be killed when the parent ends. A change of user undoes this."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(_SIGKILL), 0, 0, 0))


def refuse_inspection() -> None:
    """Let no other process of the same user read this one's memory; leave no core file."""
    _checked(_libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0), 0, 0, 0))


def gain_no_privileges() -> None:
    """Never gain rights by running a program."""
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0))


def set_filter(program: ctypes.Structure) -> None:
    """Put a seccomp filter in front of all further system calls."""
    seccomp, mode_filter = 22, 2
    _checked(_libc.prctl(seccomp, ctypes.c_ulong(mode_filter), ctypes.byref(program), 0, 0))


def _number(name: str) -> int:
    if MACHINE not in _NUMBERS:
        raise OSError(f"no system call numbers for {MACHINE}")
    return _NUMBERS[MACHINE][name]


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
