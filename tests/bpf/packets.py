# SPDX-License-Identifier: MIT
"""Recipes for packets, in scapy, and the addresses they go between.

A recipe is a function of the server's address: called with the inner source it gives the packet that
goes into the tunnel, called with the game server IP the very packet that ought to leave for the client.
That is the whole contract: a direct packet is what the server would have sent, had it been bound to its
public address.
"""

import struct

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_RR, in4_chksum
from scapy.layers.l2 import Ether
from scapy.packet import Raw

import datapath
from oracle import Config, Entry

CLIENT = "203.0.113.7"

# Model A: the remote is the public address, the server has a private one.
REMOTE_A, PRIVATE = "192.0.2.10", "10.0.0.2"
SHADOWED, DRAINED = "192.0.2.11", "192.0.2.12"
# The same, as the agent writes it where the device has no public address.
REMOTE_P = "192.0.2.17"
PRIVATE_EDGES = ("10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255",
                 "100.64.0.0", "100.127.255.255", "169.254.0.0", "169.254.255.255")
NEARLY_PRIVATE = ("9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0",
                  "100.63.255.255", "100.128.0.0", "169.253.255.255", "169.255.0.0")
# Model C: the POP is the remote, the server has the public address.
POP_C, PUBLIC_C = "192.0.2.90", "192.0.2.20"
# An address that a rule says, whatever the server has.
POP_RULE, RULED = "192.0.2.92", "192.0.2.27"
# Rows that name another's key: their memory was another's in this moment.
MOVED, SHARED_MOVED = "192.0.2.16", "192.0.2.28"
# Shared: one POP, several servers; the third has a private address all the same.
POP_SHARED, SHARED_1, SHARED_2, SHARED_PRIVATE, SHARED_3 = (
    "192.0.2.91", "192.0.2.21", "192.0.2.22", "10.0.0.3", "192.0.2.23")
SHARED_SHADOWED, SHARED_DRAINED = "192.0.2.24", "192.0.2.25"
# With a policy of their own.
PORTED, CACHED, PICKY, SHARED_PICKY = "192.0.2.13", "192.0.2.14", "192.0.2.15", "192.0.2.26"
STRANGER_REMOTE = "192.0.2.200"

CONFIG = Config(
    remotes={
        REMOTE_A: Entry(REMOTE_A, slot=1),
        SHADOWED: Entry(SHADOWED, slot=2, mode=datapath.MODE_SHADOW),
        DRAINED: Entry(DRAINED, slot=3, mode=datapath.MODE_TUNNEL),
        REMOTE_P: Entry(REMOTE_P, slot=18, private_source=True),
        POP_C: Entry(PUBLIC_C, slot=4, own_source=True),
        POP_RULE: Entry(RULED, slot=15, key="0.0.0.0"),
        MOVED: Entry(MOVED, slot=16, exempt_clients=True, key=REMOTE_A),  # has no place in front
        POP_SHARED: Entry("0.0.0.0", slot=5, shared=True),
        PORTED: Entry(PORTED, slot=11, ports=((80, 80), (27010, 27020), (65535, 65535))),
        CACHED: Entry(CACHED, slot=12, exempt=frozenset((0x49, 0x44))),
        PICKY: Entry(PICKY, slot=13, exempt_clients=True),
    },
    sources={
        (POP_SHARED, SHARED_1): Entry(SHARED_1, slot=6),
        (POP_SHARED, SHARED_2): Entry(SHARED_2, slot=7, key="0.0.0.0"),
        (POP_SHARED, SHARED_MOVED): Entry(SHARED_MOVED, slot=17, key=SHARED_1),
        (POP_SHARED, SHARED_PRIVATE): Entry(SHARED_3, slot=8),
        (POP_SHARED, SHARED_SHADOWED): Entry(SHARED_SHADOWED, slot=9, mode=datapath.MODE_SHADOW),
        (POP_SHARED, SHARED_DRAINED): Entry(SHARED_DRAINED, slot=10, mode=datapath.MODE_TUNNEL),
        # Everything at once.
        (POP_SHARED, SHARED_PICKY): Entry(SHARED_PICKY, slot=14, ports=((27015, 27015),),
                                          exempt=frozenset((0x41, 0x45)), exempt_clients=True),
    },
    exempt_clients=["203.0.113.128/25", "192.0.2.200/32"])

