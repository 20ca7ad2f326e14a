# SPDX-License-Identifier: MIT
"""Ports, queries and clients that an operator leaves to the tunnel."""

import struct

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Raw

import datapath
import oracle
from checks import check
from packets import *  # pylint: disable=wildcard-import,unused-wildcard-import

EXEMPT_CLIENTS = {"203.0.113.128", "203.0.113.255", "192.0.2.200"}
QUERY = b"\xff\xff\xff\xff"


def from_port(port, layer=UDP, client=CLIENT):
    """A recipe: a packet of this source port."""
    return lambda server: bytes(IP(src=server, dst=client, id=9) / layer(sport=port, dport=51000) /
                                Raw(b"payload"))


def goes(runner, recipe, remote, slot, source=PRIVATE, public=None):
    packet = recipe(source)
    check(runner, tunnelled(packet, remote), direct(recipe(public or remote)),
          {(slot, "direct"): (1, len(packet))})


def stays(runner, recipe, remote, slot, reason, source=PRIVATE):
    frame = tunnelled(recipe(source), remote)
    check(runner, frame, frame, {(slot, reason): 1})


@pytest.mark.parametrize("layer", [UDP, TCP])
@pytest.mark.parametrize("port", [80, 27010, 27011, 27020, 65535])
def test_ports_in_the_list_go_direct(configured, port, layer):
    goes(configured, from_port(port, layer), PORTED, 11)


@pytest.mark.parametrize("layer", [UDP, TCP])
@pytest.mark.parametrize("port", [0, 1, 79, 81, 27009, 27021, 65534])
def test_other_ports_stay(configured, port, layer):
    stays(configured, from_port(port, layer), PORTED, 11, "KEPT_SERVER_PORT")


@pytest.mark.parametrize("recipe", [udplite(), dccp()], ids=["udp-lite", "dccp"])
def test_other_protocols_with_ports(configured, recipe):
    goes(configured, recipe, PORTED, 11)


@pytest.mark.parametrize("recipe", [icmp_echo(), other(50), other(253, b"")],
                         ids=["icmp", "esp", "nothing"])
def test_what_has_no_ports_stays(configured, recipe):
    stays(configured, recipe, PORTED, 11, "KEPT_SERVER_PORT")


@pytest.mark.parametrize("number", range(3))
def test_all_fragments_take_one_path(configured, number):
    stays(configured, lambda server: pieces(udp(bytes(1500))(server), 512)[number], PORTED, 11,
          "KEPT_SERVER_PORT")
    stays(configured, lambda server: pieces(udp(bytes(1500))(server), 512)[number], CACHED, 12,
          "KEPT_EXEMPT_QUERY")


def test_sixteen_ranges_and_the_last_one_counts(configured):
    ranges = [(1000 * n, 1000 * n + 1) for n in range(1, 17)]
    config = oracle.Config(remotes={PORTED: oracle.Entry(PORTED, slot=11, ports=tuple(ranges))})
    configured.configure(config)
    for port, direct_packets in ((16000, 1), (16001, 1), (16002, 0), (15999, 0)):
        counted = configured.run(tunnelled(from_port(port)(PRIVATE), PORTED))[2]
        assert ((11, "direct") in counted) == bool(direct_packets), (port, counted)


def test_a_flag_without_ports_keeps_all(configured):
    """The agent writes the ports first; if they are not there, nobody knows which were meant."""
    configured.ask("clear")
    configured.ask("remote", PORTED, PORTED, 11, 0, datapath.FLAG_SERVER_PORTS)
    frame = tunnelled(from_port(80)(PRIVATE), PORTED)
    assert configured.run(frame) == (-1, frame, {(11, "KEPT_SERVER_PORT"): 1})


@pytest.mark.parametrize("letter", [0x49, 0x44])
@pytest.mark.parametrize("rest", [b"", b"\0", b"name\0map\0"])
def test_exempt_answers_stay(configured, letter, rest):
    stays(configured, udp(QUERY + bytes([letter]) + rest), CACHED, 12, "KEPT_EXEMPT_QUERY")


@pytest.mark.parametrize("payload", [
    b"", QUERY[:3], QUERY, QUERY + b"\x41", QUERY + b"\x45", QUERY + b"\x54", QUERY + b"\x4a",
    b"\xfe" + QUERY[1:] + b"\x49", QUERY[:3] + b"\xfe\x49", b"\x49" + QUERY, QUERY + b"\0\x49"])
def test_other_payloads_go_direct(configured, payload):
    goes(configured, udp(payload), CACHED, 12)


def test_answers_are_exempt_where_the_flag_is_set_only(configured):
    for letter in datapath.FLAG_EXEMPT:
        goes(configured, udp(QUERY + bytes([letter])), REMOTE_A, 1)


def test_only_udp_is_asked(configured):
    goes(configured, tcp(QUERY + b"\x49"), CACHED, 12)
    goes(configured, udplite(QUERY + b"\x49"), CACHED, 12)


def test_a_super_packet_may_hold_one_in_any_segment(configured):
    frame = tunnelled(udp(bytes(600))(PRIVATE), CACHED)
    check(configured, frame, frame, {(12, "KEPT_EXEMPT_QUERY"): 1}, gso_segs=2, gso_size=300)


def test_with_inner_options(configured):
    stays(configured, udp(QUERY + b"\x49", options=OPTIONS), CACHED, 12, "KEPT_EXEMPT_QUERY")
    goes(configured, udp(QUERY + b"\x4a", options=OPTIONS), CACHED, 12)


@pytest.mark.parametrize("client", sorted(EXEMPT_CLIENTS))
def test_exempt_clients_stay(configured, client):
    stays(configured, udp(client=client), PICKY, 13, "KEPT_EXEMPT_CLIENT")


@pytest.mark.parametrize("client", ["203.0.113.127", "203.0.112.255", "192.0.2.199", "192.0.2.201"])
def test_other_clients_go_direct(configured, client):
    goes(configured, udp(client=client), PICKY, 13)


def test_exempt_clients_need_the_flag(configured):
    goes(configured, udp(client="192.0.2.200"), REMOTE_A, 1)


def test_everything_at_once_below_a_shared_remote(configured):
    def stay(recipe, reason):
        stays(configured, recipe, POP_SHARED, 14, reason, source=SHARED_PICKY)

    stay(from_port(27016), "KEPT_SERVER_PORT")
    stay(udp(QUERY + b"\x45"), "KEPT_EXEMPT_QUERY")
    stay(udp(client="203.0.113.200"), "KEPT_EXEMPT_CLIENT")
    goes(configured, udp(), POP_SHARED, 14, source=SHARED_PICKY, public=SHARED_PICKY)
