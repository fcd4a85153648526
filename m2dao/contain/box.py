"""What a contained process may see and use, and how it shuts itself in.

The process sees a root of its own that holds Python, our packages, some devices and the named paths. It is the first
process of a process namespace, in an empty network, under a user of its own, without capabilities. Landlock and
seccomp repeat most of that, so that a fault of one of them is not enough.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import site
import stat
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from m2dao.contain import landlock, linux, seccomp

FIRST_USER, NUM_USERS = 62_000, 1000  # nobody else's: systemd's dynamic users end at 65519 and begin at 61184
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_PROCESSORS = ("/proc/cpuinfo", "/sys/devices/system/cpu")  # inference picks its kernels by them
_ROOT_OPTIONS = "size=1m,mode=0755"


@dataclass(frozen=True, kw_only=True)
class Box:
    """What one contained process may see and use. Paths are absolute, and the same inside as outside.

    Args:
        readable: files and folders that it may read.
        writable: files and folders that it may also write.
        cpu_s: processor time; beyond it the process is killed.
        wall_s: time; beyond it the process is killed.
        memory_bytes: address space.
        file_bytes: size of a file that it writes.
        num_files: files open at once.
        num_threads: threads and processes.
    """

    readable: tuple[str, ...]
    writable: tuple[str, ...]
    cpu_s: int
    wall_s: float
    memory_bytes: int
    file_bytes: int
    num_files: int = 128
    num_threads: int = 64


def enter_namespaces(user: int) -> None:
    """Leave everybody else's network, file systems and processes; what is forked next is alone.

    A process that may not make namespaces by itself makes a user namespace first, in which it may. The only thread of
    a process calls this.

    Args:
        user: who the child is going to be.
    """
    flags = linux.CLONE_NEWNET | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWNS | linux.CLONE_NEWPID
    if linux.has_capability(linux.CAP_SYS_ADMIN):
        linux.unshare(flags)
    elif os.geteuid() == 0:
        _enter_user_namespace(flags, users=f"0 0 1\n{user} {user} 1\n", groups=f"0 0 1\n{user} {user} 1\n")
    else:
        _enter_user_namespace(flags, users=f"{user} {os.geteuid()} 1\n", groups=f"{user} {os.getegid()} 1\n")


def _enter_user_namespace(flags: int, *, users: str, groups: str) -> None:
    """Make a user namespace with these users. Only a process outside may write more than one of them."""
    process, (told, tell) = os.getpid(), os.pipe()
    outside = os.fork()
    if outside == 0:
        os.close(tell)
        code = 1
        if os.read(told, 1):
            with contextlib.suppress(OSError):
                _write_maps(process, users, groups)
                code = 0
        os._exit(code)
    os.close(told)
    try:
        linux.unshare(flags | linux.CLONE_NEWUSER)
        os.write(tell, b"x")
    finally:
        os.close(tell)
        _, status = os.waitpid(outside, 0)
    if status != 0:
        raise OSError(errno.EPERM, "the users of a user namespace cannot be set")


def _write_maps(process: int, users: str, groups: str) -> None:
    texts = {"uid_map": users, "gid_map": groups}
    if os.geteuid() != 0:
        texts = {"setgroups": "deny", **texts}
    for name, text in texts.items():
        with open(f"/proc/{process}/{name}", "w") as file:
            file.write(text)


def furnish(root: str, visible: Sequence[str]) -> None:
    """Begin a root that holds what every box shows. Called in a mount namespace of its own."""
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("none", root, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, _ROOT_OPTIONS)
    for path in _outermost(map(os.path.realpath, visible)):
        _bind(path, root, linux.ATTR_RDONLY | linux.ATTR_NOSUID)
    for path in visible:
        _link(path, root)


def shut_in(
    box: Box, user: int, *, root: str, visible: Sequence[str], tolerant: bool, unfurnished: OSError | None
) -> list[str]:
    """Enter the box, for good. Called by the only thread of the first process of a process namespace.

    Args:
        user: who to become, where this process is root.
        root: what was furnished.
        visible: what every box shows, of ``shared_paths``.
        tolerant: whether to go on where the site lacks a part.
        unfurnished: why ``furnish`` failed; None when it did not.

    Returns:
        what the site lacks; empty unless ``tolerant``.

    Raises:
        OSError: the site lacks a part, named in the message.
    """
    lacks = []
    readable = [*visible, *box.readable]
    steps: list[tuple[str, Callable[[], None]]] = [
        ("limits", lambda: _limit(box)),
        ("a file system of its own", lambda: _move_in(root, visible, box, unfurnished)),
        ("a user of its own", lambda: _become(user)),
        ("no capabilities", linux.drop_capabilities),
        ("no inspection", linux.refuse_inspection),
        ("death with its parent", linux.die_with_parent),
        ("no new privileges", linux.gain_no_privileges),
        ("Landlock", lambda: landlock.restrict(readable=readable, writable=_writable(box))),
        ("seccomp", seccomp.refuse_dangerous_calls),
    ]
    for name, step in steps:
        try:
            step()
        except OSError as error:
            if not tolerant:
                raise OSError(error.errno, f"{name}: {error.strerror or error}") from error
            lacks.append(f"{name} ({error.strerror or error})")
    return lacks


def shared_paths(packages: Iterable[str]) -> tuple[str, ...]:
    """What every box shows for reading: Python with what is installed, these packages, and a few devices."""
    paths = sysconfig.get_paths()
    folders = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")} | set(site.getsitepackages())
    return tuple(
        path for path in (*_LIBRARIES, *_DEVICES, *_PROCESSORS, *sorted(folders), *packages) if os.path.exists(path)
    )


def _limit(box: Box) -> None:
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, box.file_bytes),
        (resource.RLIMIT_NOFILE, box.num_files),
        (resource.RLIMIT_NPROC, box.num_threads),
        (resource.RLIMIT_AS, box.memory_bytes),
    ):
        resource.setrlimit(kind, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (box.cpu_s, box.cpu_s + 1))  # one second between the two signals


def _move_in(root: str, visible: Sequence[str], box: Box, unfurnished: OSError | None) -> None:
    """Add the paths of the box to the root, at their own names, and leave every other file."""
    if unfurnished is not None:
        raise unfurnished
    shown = set(_outermost(map(os.path.realpath, visible)))
    for path in _outermost({*shown, *map(os.path.realpath, box.readable)}):
        if path not in shown:
            _bind(path, root, linux.ATTR_RDONLY | linux.ATTR_NOSUID)
    for path in box.writable:
        _bind(path, root, linux.ATTR_NOSUID | linux.ATTR_NODEV | linux.ATTR_NOEXEC)
    for path in box.readable:
        _link(path, root)
    linux.change_root(root)
    linux.restrict_mount("/", linux.ATTR_RDONLY, recursive=False)


def _outermost(paths: Iterable[str]) -> list[str]:
    """The paths that lie below no other of them."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not kept or os.path.commonpath([kept[-1], path]) != kept[-1]:
            kept.append(path)
    return kept


def _bind(path: str, root: str, attributes: int) -> None:
    inside = root + path
    if not os.path.lexists(inside):
        if stat.S_ISDIR(os.stat(path).st_mode):
            os.makedirs(inside)
        else:
            os.makedirs(os.path.dirname(inside), exist_ok=True)
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    linux.mount(path, inside, flags=linux.MS_BIND | linux.MS_REC)
    linux.restrict_mount(inside, attributes)


def _link(path: str, root: str) -> None:
    """Keep a name that is a link: /lib is /usr/lib on most systems."""
    target = os.path.realpath(path)
    if target != path and not os.path.lexists(root + path):
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.symlink(target, root + path)


def _writable(box: Box) -> list[str]:
    return [*box.writable, "/dev/null"]


def _become(user: int) -> None:
    if os.geteuid() != 0:  # a user without rights already, and in a namespace of its own the only one
        return
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
