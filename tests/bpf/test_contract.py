# SPDX-License-Identifier: MIT
"""The packet contract, row by row: byte for byte what leaves, the verdict, and exactly one count."""

import struct

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.packet import Raw
from scapy.utils import checksum

import datapath
import oracle
from checks import check
from packets import *  # pylint: disable=wildcard-import,unused-wildcard-import

FRAGMENTED = udp(bytes(range(256)) * 12)


def total(packet):
    return struct.unpack_from("!H", packet, 2)[0]


# ---- packets that go direct

def sctp(server):
    return bytes(IP(src=server, dst=CLIENT, proto=132, id=5) /
                 SCTP(sport=27015, dport=51004, tag=1) / SCTPChunkData(data=b"chunk"))


DIRECT = {
    "udp": udp(),
    "udp, empty": udp(b""),
    "udp, one byte": udp(b"x"),
    "udp, 1,452 bytes": udp(bytes(1452)),
    "udp, checksum 0 stays 0": udp(chksum=0),
    "udp, checksum that comes out as 0 is sent as 0xffff":
        udp(zero_sum_payload(udp, REMOTE_A, 26)),
    "udp, checksum that was 0xffff": udp(zero_sum_payload(udp, PRIVATE, 26)),
    "udp, tos and ttl are kept": udp(tos=0xb8, ttl=3),
    "udp, inner options": udp(options=OPTIONS),
    "udp, as many inner options as there can be": udp(options=[b"\x01"] * 40),
    "tcp": tcp(),
    "tcp, empty": tcp(b""),
    "tcp, checksum that comes out as 0 stays 0": tcp(zero_sum_payload(tcp, REMOTE_A, 36)),
    "udp-lite": udplite(),
    "udp-lite, header covered only": udplite(coverage=8),
    "udp-lite, 20 bytes covered": udplite(coverage=20),
    "udp-lite, checksum that comes out as 0 is sent as 0xffff":
        udplite(zero_sum_payload(udplite, REMOTE_A, 26)),
    "dccp": dccp(),
    "sctp": sctp,
    "icmp echo reply": icmp_echo(),
    "icmp echo reply, inner options": icmp_echo(options=OPTIONS),
    "esp": other(50),
    "gre": other(47),
    "ipip in ipip": other(4),
    "unknown protocol": other(253),
    "unknown protocol, no payload": other(253, b""),
}


@pytest.mark.parametrize("name", DIRECT)
def test_goes_direct(configured, name):
    recipe = DIRECT[name]
    expected = recipe(REMOTE_A)
    check(configured, tunnelled(recipe(PRIVATE)), direct(expected),
          {(1, "direct"): (1, total(expected))})


@pytest.mark.parametrize("name", DIRECT)
def test_wrong_checksums_stay_wrong(configured, name):
    """Nobody may take damage for sound because it passed here."""
    frame = bytearray(tunnelled(DIRECT[name](PRIVATE)))
    frame[44] ^= 0x5a  # inner header checksum
    if len(frame) > 62:
        frame[-1] ^= 0xa5  # payload, whatever covers it
    judgement = oracle.judge(bytes(frame), CONFIG)
    header_length = (judgement.out[14] & 15) * 4
    assert checksum(judgement.out[14:14 + header_length]) not in (0, 0xffff)
    assert configured.run(bytes(frame)) == (-1, judgement.out, judgement.counted)


@pytest.mark.parametrize("number", range(3))
def test_fragments_go_direct_and_only_the_first_is_repaired(configured, number):
    expected = pieces(FRAGMENTED(REMOTE_A), 1456)[number]
    check(configured, tunnelled(pieces(FRAGMENTED(PRIVATE), 1456)[number]), direct(expected),
          {(1, "direct"): (1, total(expected))})


@pytest.mark.parametrize("name", ["udp", "tcp", "udp-lite", "dccp", "sctp", "icmp echo reply"])
def test_later_fragments_that_look_like_headers_are_not_touched(configured, name):
    """The payload of a later fragment may look like anything."""
    frame = IP(DIRECT[name](PRIVATE))
    payload, proto = bytes(frame.payload), frame.proto

    def recipe(server):
        return bytes(IP(src=server, dst=CLIENT, id=6, frag=185, proto=proto) / Raw(payload))

    check(configured, tunnelled(recipe(PRIVATE)), direct(recipe(REMOTE_A)),
          {(1, "direct"): (1, 20 + len(payload))})


def test_first_fragment_with_udp_checksum_0(configured):
    recipe = udp(bytes(3000), chksum=0)
    expected = pieces(recipe(REMOTE_A), 1456)[0]
    check(configured, tunnelled(pieces(recipe(PRIVATE), 1456)[0]), direct(expected),
          {(1, "direct"): (1, 1476)})


