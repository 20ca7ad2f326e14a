# SPDX-License-Identifier: MIT
"""What ought to happen to a frame, worked out anew from the contract, with scapy's checksums.

It shares no code and no method with the program: where the program adjusts checksums by what changed,
the oracle sums up whole packets before and after, and carries over what was wrong with the old
checksum, if anything. It reads bytes, not scapy layers, since scapy repairs what it dissects.
"""

import dataclasses
import ipaddress
import struct

from scapy.layers.inet import IP, in4_chksum
from scapy.utils import checksum, mac2str

import datapath
from datapath import MODE_DIRECT, MODE_SHADOW, MODE_TUNNEL

ICMP, IPIP, TCP, UDP, DCCP, SCTP, UDPLITE = 1, 4, 6, 17, 33, 132, 136
HEADER_LENGTH = {ICMP: 8, TCP: 20, UDP: 8, DCCP: 12, SCTP: 12, UDPLITE: 8}
CHECKSUM_AT = {TCP: 16, UDP: 6, DCCP: 6, UDPLITE: 6}
ICMP_ERRORS = (3, 4, 5, 11, 12)


@dataclasses.dataclass(frozen=True)
class Entry:
    game_server_ip: str
    slot: int
    mode: int = MODE_DIRECT
    shared: bool = False
    ports: tuple = None  # of (first, last); None: all
    exempt: frozenset = frozenset()  # letters
    exempt_clients: bool = False
    own_source: bool = False
    private_source: bool = False
    key: str = None  # what the row says that its key is; None: what it is


@dataclasses.dataclass
class Config:
    remotes: dict = dataclasses.field(default_factory=dict)  # remote: Entry
    sources: dict = dataclasses.field(default_factory=dict)  # (remote, inner source): Entry
    exempt_clients: list = dataclasses.field(default_factory=list)  # prefixes


@dataclasses.dataclass(frozen=True)
class Judgement:
    """`out` is the frame as it leaves; `counted` is what Runner.run() ought to report, {} if none of ours."""
    out: bytes
    counted: dict


class Keep(Exception):
    """args: the slot that counts it, the reason"""


PRIVATE_NETWORKS = "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"


def is_private(address):
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in PRIVATE_NETWORKS)


def next_hop(client):
    """The MAC address behind which the client is, in the namespace of datapath.py, or None."""
    address = ipaddress.ip_address(client)
    if client in (datapath.BLACKHOLE, datapath.UNREACHABLE, datapath.HOST):
        return None
    if address in ipaddress.ip_network(datapath.NETWORK):
        return {datapath.GATEWAY: datapath.GATEWAY_MAC,
                datapath.NEIGHBOUR: datapath.NEIGHBOUR_MAC}.get(client)
    if address.packed[0] in (0, 127) or address.packed[0] >= 224:
        return None  # no host's
    if is_private(client):
        return None  # of some network, and the gateway's may be another one
    return datapath.GATEWAY_MAC


# ---- one's complement

def carry_over(old, right_old, right_new):
    """The checksum after a change that moves the right one so; a wrong one stays wrong by as much."""
    return (old - right_old + right_new) % 0xffff


def dotted(data):
    return str(ipaddress.ip_address(bytes(data)))


class Header:
    """An IPv4 header at the start of `data`, as far as it is there; `data` may be longer."""

    def __init__(self, data):
        self.version, self.length = data[0] >> 4, (data[0] & 15) * 4
        self.total, = struct.unpack_from("!H", data, 2)
        fragment, = struct.unpack_from("!H", data, 6)
        self.more, self.offset = bool(fragment & 0x2000), (fragment & 0x1fff) * 8
        self.protocol = data[9]
        self.source, self.destination = dotted(data[12:16]), dotted(data[16:20])


def with_address(packet, at, address):
    """An IPv4 packet, or its beginning, with another address at byte `at`, header checksum repaired."""
    length = (packet[0] & 15) * 4

    def right(data):
        return checksum(bytes(data[:10] + b"\0\0" + data[12:length]))

    changed = bytearray(packet)
    changed[at:at + 4] = ipaddress.ip_address(address).packed
    old, = struct.unpack_from("!H", packet, 10)
    if changed != packet:
        struct.pack_into("!H", changed, 10, carry_over(old, right(packet), right(changed)))
    return bytes(changed)


def with_l4_checksum(before, after):
    """`after` with the L4 checksum repaired, where there is one; `before` is the packet it was made of."""
    header = Header(before)
    at = header.length + CHECKSUM_AT.get(header.protocol, 0)
    if header.protocol not in CHECKSUM_AT or header.offset or len(before) < at + 2:
        return after
    old, = struct.unpack_from("!H", before, at)
    if header.protocol in (UDP, UDPLITE) and not old:
        return after

    def right(packet):
        """Over what is there: for the difference, what is missing or more does not matter."""
        payload = bytes(packet[header.length:at]) + b"\0\0" + bytes(packet[at + 2:])
        found = Header(packet)
        pseudo = IP(src=found.source, dst=found.destination)
        return in4_chksum(header.protocol, pseudo, payload)

    new = carry_over(old, right(before), right(after))
    if header.protocol in (UDP, UDPLITE) and not new:
        new = 0xffff
    changed = bytearray(after)
    struct.pack_into("!H", changed, at, new)
    return bytes(changed)