UDP_PAYLOAD = bytes(range(7, 58))  # of odd length
DF, MF = 2, 1


def tunnelled(inner, remote=REMOTE_A, padding=b"", ether=None, **outer):
    """The frame as the tunnel sends it: inner packet, outer header, the MAC of the POP's next hop."""
    ether = ether or Ether(dst=datapath.POP_MAC, src=datapath.UP_MAC)
    header = IP(**{"src": datapath.HOST, "dst": remote, "proto": 4, "flags": "DF", "id": 77, **outer})
    return bytes(ether / header / Raw(bytes(inner))) + padding


def direct(inner, mac=datapath.GATEWAY_MAC, padding=b""):
    """The frame as it ought to leave."""
    return bytes(Ether(dst=mac, src=datapath.UP_MAC, type=0x0800) / Raw(bytes(inner))) + padding


def cut(packet, size, at=0):
    """An IPv4 packet with @size bytes of payload, from byte @at on, and a total length that says so."""
    whole = bytes(packet)
    length = (whole[0] & 15) * 4
    header = IP(whole[:length])
    header.len = None
    header.chksum = None
    return bytes(header / Raw(whole[length + at:length + at + size]))


def pieces(packet, size):
    """Its fragments."""
    whole = bytes(packet)
    length = (whole[0] & 15) * 4
    result = []
    for at in range(0, len(whole) - length, size):
        header = IP(whole[:length])
        header.len = header.chksum = None
        header.frag = at // 8
        header.flags = "MF" if length + at + size < len(whole) else 0
        result.append(bytes(header / Raw(whole[length + at:length + at + size])))
    return result


# ---- recipes

def udp(payload=UDP_PAYLOAD, client=CLIENT, sport=27015, dport=51000, chksum=None, **ip):
    return lambda server: bytes(
        IP(src=server, dst=client, id=4660, **ip) /
        UDP(sport=sport, dport=dport, chksum=chksum) / Raw(payload))


def tcp(payload=b"some bytes of TCP", client=CLIENT, **fields):
    def make(server):
        header = TCP(sport=27015, dport=51001, seq=1000, ack=2000, flags="PA",
                     options=[("Timestamp", (1, 2)), ("NOP", None), ("NOP", None)], **fields)
        return bytes(IP(src=server, dst=client, id=4661) / header / Raw(payload))
    return make


def icmp_echo(payload=b"echo payload", client=CLIENT, **ip):
    return lambda server: bytes(
        IP(src=server, dst=client, id=4662, **ip) /
        ICMP(type=0, id=9, seq=3) / Raw(payload))


def other(ip_proto, payload=b"opaque payload of some protocol", client=CLIENT):
    return lambda server: bytes(IP(src=server, dst=client, proto=ip_proto, id=4663) / Raw(payload))


def udplite(payload=UDP_PAYLOAD, coverage=0, client=CLIENT):
    """RFC 3828: where UDP has the length is how much the checksum covers; 0 is all."""
    def make(server):
        packet = IP(src=server, dst=client, proto=136, id=4664)
        header = struct.pack("!HHHH", 27015, 51002, coverage, 0)
        covered = (header + payload)[:coverage or None]
        # The pseudo header has the length of the whole, not of what is covered.
        packet.len = 20 + 8 + len(payload)
        packet.ihl = 5
        check = in4_chksum(136, packet, covered) or 0xffff
        return bytes(packet / Raw(header[:6] + struct.pack("!H", check) + payload))
    return make


def dccp(payload=b"DCCP data", client=CLIENT):
    """RFC 4340: a Data packet with the extended sequence number, checksum over all."""
    def make(server):
        packet = IP(src=server, dst=client, proto=33, id=4665)
        header = struct.pack("!HHBBHBBHI", 27015, 51003, 4, 0, 0, 2 << 1 | 1, 0, 1, 2)
        check = in4_chksum(33, packet, header + payload)
        return bytes(packet / Raw(header[:6] + struct.pack("!H", check) + header[8:] + payload))
    return make


OPTIONS = [IPOption_RR(length=11, pointer=4, routers=["0.0.0.0", "0.0.0.0"]), b"\x01"]


def zero_sum_payload(recipe, server, check_at):
    """Two bytes that make the checksum of recipe(two bytes)(server) come out as 0."""
    packet = recipe(b"\0\0")(server)
    check, = struct.unpack_from("!H", packet, check_at)
    return struct.pack("!H", check)