@pytest.mark.parametrize("size", [1, 6, 100])
def test_padding_is_left_behind_the_packet(configured, size):
    padding = b"\xee" * size
    expected = udp(b"short")(REMOTE_A)
    check(configured, tunnelled(udp(b"short")(PRIVATE), padding=padding),
          direct(expected, padding=padding), {(1, "direct"): (1, 33)})


def test_header_checksum_that_comes_out_as_0(configured):
    """Summed up anew it would be 0 too: 0xffff is never sent."""
    def recipe(server, number):
        return bytes(IP(src=server, dst=CLIENT, id=number, proto=253) / Raw(b"payload"))

    number, = struct.unpack_from("!H", recipe(REMOTE_A, 0), 10)
    expected = recipe(REMOTE_A, number)
    assert expected[10:12] == b"\0\0"
    check(configured, tunnelled(recipe(PRIVATE, number)), direct(expected),
          {(1, "direct"): (1, 27)})


def test_client_on_link_gets_its_own_mac(configured):
    recipe = udp(client=datapath.NEIGHBOUR)
    check(configured, tunnelled(recipe(PRIVATE)),
          direct(recipe(REMOTE_A), mac=datapath.NEIGHBOUR_MAC), {(1, "direct"): (1, 79)})


def test_segments_of_a_super_packet_are_counted(configured):
    """Only the count: the runner cannot make a super-packet that the strip accepts, so it stays."""
    frame = tunnelled(udp()(PRIVATE))
    assert configured.run(frame, gso_segs=3) == (
        -1, direct(udp()(REMOTE_A)), {(1, "direct"): (3, 79)})


# ---- model C, shared remotes

@pytest.mark.parametrize("name", DIRECT)
def test_public_address_on_the_server_changes_only_the_mac(configured, name):
    packet = DIRECT[name](PUBLIC_C)
    check(configured, tunnelled(packet, POP_C), direct(packet), {(4, "direct"): (1, total(packet))})


def test_an_address_that_a_rule_says_is_for_any_inner_source(configured):
    for source in (PRIVATE, "10.9.8.7", RULED):
        check(configured, tunnelled(udp()(source), POP_RULE), direct(udp()(RULED)), {(15, "direct"): (1, 79)})


@pytest.mark.parametrize("source", [*PRIVATE_EDGES, REMOTE_P])
def test_private_sources_alone(configured, source):
    check(configured, tunnelled(udp()(source), REMOTE_P), direct(udp()(REMOTE_P)), {(18, "direct"): (1, 79)})


@pytest.mark.parametrize("source", [*NEARLY_PRIVATE, PUBLIC_C, "127.0.0.1", "0.0.0.0", "255.255.255.255"])
def test_a_public_source_of_a_device_that_has_none(configured, source):
    """The address that is about to be given to it: what it sends must not leave with the POP's."""
    frame = tunnelled(udp()(source), REMOTE_P)
    check(configured, frame, frame, {(18, "KEPT_NO_SOURCE"): 1})


@pytest.mark.parametrize("source,game_server_ip,slot", [
    (SHARED_1, SHARED_1, 6), (SHARED_2, SHARED_2, 7), (SHARED_PRIVATE, SHARED_3, 8)])
def test_shared_remote_is_told_apart_by_inner_source(configured, source, game_server_ip, slot):
    check(configured, tunnelled(udp()(source), POP_SHARED), direct(udp()(game_server_ip)),
          {(slot, "direct"): (1, 79)})


# ---- packets that are none of ours: untouched, and not counted

VLAN = Ether(dst=datapath.POP_MAC, src=datapath.UP_MAC) / Dot1Q(vlan=100)
IGNORED = {
    "arp": bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=datapath.UP_MAC) / ARP(pdst=datapath.GATEWAY)),
    "ipv6": bytes(Ether(dst=datapath.POP_MAC, src=datapath.UP_MAC, type=0x86dd) / Raw(bytes(60))),
    "udp, not tunnelled": bytes(Ether(dst=datapath.POP_MAC) / IP(dst=REMOTE_A) / UDP() / b"x"),
    "tcp, not tunnelled": bytes(Ether(dst=datapath.POP_MAC) / IP(dst=REMOTE_A) / TCP() / b"x"),
    "gre, not ipip": tunnelled(udp()(PRIVATE), proto=47),
    "ipv6 in ipv4": tunnelled(udp()(PRIVATE), proto=41),
    "vlan-tagged": tunnelled(udp()(PRIVATE), ether=VLAN),
    "outer version 6": tunnelled(udp()(PRIVATE), version=6),
    "outer version 0": tunnelled(udp()(PRIVATE), version=0),
    "outer header length 4": tunnelled(udp()(PRIVATE), ihl=4),
}


@pytest.mark.parametrize("name", IGNORED)
def test_is_none_of_ours(configured, name):
    check(configured, IGNORED[name], IGNORED[name], {})


