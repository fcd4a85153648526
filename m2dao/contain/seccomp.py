"""A seccomp filter: system calls that reading a file never needs answer "not permitted".

It names what is refused, not what is allowed: a library's next version may use other harmless calls. What matters is
held by namespaces and Landlock; the filter takes away sockets and the calls through which kernels were broken.
"""

from __future__ import annotations

import ctypes
import errno
import functools

from m2dao.contain import linux

# name: number on x86_64, on aarch64 (-1: not there)
_REFUSED = {
    **{"socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202)},
    **{"accept4": (288, 242), "socketpair": (53, 199), "execve": (59, 221), "execveat": (322, 281)},
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272)},
    **{"pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "mount": (165, 40), "umount2": (166, 39)},
    **{"pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268)},
    **{"move_mount": (429, 429), "open_tree": (428, 428), "fsopen": (430, 430), "fsmount": (432, 432)},
    **{"fsconfig": (431, 431), "fspick": (433, 433), "mount_setattr": (442, 442), "bpf": (321, 280)},
    **{"perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425)},
    **{"io_uring_enter": (426, 426), "io_uring_register": (427, 427), "keyctl": (250, 219), "add_key": (248, 217)},
    **{"request_key": (249, 218), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264)},
    **{"init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104)},
    **{"acct": (163, 89), "swapon": (167, 224), "reboot": (169, 142), "quotactl": (179, 60), "syslog": (103, 116)},
    **{"fanotify_init": (300, 262), "modify_ldt": (154, -1), "iopl": (172, -1), "ioperm": (173, -1)},
}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_NAMESPACES = 0x7E020080  # the flags of clone that make any kind of namespace
_X32 = 0x40000000  # another way to call the same kernel, which nobody uses

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("value", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction))]


def refuse_dangerous_calls() -> None:
    """Put the filter in front of this process and all that it starts.

    Raises:
        OSError: the kernel has no seccomp filters, or the machine is of another kind.
    """
    linux.set_filter(program())


@functools.cache
def program() -> ctypes.Structure:
    """The filter, which is made once.

    Raises:
        OSError: the machine is of another kind.
    """
    if linux.MACHINE not in _ARCHITECTURE:
        raise OSError(f"no seccomp filter for {linux.MACHINE}")
    column = list(_ARCHITECTURE).index(linux.MACHINE)
    refused = [numbers[column] for numbers in _REFUSED.values() if numbers[column] >= 0]
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, _ARCHITECTURE[linux.MACHINE]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if linux.MACHINE == "x86_64":
        steps += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _ERROR | errno.EPERM)]
    for number in refused:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERROR | errno.EPERM)]
    # The flags of clone3 lie in memory, where a filter cannot look. Without it, glibc starts threads by clone.
    steps += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]
    steps += [
        (_EQUAL, 0, 3, _CLONE[linux.MACHINE]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_ANY_BIT, 0, 1, _NAMESPACES),
        (_RETURN, 0, 0, _ERROR | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    instructions = (_Instruction * len(steps))(*(_Instruction(*step) for step in steps))
    return _Program(length=len(steps), instructions=instructions)
