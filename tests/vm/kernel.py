# SPDX-License-Identifier: MIT
"""Small doors to the kernel for tests: namespaces of single sockets, pinned BPF maps."""

import contextlib
import ctypes
import os
import socket
import struct
import threading

CLONE_NEWNET = 0x40000000
BPF_MAP_LOOKUP_ELEM, BPF_OBJ_GET = 1, 7
SYS_BPF = 321  # x86_64

libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


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

    def close(self):
        os.close(self.fd)
