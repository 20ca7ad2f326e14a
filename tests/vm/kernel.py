# SPDX-License-Identifier: MIT
"""Small doors to the kernel for tests: namespaces of single sockets, pinned BPF maps."""

import contextlib
import ctypes
import os
import socket
import struct
import threading

CLONE_NEWNET = 0x40000000
BPF_MAP_LOOKUP_ELEM, BPF_MAP_GET_NEXT_KEY, BPF_OBJ_GET, BPF_MAP_FREEZE = 1, 4, 7, 22
SYS_BPF = 321  # x86_64
PTRACE_SEIZE = 0x4206
RTM_GETNSID, NLM_F_REQUEST, NETNSA_NSID, NETNSA_PID = 90, 1, 1, 2

SERIES = tuple(int(number) for number in os.uname().release.split(".")[:2])

libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def trace(pid):
    """From now on its end is known to us before its parent hears of it. It is not stopped."""
    check(libc.ptrace(PTRACE_SEIZE, pid, None, None))


def possible_cpus():
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
        return int(file.read().strip().replace(",", "-").rsplit("-", 1)[-1]) + 1


def has_tcx():
    return SERIES >= (6, 6)


def only(applies):
    """A test of the other way to attach does not exist on this kernel; it is not one that was skipped."""
    return lambda test: test if applies else None


only_tcx, only_clsact = only(has_tcx()), only(not has_tcx())


@contextlib.contextmanager
def inside(netns_fd):
    """This thread's network namespace, for a moment: a socket stays where it was made."""
    own = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
    try:
        check(libc.setns(netns_fd, CLONE_NEWNET))
        yield
    finally:
        check(libc.setns(own, CLONE_NEWNET))
        os.close(own)


def socket_in(netns_fd, *args):
    with inside(netns_fd):
        return socket.socket(*args)


def own_nsid():
    """The number that this network namespace has in itself, -1: none (linux/net_namespace.h)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as asker:
        asker.send(struct.pack("=IHHII", 28, RTM_GETNSID, NLM_F_REQUEST, 1, 0) + bytes(4)
                   + struct.pack("=HHI", 8, NETNSA_PID, os.getpid()))
        answer = asker.recv(4096)
    attribute, = struct.unpack_from("=H", answer, 22)
    assert attribute == NETNSA_NSID, answer
    return struct.unpack_from("=i", answer, 24)[0]


def descriptors(pid):
    """What a process has open, as /proc names it, but for what it closes meanwhile."""
    held = []
    for fd in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            held.append(os.readlink(fd.path))
    return held


def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"))
    return check(libc.syscall(SYS_BPF, command, buffer, 128))


class PinnedMap:
    """Lookups in a pinned map, without the 100 ms that a bpftool takes to start in a VM."""

    def __init__(self, path, value_size):
        name = ctypes.create_string_buffer(path.encode())
        self.fd = bpf(BPF_OBJ_GET, struct.pack("=QII", ctypes.addressof(name), 0, 0))
        self.value = ctypes.create_string_buffer(value_size)

    def get(self, key):
        """The value's bytes, or None."""
        key = ctypes.create_string_buffer(key, len(key))
        try:
            bpf(BPF_MAP_LOOKUP_ELEM, struct.pack("=IxxxxQQQ", self.fd, ctypes.addressof(key),
                                                 ctypes.addressof(self.value), 0))
        except FileNotFoundError:
            return None
        return self.value.raw

    def keys(self, size):
        """All keys, of `size` bytes, while nobody writes."""
        found, key = [], ctypes.create_string_buffer(size)
        previous = 0  # a NULL pointer: from the start
        while True:
            try:
                bpf(BPF_MAP_GET_NEXT_KEY, struct.pack("=IxxxxQQQ", self.fd, previous, ctypes.addressof(key), 0))
            except FileNotFoundError:
                return found
            found.append(key.raw)
            previous = ctypes.addressof(key)

    def close(self):
        os.close(self.fd)