# ---- packets that stay on the tunnel: untouched, counted by reason

def inner(**fields):
    return bytes(IP(**{"src": PRIVATE, "dst": CLIENT, **fields}) / UDP(sport=1, dport=2) / b"payload")


KEPT = {
    "KEPT_NO_ENTRY": {"unknown remote": (0, tunnelled(udp()(PRIVATE), STRANGER_REMOTE)),
                      "unknown remote, broken in every way":
                          (0, tunnelled(b"", STRANGER_REMOTE, len=9999, frag=3)),
                      "the row of another remote": (0, tunnelled(udp()(PRIVATE), MOVED))},
    "KEPT_NO_SOURCE": {"shared remote, unknown inner source":
                           (5, tunnelled(udp()("192.0.2.29"), POP_SHARED)),
                       "not the game server IP": (4, tunnelled(udp()(PRIVATE), POP_C)),
                       "the row of another inner source": (5, tunnelled(udp()(SHARED_MOVED), POP_SHARED))},
    "KEPT_SHADOW": {"mode shadow": (2, tunnelled(udp()(PRIVATE), SHADOWED)),
                    "mode shadow below a shared remote":
                        (9, tunnelled(udp()(SHARED_SHADOWED), POP_SHARED))},
    "KEPT_MODE_TUNNEL": {"mode tunnel": (3, tunnelled(udp()(PRIVATE), DRAINED)),
                         "mode tunnel below a shared remote":
                             (10, tunnelled(udp()(SHARED_DRAINED), POP_SHARED))},
    "KEPT_OUTER_OPTIONS": {"outer options": (1, tunnelled(udp()(PRIVATE), options=OPTIONS)),
                           "outer options, 4 bytes":
                               (1, tunnelled(udp()(PRIVATE), options=[b"\x01"] * 4))},
    "KEPT_OUTER_FRAGMENT": {
        "outer first fragment": (1, tunnelled(udp()(PRIVATE), flags="MF")),
        "outer middle fragment": (1, tunnelled(udp()(PRIVATE), flags="MF", frag=100)),
        "outer last fragment": (1, tunnelled(udp()(PRIVATE), flags=0, frag=8191))},
    "KEPT_OUTER_LENGTH": {
        "outer length 1 too much": (1, tunnelled(udp(b"")(PRIVATE), len=49)),
        "outer length 65535": (1, tunnelled(udp()(PRIVATE), len=65535)),
        "outer length 0, as BIG TCP has it": (1, tunnelled(udp()(PRIVATE), len=0)),
        "outer length 19": (1, tunnelled(udp()(PRIVATE), len=19))},
    "KEPT_INNER_VERSION": {
        "inner version 6": (1, tunnelled(inner(version=6))),
        "inner version 5": (1, tunnelled(inner(version=5))),
        "inner version 0": (1, tunnelled(bytes(40))),
        "inner header length 4": (1, tunnelled(inner(ihl=4))),
        "inner header length 0": (1, tunnelled(inner(ihl=0))),
        "inner version 6, shared remote": (5, tunnelled(inner(version=6), POP_SHARED))},
    "KEPT_INNER_SHORT": {
        "no inner packet": (1, tunnelled(b"")),
        "inner header cut": (1, tunnelled(udp()(PRIVATE)[:19])),
        "inner header cut by the outer length, not by the frame":
            (1, tunnelled(udp()(PRIVATE), len=39)),
        "inner options cut": (1, tunnelled(bytes(IP(src=PRIVATE, dst=CLIENT, ihl=6, len=20)))),
        "inner options cut, later fragment":
            (1, tunnelled(bytes(IP(src=PRIVATE, dst=CLIENT, ihl=6, len=20, frag=9)))),
        "udp header cut": (1, tunnelled(cut(udp()(PRIVATE), 7))),
        "udp header missing": (1, tunnelled(cut(udp()(PRIVATE), 0))),
        "tcp header cut": (1, tunnelled(cut(tcp()(PRIVATE), 19))),
        "udp-lite header cut": (1, tunnelled(cut(udplite()(PRIVATE), 7))),
        "dccp header cut": (1, tunnelled(cut(dccp()(PRIVATE), 11))),
        "sctp header cut": (1, tunnelled(cut(sctp(PRIVATE), 11))),
        "icmp header cut": (1, tunnelled(cut(icmp_echo()(PRIVATE), 7))),
        "tcp header torn, first piece": (1, tunnelled(pieces(tcp()(PRIVATE), 8)[0])),
        "tcp header torn, second piece": (1, tunnelled(pieces(tcp()(PRIVATE), 8)[1])),
        "tcp header torn, third piece": (1, tunnelled(pieces(tcp()(PRIVATE), 8)[2])),
        "dccp header torn, second piece": (1, tunnelled(pieces(dccp()(PRIVATE), 8)[1])),
        "too short for a server with the public address, too":
            (4, tunnelled(cut(udp()(PUBLIC_C), 7), POP_C))},
    "KEPT_INNER_LENGTH": {
        "inner length 1 too much": (1, tunnelled(inner(len=36))),
        "inner length 1 too little": (1, tunnelled(inner(len=34))),
        "inner length 0": (1, tunnelled(inner(len=0))),
        "padding inside the outer packet": (1, tunnelled(inner() + b"\0")),
        "inner length of the padded frame":
            (1, tunnelled(inner(len=41), padding=bytes(6)))},
    "KEPT_ICMP_ERROR": {"icmp error that quotes nothing": (1, tunnelled(
        IP(src=PRIVATE, dst=CLIENT, proto=1) / Raw(b"\x03\x03" + bytes(6))))},
    "KEPT_NO_NEXT_HOP": {
        "no neighbour": (1, tunnelled(udp(client=datapath.STRANGER)(PRIVATE))),
        "no neighbour, mode shadow": (2, tunnelled(udp(client=datapath.STRANGER)(PRIVATE), SHADOWED)),
        "blackhole": (1, tunnelled(udp(client=datapath.BLACKHOLE)(PRIVATE))),
        "unreachable": (1, tunnelled(udp(client=datapath.UNREACHABLE)(PRIVATE))),
        "the host itself": (1, tunnelled(udp(client=datapath.HOST)(PRIVATE))),
        "the network's broadcast address": (1, tunnelled(udp(client="198.51.100.255")(PRIVATE))),
        "broadcast": (1, tunnelled(udp(client="255.255.255.255")(PRIVATE))),
        "multicast": (1, tunnelled(udp(client="224.0.0.251")(PRIVATE))),
        "loopback": (1, tunnelled(udp(client="127.0.0.1")(PRIVATE))),
        "0.0.0.0": (1, tunnelled(udp(client="0.0.0.0")(PRIVATE))),
        **{f"private, behind the gateway: {client}": (1, tunnelled(udp(client=client)(PRIVATE))) for client in (
            "10.0.0.1", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.1", "192.168.255.255",
            "100.64.0.1", "100.127.255.255", "169.254.1.1")}},
}
KEPT_CASES = [(reason, name) for reason, cases in KEPT.items() for name in cases]


