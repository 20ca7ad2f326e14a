# SPDX-License-Identifier: MIT
"""Packet sockets with virtio headers: frames that leave through the real egress hook, and what arrives.

A virtio header in front of a frame says what BPF_PROG_TEST_RUN cannot: this checksum is not finished
(CHECKSUM_PARTIAL), this is a super-packet, so many bytes belong into the linear part.
"""

import fcntl
import os
import socket
import struct
import subprocess

import pytest
from scapy.utils import checksum

SOL_PACKET, PACKET_VNET_HDR = 263, 15
ETH_P_ALL, ETH_P_IP = 3, 0x0800
NEEDS_CSUM = 1
GSO_NONE, GSO_TCPV4, GSO_UDP_L4 = 0, 1, 5
VIRTIO = struct.Struct("=BBHHHH")  # flags, gso type, header length, gso size, checksum start, its offset
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 1, 0x1000


class Port:
    """A packet socket on an interface of the namespace the thread is in."""

    def __init__(self, interface, protocol=0):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.socket.bind((interface, protocol))
        self.socket.settimeout(2)

    def send(self, frame, virtio=None):
        """`virtio` is (flags, gso type, header length, gso size, checksum start, checksum offset)."""
        self.socket.send(VIRTIO.pack(*(virtio or (0,) * 6)) + frame)

    def receive(self):
        """(virtio header, frame)"""
        data = self.socket.recv(1 << 17)
        return VIRTIO.unpack_from(data), data[VIRTIO.size:]

    def close(self):
        self.socket.close()


def finished(frame, virtio):
    """The frame with the checksum that CHECKSUM_PARTIAL left to the hardware."""
    flags, _, _, _, start, offset = virtio
    if not flags & NEEDS_CSUM:
        return frame
    at = start + offset
    value = checksum(frame[start:]) or 0xffff
    return frame[:at] + value.to_bytes(2, "big") + frame[at + 2:]


class Tun:
    """An interface without link-layer header; read() gives what left through it."""

    def __init__(self, name):
        # Where no udev makes the device node, the module does.
        subprocess.run(["modprobe", "-q", "tun"], check=False)
        try:
            self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            pytest.skip("this kernel has no tun device")
        fcntl.ioctl(self.fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))

    def read(self):
        return os.read(self.fd, 1 << 16)

    def close(self):
        os.close(self.fd)
