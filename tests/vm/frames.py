# SPDX-License-Identifier: MIT
"""Frames as they come in by one device: what a reply looks like on the wire, link layer included."""

import socket
import struct
from dataclasses import dataclass

import kernel

ETH_P_ALL, ETH_P_IP = 3, 0x0800
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
# linux/if_packet.h, with struct tpacket_auxdata
SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 263, 8, 23
TP_STATUS_VLAN_VALID = 1 << 4
PROTO_IPIP, PROTO_UDP = 4, 17


@dataclass(frozen=True)
class Frame:
    """An IPv4 packet without options, as UDP or as IPIP around UDP."""

    destination: str  # MAC addresses
    source: str
    vlan: int  # 0: untagged
    tunnelled: bool
    address: str  # of the innermost packet: who sends it
    peer: str  # and to whom
    port: int  # its UDP source port, 0 for anything else
    payload: bytes


def mac(raw):
    return raw.hex(":")


def parse(raw, vlan):
    """A Frame, or None for what is no IPv4."""
    if raw[12:14] != struct.pack("!H", ETH_P_IP):
        return None
    packet = raw[14:]
    tunnelled = packet[9] == PROTO_IPIP
    if tunnelled:
        packet = packet[20:]
    udp = packet[9] == PROTO_UDP
    return Frame(mac(raw[:6]), mac(raw[6:12]), vlan, tunnelled, socket.inet_ntoa(packet[12:16]),
                 socket.inet_ntoa(packet[16:20]),
                 struct.unpack_from("!H", packet, 20)[0] if udp else 0, packet[28:])


class Sniffer:
    """All that comes in by a device, from the moment it is made; use as a context manager."""

    def __init__(self, netns_fd, device):
        self.socket = kernel.socket_in(netns_fd, socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self.socket.setblocking(False)
        self.socket.bind((device, ETH_P_ALL))

    def take(self):
        """The IPv4 frames since the last time."""
        frames = []
        while True:
            try:
                raw, control, _, _ = self.socket.recvmsg(65536, 256)
            except BlockingIOError:
                return frames
            (auxdata,) = (data for level, kind, data in control
                          if (level, kind) == (SOL_PACKET, PACKET_AUXDATA))
            status, _, _, _, _, tci, _ = struct.unpack("=IIIHHHH", auxdata)
            frame = parse(raw, tci & 0xfff if status & TP_STATUS_VLAN_VALID else 0)
            if frame:
                frames.append(frame)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.socket.close()