@pytest.mark.parametrize("reason,name", KEPT_CASES)
def test_stays_on_the_tunnel(configured, reason, name):
    slot, frame = KEPT[reason][name]
    check(configured, frame, frame, {(slot, reason): 1})


def test_stays_where_the_kernel_refuses_the_strip(configured):
    """A super-packet of neither TCP nor UDP_L4 is refused, and is left as it was."""
    frame = tunnelled(udp()(PRIVATE))
    assert configured.run(frame, gso_segs=2, gso_size=30) == (-1, frame, {(1, "KEPT_STRIP_FAILED"): 1})


def test_every_reason_has_a_case():
    """But for two: no memory to pull, and a write that cannot fail. Policy is in test_policy.py, no-program in test_fast.py."""
    policy = {"KEPT_SERVER_PORT", "KEPT_EXEMPT_QUERY", "KEPT_EXEMPT_CLIENT"}
    untested = set(datapath.REASONS) - set(KEPT) - {"KEPT_STRIP_FAILED", "KEPT_NO_PROGRAM"} - policy
    assert untested == {"KEPT_PULL_FAILED", "DROP_WRITE_FAILED"}


def test_stays_while_the_interface_does_not_forward(configured, namespace):
    """bpf_fib_lookup() wants net.ipv4.conf.IF.forwarding, on all kernels."""
    frame = tunnelled(udp()(PRIVATE))
    namespace.sysctl("net/ipv4/conf/uplink/forwarding", 0)
    try:
        assert configured.run(frame) == (-1, frame, {(1, "KEPT_NO_NEXT_HOP"): 1})
    finally:
        namespace.sysctl("net/ipv4/conf/uplink/forwarding", 1)
    assert configured.run(frame)[2] == {(1, "direct"): (1, 79)}


def test_rows_that_change_take_effect_at_once(configured):
    frame = tunnelled(udp()(PRIVATE))
    for mode, counted in ((datapath.MODE_DIRECT, {(1, "direct"): (1, 79)}),
                          (datapath.MODE_SHADOW, {(1, "KEPT_SHADOW"): 1}),
                          (datapath.MODE_TUNNEL, {(1, "KEPT_MODE_TUNNEL"): 1})):
        configured.ask("remote", REMOTE_A, REMOTE_A, 1, mode, 0)
        assert configured.run(frame)[2] == counted
    configured.ask("clear")
    assert configured.run(frame)[2] == {(0, "KEPT_NO_ENTRY"): 1}
