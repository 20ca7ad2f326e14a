# SPDX-License-Identifier: MIT
"""The edges of policy: every letter with every flag, payloads out of reach, nested prefixes, order."""

import contextlib
import os
import re

import pytest

import datapath
import oracle
import wire
from packets import *  # pylint: disable=wildcard-import,unused-wildcard-import
from test_contract import sctp
from test_icmp_errors import ERRORS, client_udp, error
from test_wire import BIG, exchange, inside, link, super_packet  # pylint: disable=unused-import

LETTERS = frozenset(datapath.FLAG_EXEMPT)
ONE_LETTER = {letter: f"192.0.2.{40 + n}" for n, letter in enumerate(sorted(LETTERS))}
ALL_LETTERS, SERVER, NETS, SHADOWED_ALL, DRAINED_ALL = (f"192.0.2.{n}" for n in range(50, 55))
EXEMPT = "203.0.113.41"
ALL = {"ports": ((27015, 27015),), "exempt": LETTERS, "exempt_clients": True}
EDGES = oracle.Config(
    remotes={
        **{remote: oracle.Entry(remote, slot=1 + n, exempt=frozenset((letter,)))
           for n, (letter, remote) in enumerate(ONE_LETTER.items())},
        ALL_LETTERS: oracle.Entry(ALL_LETTERS, slot=11, exempt=LETTERS),
        SERVER: oracle.Entry(SERVER, slot=12, ports=((27015, 27015), (30000, 30010))),
        NETS: oracle.Entry(NETS, slot=13, exempt_clients=True),
        SHADOWED_ALL: oracle.Entry(SHADOWED_ALL, slot=14, mode=datapath.MODE_SHADOW, **ALL),
        DRAINED_ALL: oracle.Entry(DRAINED_ALL, slot=15, mode=datapath.MODE_TUNNEL, **ALL),
    },
    exempt_clients=["203.0.113.32/27", "203.0.113.40/29", "203.0.113.41/32", "100.64.0.0/10"])


@pytest.fixture
def edges(configured):
    configured.configure(EDGES)
    return configured


def answer(letter, rest=b"the answer"):
    return b"\xff\xff\xff\xff" + bytes([letter]) + rest


def check(runner, recipe, remote, reason=None, padding=b""):
    """The oracle agrees with `reason`, None for direct, and the program with both."""
    frame = tunnelled(recipe(PRIVATE), remote, padding=padding)
    slot, packet = EDGES.remotes[remote].slot, recipe(remote)
    expected = (frame, {(slot, reason): 1}) if reason else (
        direct(packet, padding=padding), {(slot, "direct"): (1, len(packet))})
    judgement = oracle.judge(frame, EDGES)
    assert (judgement.out, judgement.counted) == expected, "the oracle is wrong"
    assert runner.run(frame) == (datapath.TC_ACT_UNSPEC, *expected)


# ---- ports

def test_sctp_has_ports(edges):
    def another(server):
        packet = bytearray(sctp(server))
        packet[20:22] = b"\x00\x50"
        return bytes(packet)

    check(edges, sctp, SERVER)
    check(edges, another, SERVER, "KEPT_SERVER_PORT")


@pytest.mark.parametrize("port,reason", [(0, "KEPT_SERVER_PORT"), (29999, "KEPT_SERVER_PORT"), (30000, None),
                                         (30010, None), (30011, "KEPT_SERVER_PORT")])
def test_ranges_that_are_not_in_use_do_not_hold_port_0(edges, port, reason):
    check(edges, udp(sport=port), SERVER, reason)


@pytest.mark.parametrize("kind", ERRORS)
def test_icmp_errors_have_no_port(edges, kind):
    """The port of the packet that is quoted is not theirs."""
    check(edges, error(ERRORS[kind], client_udp), SERVER, "KEPT_SERVER_PORT")


def test_destination_port_does_not_count(edges):
    check(edges, udp(sport=51000, dport=27015), SERVER, "KEPT_SERVER_PORT")


# ---- queries

@pytest.mark.parametrize("remote", [*ONE_LETTER.values(), ALL_LETTERS])
def test_each_letter_has_its_flag(edges, remote):
    exempt = EDGES.remotes[remote].exempt
    for letter in range(256):
        check(edges, udp(answer(letter)), remote, "KEPT_EXEMPT_QUERY" if letter in exempt else None)


@pytest.mark.parametrize("letter", sorted(LETTERS))
def test_five_bytes_are_an_answer_four_are_not(edges, letter):
    check(edges, udp(answer(letter, b"")), ALL_LETTERS, "KEPT_EXEMPT_QUERY")
    check(edges, udp(answer(letter, b"")[:4]), ALL_LETTERS)
    # Nor where Ethernet padding supplies the letter.
    check(edges, udp(answer(letter, b"")[:4]), ALL_LETTERS, padding=bytes([letter]))


def test_split_answers_are_not_exempt(edges):
    check(edges, udp(b"\xfe\xff\xff\xff" + bytes(8) + answer(0x44)), ALL_LETTERS)


