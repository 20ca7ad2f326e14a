# SPDX-License-Identifier: MIT
"""What arrives at a device, taken by a packet socket that a classic BPF program filters and cuts."""

import collections
import ctypes
import socket
import struct

import kernel

SO_ATTACH_FILTER, SO_RCVBUFFORCE = 26, 33
SOL_PACKET, PACKET_STATISTICS, PACKET_VNET_HDR = 263, 6, 15
ETH_P_IP = 0x0800
SNAP = 96  # bytes kept of a packet: all headers

# virtio_net_hdr, linux/virtio_net.h
VNET_HDR = "=BBHHHH"
VNET_NEEDS_CSUM = 1

Packet = collections.namedtuple("Packet", "protocol ip_len source l4_len payload gso_size csum_start")


def program(protocols):
    """IPv4 packets of these protocols that came in: what the device itself sends is not wanted."""
    packet_type, outgoing, protocol_at = 0xfffff000 + 4, 4, 14 + 9
    code = [(0x28, 0, 0, 12), (0x15, 0, len(protocols) + 4, ETH_P_IP),  # ethertype
            (0x20, 0, 0, packet_type), (0x15, len(protocols) + 2, 0, outgoing),
            (0x30, 0, 0, protocol_at)]
    code += [(0x15, len(protocols) - i, 0, p) for i, p in enumerate(protocols)]
    code += [(0x06, 0, 0, 0), (0x06, 0, 0, SNAP)]
    return b"".join(struct.pack("=HBBI", *line) for line in code)


class Capture:
    """`vnet`: with the kernel's own notes to each packet, so that a super-packet shows its segments' size.
    Not for UDP: before 6.2 the kernel cannot note UDP segmentation, and receiving fails."""

    def __init__(self, netns_fd, device, protocols, vnet=False):
        self.vnet = vnet
        self.socket = kernel.socket_in(netns_fd, socket.AF_PACKET, socket.SOCK_RAW, 0)
        filter_code = program(protocols)
        buffer = ctypes.create_string_buffer(filter_code, len(filter_code))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER,
                               struct.pack("=HxxxxxxQ", len(filter_code) // 8, ctypes.addressof(buffer)))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        if vnet:
            self.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.socket.bind((device, ETH_P_IP))
        self.socket.setblocking(False)

    def drain(self):
        """The packets since the last time."""
        packets = []
        while True:
            try:
                packets.append(self.parse(self.socket.recv(SNAP + 64)))
            except BlockingIOError:
                break
        _seen, dropped = struct.unpack("=II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        assert dropped == 0, f"{dropped} packets were not captured"
        return packets

    def discard(self):
        while True:
            try:
                self.socket.recv(1)
            except BlockingIOError:
                break
            except OSError:  # a packet of which no notes can be made
                pass
        self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)  # counts anew: what was not captured is nobody's either

    def parse(self, frame):
        gso_size = csum_start = None
        if self.vnet:
            flags, gso_type, _hdr_len, gso_size, start, _offset = struct.unpack_from(VNET_HDR, frame)
            frame = frame[struct.calcsize(VNET_HDR):]
            gso_size = gso_size if gso_type else None
            csum_start = start - 14 if flags & VNET_NEEDS_CSUM else None
        ip = frame[14:]
        header = (ip[0] & 15) * 4
        (ip_len,) = struct.unpack_from("!H", ip, 2)
        protocol = ip[9]
        l4_len = {socket.IPPROTO_TCP: lambda: (ip[header + 12] >> 4) * 4,
                  socket.IPPROTO_UDP: lambda: 8}.get(protocol, lambda: 0)()
        return Packet(protocol, ip_len, socket.inet_ntoa(ip[12:16]), l4_len, ip_len - header - l4_len,
                      gso_size, csum_start)

    def close(self):
        self.socket.close()
