# SPDX-License-Identifier: MIT
"""Device features by ioctl: ethtool(8) takes tens of milliseconds to start in a VM, this a few
microseconds."""

import ctypes
import fcntl
import socket
import struct

import kernel

SIOCETHTOOL = 0x8946
# linux/ethtool.h
GSTRINGS, GSSET_INFO, GFEATURES, SFEATURES = 0x1b, 0x37, 0x3a, 0x3b
SS_FEATURES = 4
GSTRING_LEN = 32

IPXIP4 = "tx-ipxip4-segmentation"


class Device:
    """The features of one device, in whatever network namespace `netns_fd` is (None: this one)."""

    def __init__(self, name, netns_fd=None):
        arguments = (socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket = kernel.socket_in(netns_fd, *arguments) if netns_fd else socket.socket(*arguments)
        self.name = name
        (count,) = struct.unpack_from("=I", self.ask(struct.pack("=IIQI", GSSET_INFO, 0, 1 << SS_FEATURES, 0)), 16)
        answer = self.ask(struct.pack("=III", GSTRINGS, SS_FEATURES, count) + bytes(count * GSTRING_LEN))
        self.names = [answer[12 + i * GSTRING_LEN:][:GSTRING_LEN].rstrip(b"\0").decode() for i in range(count)]
        self.words = (count + 31) // 32

    def ask(self, command):
        buffer = ctypes.create_string_buffer(command, len(command))
        request = struct.pack("=16sQ16x", self.name.encode(), ctypes.addressof(buffer))
        fcntl.ioctl(self.socket, SIOCETHTOOL, request)
        return buffer.raw

    def masks(self):
        """available, requested, active: as integers of `names` bits."""
        answer = self.ask(struct.pack("=II", GFEATURES, self.words) + bytes(16 * self.words))
        masks = [0, 0, 0]
        for word in range(self.words):
            for i, value in enumerate(struct.unpack_from("=III", answer, 8 + 16 * word)):
                masks[i] |= value << (32 * word)
        return masks

    def mask(self, names):
        return sum(1 << self.names.index(name) for name in names)

    def is_on(self, name):
        return bool(self.masks()[2] & self.mask([name]))

    def is_changeable(self, name):
        return name in self.names and bool(self.masks()[0] & self.mask([name]))

    def set(self, wanted):
        """{name: whether it shall be on}. Some come on only when what they need does."""
        valid = self.mask(wanted)
        requested = self.mask(name for name, on in wanted.items() if on)
        blocks = b"".join(struct.pack("=II", valid >> shift & 0xffffffff, requested >> shift & 0xffffffff)
                          for shift in range(0, 32 * self.words, 32))
        self.ask(struct.pack("=II", SFEATURES, self.words) + blocks)

    def close(self):
        self.socket.close()