@pytest.mark.parametrize("number", range(3))
def test_fragments_of_others_than_udp_are_no_answers(edges, number):
    check(edges, lambda server: pieces(tcp(bytes(3000))(server), 1456)[number], ALL_LETTERS)


@pytest.mark.parametrize("recipe", [icmp_echo(answer(0x49)), other(253, bytes(8) + answer(0x49))])
def test_other_protocols_are_no_answers(edges, recipe):
    check(edges, recipe, ALL_LETTERS)


def test_super_packets_of_tcp_are_no_answers(edges):
    """They get as far as the strip, which the runner's do not survive."""
    frame = tunnelled(tcp()(PRIVATE), ALL_LETTERS)
    assert edges.run(frame, gso_segs=2, gso_size=30) == (-1, frame, {(11, "KEPT_STRIP_FAILED"): 1})


@pytest.mark.parametrize("linear", range(14, 110, 3))
@pytest.mark.parametrize("options", [[], OPTIONS])
def test_paged_payload(link, edges, linear, options):
    """Wherever the linear part ends, the letter is found."""
    for letter, kept in ((0x49, True), (0x4a, False)):
        recipe = udp(answer(letter, BIG), options=options)
        frame = tunnelled(recipe(PRIVATE), ALL_LETTERS)
        expected = frame if kept else direct(recipe(ALL_LETTERS))
        assert exchange(link, frame, (0, 0, linear, 0, 0, 0))[1] == expected
        assert edges.counters().keys() == {(11, "KEPT_EXEMPT_QUERY" if kept else "direct")}


if tuple(map(int, re.match(r"(\d+)\.(\d+)", os.uname().release).groups())) >= (6, 2):
    # Older kernels take no UDP_L4 in a virtio header.
    def test_real_super_packets_of_udp_stay(link, edges):
        """The number of segments is not known of injected ones; their size is.

        Nor is an injected one marked as tunnelled, so the kernel may fail to segment it behind the hook.
        """
        edges.configure(oracle.Config({REMOTE_A: oracle.Entry(REMOTE_A, slot=1, exempt=LETTERS)}))
        with contextlib.suppress(OSError):
            super_packet(link, udp(BIG), 6, wire.GSO_UDP_L4, 1000, 8)
        assert edges.counters() == {(1, "KEPT_EXEMPT_QUERY"): 1}


# ---- clients

@pytest.mark.parametrize("client,exempt", [
    ("203.0.113.31", False), ("203.0.113.32", True), ("203.0.113.39", True), ("203.0.113.40", True),
    ("203.0.113.41", True), ("203.0.113.42", True), ("203.0.113.48", True), ("203.0.113.63", True),
    ("203.0.113.64", False), ("100.63.255.255", False), ("100.64.0.0", True),
    ("100.127.255.255", True), ("100.128.0.0", False)])
def test_nested_prefixes(edges, client, exempt):
    check(edges, udp(client=client), NETS, "KEPT_EXEMPT_CLIENT" if exempt else None)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("client", [CLIENT, EXEMPT])
def test_fragments_have_a_client(edges, number, client):
    check(edges, lambda server: pieces(udp(bytes(3000), client)(server), 1456)[number], NETS,
          "KEPT_EXEMPT_CLIENT" if client == EXEMPT else None)


@pytest.mark.parametrize("remote", [SERVER, ALL_LETTERS])
def test_other_flags_exempt_no_client(edges, remote):
    check(edges, udp(client=EXEMPT), remote)


@pytest.mark.parametrize("recipe", [icmp_echo(client=EXEMPT), tcp(client=EXEMPT), other(50, client=EXEMPT)])
def test_all_protocols_have_a_client(edges, recipe):
    check(edges, recipe, NETS, "KEPT_EXEMPT_CLIENT")


def test_prefix_of_everybody_and_none_at_all(edges):
    frame = tunnelled(udp()(PRIVATE), NETS)
    remotes = {NETS: EDGES.remotes[NETS]}
    edges.configure(oracle.Config(remotes, exempt_clients=["0.0.0.0/0"]))
    assert edges.run(frame) == (-1, frame, {(13, "KEPT_EXEMPT_CLIENT"): 1})
    edges.configure(oracle.Config(remotes))
    assert edges.run(frame)[2] == {(13, "direct"): (1, 79)}


# ---- order

@pytest.mark.parametrize("recipe,reason", [
    (udp(answer(0x49), EXEMPT, sport=1), "KEPT_SERVER_PORT"),
    (udp(answer(0x49), EXEMPT), "KEPT_EXEMPT_QUERY"),
    (udp(client=EXEMPT), "KEPT_EXEMPT_CLIENT"), (udp(), "KEPT_SHADOW")])
def test_between_mode_tunnel_and_mode_shadow(edges, recipe, reason):
    check(edges, recipe, SHADOWED_ALL, reason)
    check(edges, recipe, DRAINED_ALL, "KEPT_MODE_TUNNEL")


def test_before_the_next_hop(edges):
    check(edges, udp(client=datapath.STRANGER, sport=1), SERVER, "KEPT_SERVER_PORT")
    check(edges, udp(client=datapath.STRANGER), SERVER, "KEPT_NO_NEXT_HOP")
