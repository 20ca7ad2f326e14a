# SPDX-License-Identifier: MIT
"""The programs on a real egress hook: unfinished checksums, super-packets, paged data, no link layer."""

import os
import re
import struct

import pytest
from scapy.layers.inet import IP, in4_chksum

import datapath
import wire
from packets import *  # pylint: disable=wildcard-import,unused-wildcard-import
from test_contract import DIRECT
from test_icmp_errors import ERRORS, client_tcp, error

L4_IN, L4_OUT = 14 + 20 + 20, 14 + 20
ON_TUN = "203.0.113.130"  # a client behind the tun interface
BIG = bytes(range(256)) * 20  # more than a page: packet sockets put the rest into fragments


@pytest.fixture(scope="module")
def inside(namespace):
    """This thread is in the namespace."""
    namespace.batch("link set uplink mtu 9000\nlink set wire mtu 9000\n")
    leave = namespace.enter()
    yield namespace
    leave()


@pytest.fixture
def link(inside, configured):
    """(sender on the interface with the program, receiver at the other end)"""
    configured.attach("direct", "uplink")
    sender, receiver = wire.Port("uplink"), wire.Port("wire", wire.ETH_P_ALL)
    yield sender, receiver
    sender.close()
    receiver.close()


def exchange(link, frame, virtio=None):
    sender, receiver = link
    sender.send(frame, virtio)
    return receiver.receive()


@pytest.mark.parametrize("name", DIRECT)
def test_goes_direct(link, configured, name):
    expected = DIRECT[name](REMOTE_A)
    _, frame = exchange(link, tunnelled(DIRECT[name](PRIVATE)))
    assert frame == direct(expected)
    assert configured.counters() == {(1, "direct"): (1, len(expected))}


@pytest.mark.parametrize("remote,slot,reason", [
    (STRANGER_REMOTE, 0, "KEPT_NO_ENTRY"), (SHADOWED, 2, "KEPT_SHADOW"), (DRAINED, 3, "KEPT_MODE_TUNNEL")])
def test_stays_on_the_tunnel(link, configured, remote, slot, reason):
    """Left to the tunnel means sent: the verdict drops nothing."""
    frame = tunnelled(udp()(PRIVATE), remote)
    assert exchange(link, frame)[1] == frame
    assert configured.counters() == {(slot, reason): 1}


def test_frame_decides_what_it_is_not_its_sender(link, configured):
    """A packet socket may call IPv4 what has another protocol in its Ethernet header."""
    frame = bytearray(tunnelled(udp()(PRIVATE)))
    frame[12:14] = b"\x88\xb5"  # for local experiments
    liar = wire.Port("uplink", wire.ETH_P_IP)
    liar.send(bytes(frame))
    liar.close()
    assert link[1].receive()[1] == frame
    assert configured.counters() == {}


# ---- checksums left to the hardware

def unfinished(packet, check_at):
    """The packet with the sum of its pseudo header in place of the checksum, as CHECKSUM_PARTIAL has it."""
    whole = bytearray(packet)
    length = (whole[0] & 15) * 4
    at = length + check_at
    found = IP(bytes(whole[:length]))
    # Over the pseudo header alone; in4_chksum() takes the length of what it is given.
    found.len = len(whole)
    partial = ~in4_chksum(found.proto, found, b"") & 0xffff
    struct.pack_into("!H", whole, at, partial)
    return bytes(whole)


UNFINISHED = {
    "udp": (udp(), 6),
    "udp, inner options": (udp(options=OPTIONS), 6),
    "udp, paged": (udp(BIG), 6),
    "tcp": (tcp(), 16),
    "tcp, empty": (tcp(b""), 16),
    "tcp, paged": (tcp(BIG), 16),
}


@pytest.mark.parametrize("name", UNFINISHED)
def test_unfinished_checksum(link, configured, name):
    recipe, check_at = UNFINISHED[name]
    length = (recipe(PRIVATE)[0] & 15) * 4
    virtio = (wire.NEEDS_CSUM, 0, 0, 0, 34 + length, check_at)
    header, frame = exchange(link, tunnelled(unfinished(recipe(PRIVATE), check_at)), virtio)
    expected = recipe(REMOTE_A)
    assert header[0] & wire.NEEDS_CSUM, "the other end of a veth gets it unfinished"
    assert header[4:] == (14 + length, check_at)
    assert wire.finished(frame, header) == direct(expected)
    assert configured.counters() == {(1, "direct"): (1, len(expected))}


# ---- headers outside the linear part

PAGED = {
    "udp": udp(BIG),
    "udp, inner options": udp(BIG, options=OPTIONS),
    "tcp": tcp(BIG),
    "icmp echo reply": icmp_echo(BIG),
    "icmp error": error(ERRORS["time exceeded"], lambda server: client_tcp(server) + BIG),
}


@pytest.mark.parametrize("linear", range(14, 120, 5))
@pytest.mark.parametrize("name", PAGED)
def test_paged_headers(link, configured, name, linear):
    """Wherever the linear part ends, what is needed is pulled."""
    expected = PAGED[name](REMOTE_A)
    _, received = exchange(link, tunnelled(PAGED[name](PRIVATE)), (0, 0, linear, 0, 0, 0))
    assert received == direct(expected)
    assert configured.counters() == {(1, "direct"): (1, len(expected))}