def rewrite_quote(packet, header, server, game_server_ip):
    """An ICMP error, with the packet it quotes addressed to the game server IP."""
    at = header.length + 8
    quote = packet[at:]
    if len(quote) < 20:
        return None
    quoted = Header(quote)
    if quoted.version != 4 or quoted.length < 20 or len(quote) < quoted.length:
        return None
    if quoted.destination != server or quoted.offset:
        return None
    check_at = CHECKSUM_AT.get(quoted.protocol)
    if check_at and len(quote) == quoted.length + check_at + 1:
        return None  # half of the checksum
    changed = with_l4_checksum(quote, with_address(quote, 16, game_server_ip))

    def right(data):
        return checksum(packet[header.length:header.length + 2] + b"\0\0" +
                        packet[header.length + 4:at] + data)

    old, = struct.unpack_from("!H", packet, header.length + 2)
    out = bytearray(packet[:at] + changed)
    if right(changed) % 0xffff != right(quote) % 0xffff:
        struct.pack_into("!H", out, header.length + 2, carry_over(old, right(quote), right(changed)))
    return bytes(out)


def check_inner(packet, header, slot):
    """Raises Keep if the packet's headers are not whole."""
    needed = HEADER_LENGTH.get(header.protocol, 0)
    if len(packet) < header.length:
        raise Keep(slot, "KEPT_INNER_SHORT")
    if header.offset:
        if header.offset < needed:
            raise Keep(slot, "KEPT_INNER_SHORT")
    elif len(packet) < header.length + needed:
        raise Keep(slot, "KEPT_INNER_SHORT")


def direct_packet(packet, header, entry):
    """The inner packet with its new source."""
    game_server_ip = entry.game_server_ip
    if header.source == game_server_ip:
        return packet
    if header.protocol == ICMP and not header.offset and packet[header.length] in ICMP_ERRORS:
        quoting = rewrite_quote(packet, header, header.source, game_server_ip)
        if quoting is None:
            raise Keep(entry.slot, "KEPT_ICMP_ERROR")
        return with_address(quoting, 12, game_server_ip)
    return with_l4_checksum(packet, with_address(packet, 12, game_server_ip))


def check_policy(packet, header, entry, config, gso_segs):
    """Raises Keep for what the operator wants on the tunnel."""
    fragment = header.more or header.offset
    payload = packet[header.length:]
    if entry.ports is not None:
        port = None
        if header.protocol in (TCP, UDP, UDPLITE, DCCP, SCTP) and not fragment:
            port, = struct.unpack_from("!H", payload)
        if port is None or not any(first <= port <= last for first, last in entry.ports):
            raise Keep(entry.slot, "KEPT_SERVER_PORT")
    if entry.exempt and header.protocol == UDP:
        data = payload[8:13]
        if fragment or gso_segs or (data[:4] == b"\xff" * 4 and data[4:] and data[4] in entry.exempt):
            raise Keep(entry.slot, "KEPT_EXEMPT_QUERY")
    if entry.exempt_clients:
        client = ipaddress.ip_address(header.destination)
        if any(client in ipaddress.ip_network(prefix) for prefix in config.exempt_clients):
            raise Keep(entry.slot, "KEPT_EXEMPT_CLIENT")


def is_anothers(entry, address):
    """Whether it says that it is the row of another than it was found by."""
    return entry.key not in (None, "0.0.0.0", address)


def judge_known(frame, outer, entry, config, gso_segs):
    """A packet to a known remote: (frame, entry), or Keep."""
    if outer.length > 20:
        raise Keep(entry.slot, "KEPT_OUTER_OPTIONS")
    if outer.more or outer.offset:
        raise Keep(entry.slot, "KEPT_OUTER_FRAGMENT")
    if outer.total < 20 or 14 + outer.total > len(frame):
        raise Keep(entry.slot, "KEPT_OUTER_LENGTH")
    packet, padding = frame[34:14 + outer.total], frame[14 + outer.total:]
    if len(packet) < 20:
        raise Keep(entry.slot, "KEPT_INNER_SHORT")
    header = Header(packet)
    if header.version != 4 or header.length < 20:
        raise Keep(entry.slot, "KEPT_INNER_VERSION")
    if entry.shared:
        found = config.sources.get((outer.destination, header.source))
        if not found or is_anothers(found, header.source):
            raise Keep(entry.slot, "KEPT_NO_SOURCE")
        entry = found
    if (entry.own_source or entry.private_source and not is_private(header.source)) and header.source != entry.game_server_ip:
        raise Keep(entry.slot, "KEPT_NO_SOURCE")
    if header.total != len(packet):
        raise Keep(entry.slot, "KEPT_INNER_LENGTH")
    check_inner(packet, header, entry.slot)
    if entry.mode == MODE_TUNNEL:
        raise Keep(entry.slot, "KEPT_MODE_TUNNEL")
    check_policy(packet, header, entry, config, gso_segs)
    out = direct_packet(packet, header, entry)
    mac = next_hop(header.destination)
    if not mac:
        raise Keep(entry.slot, "KEPT_NO_NEXT_HOP")
    if entry.mode == MODE_SHADOW:
        raise Keep(entry.slot, "KEPT_SHADOW")
    return mac2str(mac) + mac2str(datapath.UP_MAC) + b"\x08\x00" + out + padding, entry, header


def judge(frame, config, gso_segs=0):
    if len(frame) < 34 or frame[12:14] != b"\x08\x00":
        return Judgement(frame, {})
    outer = Header(frame[14:])
    if outer.version != 4 or outer.length < 20 or outer.protocol != IPIP:
        return Judgement(frame, {})
    entry = config.remotes.get(outer.destination)
    if not entry or is_anothers(entry, outer.destination):
        return Judgement(frame, {(datapath.SLOT_NONE, "KEPT_NO_ENTRY"): 1})
    try:
        out, entry, header = judge_known(frame, outer, entry, config, gso_segs)
    except Keep as keep:
        return Judgement(frame, {keep.args: 1})
    return Judgement(out, {(entry.slot, "direct"): (gso_segs or 1, header.total)})