@pytest.mark.parametrize("linear", [14, 20, 34, 40])
def test_paged_headers_of_others_are_left_alone(link, configured, linear):
    frame = tunnelled(udp(BIG)(PRIVATE), proto=47)
    assert exchange(link, frame, (0, 0, linear, 0, 0, 0))[1] == frame
    assert configured.counters() == {}


# ---- super-packets

def super_packet(link, recipe, check_at, gso_type, gso_size, l4_length):
    virtio = (wire.NEEDS_CSUM, gso_type, L4_IN + l4_length, gso_size, L4_IN, check_at)
    return exchange(link, tunnelled(unfinished(recipe(PRIVATE), check_at)), virtio)


@pytest.mark.parametrize("gso_size", [500, 1000, 1428])
def test_tcp_super_packet_keeps_its_segment_size(link, configured, gso_size):
    recipe = tcp(BIG)
    header, frame = super_packet(link, recipe, 16, wire.GSO_TCPV4, gso_size, 32)
    assert header[1] == wire.GSO_TCPV4 and header[3] == gso_size
    assert wire.finished(frame, header) == direct(recipe(REMOTE_A))
    (_, counted), = configured.counters().items()
    assert counted[1] == len(recipe(REMOTE_A))


if tuple(map(int, re.match(r"(\d+)\.(\d+)", os.uname().release).groups())) >= (6, 2):
    # Older kernels take no UDP_L4 in a virtio header, so there is no way to make one here.
    def test_udp_super_packet_keeps_its_segment_size(link, configured):
        recipe = udp(BIG)
        header, frame = super_packet(link, recipe, 6, wire.GSO_UDP_L4, 1000, 8)
        assert header[1] == wire.GSO_UDP_L4 and header[3] == 1000
        assert wire.finished(frame, header) == direct(recipe(REMOTE_A))
        assert configured.counters().keys() == {(1, "direct")}


# ---- an interface without link-layer header

@pytest.fixture
def tun(inside, configured):
    """(packet socket, tun) with the program between them; the interface is gone afterwards."""
    device = wire.Tun("tun0")
    inside.batch(f"link set tun0 up\nroute add {ON_TUN} dev tun0\n")
    inside.sysctl("net/ipv4/conf/tun0/forwarding", 1)
    configured.attach("direct_l3", "tun0")
    # Sent from here no neighbour is made: the helper's NO_NEIGH is what there is to go by.
    sender = wire.Port("tun0", wire.ETH_P_IP)
    yield sender, device
    sender.close()
    device.close()


L3_CASES = {
    "udp": udp(client=ON_TUN),
    "udp, inner options": udp(client=ON_TUN, options=OPTIONS),
    "tcp": tcp(client=ON_TUN),
    "icmp echo reply": icmp_echo(client=ON_TUN),
    "unknown protocol": other(253, client=ON_TUN),
    "first fragment": lambda server: pieces(udp(bytes(3000), client=ON_TUN)(server), 1400)[0],
    "later fragment": lambda server: pieces(udp(bytes(3000), client=ON_TUN)(server), 1400)[1],
}


@pytest.mark.parametrize("name", L3_CASES)
def test_no_link_layer(tun, configured, name):
    sender, device = tun
    expected = L3_CASES[name](REMOTE_A)
    sender.send(tunnelled(L3_CASES[name](PRIVATE))[14:])
    assert device.read() == expected
    assert configured.counters() == {(1, "direct"): (1, len(expected))}


def test_no_link_layer_and_public_address_on_the_server(tun, configured):
    sender, device = tun
    packet = udp(client=ON_TUN)(PUBLIC_C)
    sender.send(tunnelled(packet, POP_C)[14:])
    assert device.read() == packet
    assert configured.counters() == {(4, "direct"): (1, len(packet))}


@pytest.mark.parametrize("client", [CLIENT, datapath.BLACKHOLE, "224.0.0.1"])
def test_no_link_layer_and_no_route(tun, configured, client):
    """The client is behind another interface, or nowhere."""
    sender, device = tun
    packet = tunnelled(udp(client=client)(PRIVATE))[14:]
    sender.send(packet)
    assert device.read() == packet
    assert configured.counters() == {(1, "KEPT_NO_NEXT_HOP"): 1}


def test_no_link_layer_and_unknown_remote(tun, configured):
    sender, device = tun
    packet = tunnelled(udp(client=ON_TUN)(PRIVATE), STRANGER_REMOTE)[14:]
    sender.send(packet)
    assert device.read() == packet
    assert configured.counters() == {(0, "KEPT_NO_ENTRY"): 1}


# ---- VLAN

def test_tag_in_the_metadata_is_none_of_ours(link, configured):
    """It is the packet of a VLAN interface on top of this one: other routes, other neighbours."""
    frame = tunnelled(udp()(PRIVATE))
    configured.ask("tag", 100, "uplink")
    try:
        assert exchange(link, frame)[1] == frame, "packet sockets show the tag elsewhere"
        assert configured.counters() == {}
    finally:
        configured.ask("tag", 0, "uplink")
    assert exchange(link, frame)[1] == direct(udp()(REMOTE_A))
