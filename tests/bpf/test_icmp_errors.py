# SPDX-License-Identifier: MIT
"""ICMP errors of the game server: the packet they quote is readdressed too, or they stay on the tunnel."""

import struct

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Raw
from scapy.utils import checksum

from checks import check, check_with_oracle
from packets import *  # pylint: disable=wildcard-import,unused-wildcard-import

ERRORS = {
    "port unreachable": ICMP(type=3, code=3),
    "fragmentation needed": ICMP(type=3, code=4, nexthopmtu=1400),
    "source quench": ICMP(type=4, code=0),
    "redirect": ICMP(type=5, code=1, gw="198.51.100.3"),
    "time exceeded": ICMP(type=11, code=1),
    "parameter problem": ICMP(type=12, code=0, ptr=20),
}


def client_udp(server, payload=b"request of the client", **fields):
    return bytes(IP(src=CLIENT, dst=server, id=99, ttl=55) /
                 UDP(sport=51000, dport=27015, **fields) / Raw(payload))


def client_udp_options(server):
    return bytes(IP(src=CLIENT, dst=server, id=99, options=OPTIONS) /
                 UDP(sport=51000, dport=27015) / Raw(b"request"))


def client_tcp(server):
    return bytes(IP(src=CLIENT, dst=server, id=98, flags="DF") /
                 TCP(sport=51001, dport=27015, flags="S", options=[("MSS", 1460)]) / Raw(b"data"))


def client_echo(server):
    return bytes(IP(src=CLIENT, dst=server, id=97) / ICMP(type=8, id=1, seq=2) / Raw(b"ping"))


def turned(recipe):
    """One of the server's packets the other way round: the checksums do not mind the order."""
    def make(server):
        packet = bytearray(recipe(server))
        packet[12:16], packet[16:20] = packet[16:20], packet[12:16]
        return bytes(packet)
    return make


REQUESTS = {
    "udp": client_udp,
    "udp with checksum 0": lambda server: client_udp(server, chksum=0),
    "udp with options": client_udp_options,
    "tcp": client_tcp,
    "icmp": client_echo,
    "udp-lite": turned(udplite()),
    "dccp": turned(dccp()),
    "unknown protocol": turned(other(253)),
}


def error(icmp, quote, **ip):
    """The server's error; `quote` is a function of the server's address, like the whole."""
    return lambda server: bytes(IP(src=server, dst=CLIENT, id=5, tos=0xc0, **ip) / icmp / Raw(quote(server)))


def quoting(recipe, payload=None):
    """The request, or its header and the first bytes of its payload, unaware of the cut as in real life."""
    def make(server):
        whole = recipe(server)
        return whole[:None if payload is None else (whole[0] & 15) * 4 + payload]
    return make


def check_direct(runner, recipe):
    expected = recipe(REMOTE_A)
    check(runner, tunnelled(recipe(PRIVATE)), direct(expected), {(1, "direct"): (1, len(expected))})


def check_kept(runner, recipe):
    frame = tunnelled(recipe(PRIVATE))
    check(runner, frame, frame, {(1, "KEPT_ICMP_ERROR"): 1})


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("kind", ERRORS)
def test_whole_quote(configured, kind, name):
    check_direct(configured, error(ERRORS[kind], quoting(REQUESTS[name])))


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("kind", ERRORS)
def test_quote_of_8_bytes(configured, kind, name):
    """All that RFC 792 asks for: no TCP checksum in it."""
    check_direct(configured, error(ERRORS[kind], quoting(REQUESTS[name], 8)))


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("payload", range(25))
def test_quote_of_any_length(configured, name, payload):
    """Half a checksum is not rewritten; everything else is."""
    recipe = error(ERRORS["port unreachable"], quoting(REQUESTS[name], payload))
    half = {"tcp": 17, "icmp": None, "unknown protocol": None}.get(name, 7)
    (check_kept if payload == half else check_direct)(configured, recipe)


@pytest.mark.parametrize("name,payload", [("udp", 7), ("tcp", 17), ("dccp", 7)])
def test_other_half_of_a_checksum_is_not_in_the_padding(configured, name, payload):
    packet = error(ERRORS["port unreachable"], quoting(REQUESTS[name], payload))(PRIVATE)
    frame = tunnelled(packet, padding=b"\x11" * 6)
    check(configured, frame, frame, {(1, "KEPT_ICMP_ERROR"): 1})


@pytest.mark.parametrize("name,payload", [("udp", 6), ("tcp", 16), ("icmp", 0)])
def test_checksum_is_not_in_the_padding(configured, name, payload):
    recipe = error(ERRORS["port unreachable"], quoting(REQUESTS[name], payload))
    padding = b"\x11" * 6
    check(configured, tunnelled(recipe(PRIVATE), padding=padding),
          direct(recipe(REMOTE_A), padding=padding), {(1, "direct"): (1, len(recipe(REMOTE_A)))})


@pytest.mark.parametrize("kind", ERRORS)
def test_error_with_options(configured, kind):
    check_direct(configured, error(ERRORS[kind], quoting(client_tcp), options=OPTIONS))


def test_options_in_both(configured):
    check_direct(configured, error(ERRORS["time exceeded"], quoting(
        lambda server: bytes(IP(src=CLIENT, dst=server, options=[b"\x01"] * 40) / TCP() / b"x")),
        options=[b"\x01"] * 40))


def test_quoted_udp_checksum_that_comes_out_as_0(configured):
    """In the quote as well, 0 would mean that there is none."""
    sent = client_udp(REMOTE_A, b"\0\0")
    payload = sent[26:28]
    assert client_udp(REMOTE_A, payload)[26:28] == b"\xff\xff"
    check_direct(configured, error(ERRORS["port unreachable"], lambda server: client_udp(server, payload)))


def test_quoted_first_fragment(configured):
    check_direct(configured, error(ERRORS["time exceeded"], lambda server: pieces(
        client_udp(server, bytes(3000)), 1456)[0][:548]))


def test_extension_behind_a_padded_quote(configured):
    """RFC 4884: the quote is padded to 128 bytes, an extension with a checksum of its own follows."""
    extension = bytes.fromhex("2000dfff") + bytes.fromhex("00080101c0000201")

    def quote(server):
        return client_udp(server).ljust(128, b"\0") + extension
    check_direct(configured, error(ICMP(type=11, code=0, length=32), quote))


KEPT = {
    "no quote": lambda server: b"",
    "header cut": lambda server: client_udp(server)[:19],
    "options cut": lambda server: client_udp_options(server)[:31],
    "version 6": lambda server: b"\x65" + client_udp(server)[1:],
    "header length 4": lambda server: b"\x44" + client_udp(server)[1:],
    "other destination": lambda server: client_udp("192.0.2.77"),
    "sent by the server itself": lambda server: udp()(server),
    "later fragment": lambda server: pieces(client_udp(server, bytes(3000)), 1456)[1][:548],
}


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("kind", ERRORS)
def test_quote_that_cannot_be_rewritten(configured, kind, name):
    check_kept(configured, error(ERRORS[kind], KEPT[name]))


@pytest.mark.parametrize("name", [*KEPT, *REQUESTS])
def test_public_address_on_the_server_needs_no_rewriting(configured, name):
    packet = error(ERRORS["port unreachable"], {**REQUESTS, **KEPT}[name])(PUBLIC_C)
    check(configured, tunnelled(packet, POP_C), direct(packet), {(4, "direct"): (1, len(packet))})


@pytest.mark.parametrize("name", REQUESTS)
def test_wrong_checksums_stay_wrong(configured, name):
    """All three are ours to move, not to judge."""
    frame = bytearray(tunnelled(error(ERRORS["port unreachable"], REQUESTS[name])(PRIVATE)))
    frame[34 + 22] ^= 0x11  # of the ICMP message
    frame[34 + 28 + 10] ^= 0x33  # of the quoted header
    frame[-1] ^= 0x44  # quoted payload
    assert check_with_oracle(configured, bytes(frame)).counted.keys() == {(1, "direct")}


@pytest.mark.parametrize("remote,slot,reason", [
    (SHADOWED, 2, "KEPT_SHADOW"), (DRAINED, 3, "KEPT_MODE_TUNNEL"),
    (STRANGER_REMOTE, 0, "KEPT_NO_ENTRY")])
def test_modes_come_first(configured, remote, slot, reason):
    frame = tunnelled(error(ERRORS["port unreachable"], client_udp)(PRIVATE), remote)
    check(configured, frame, frame, {(slot, reason): 1})


def message(kind, payload):
    """Any ICMP type, with a right checksum."""
    packet = bytearray(bytes(ICMP(type=8, chksum=0) / Raw(payload)))
    packet[0] = kind
    struct.pack_into("!H", packet, 2, checksum(bytes(packet)))
    return bytes(packet)


@pytest.mark.parametrize("kind", range(256))
def test_only_errors_quote(configured, kind):
    """Other types have a payload of their own, which may look like a quote and is not touched."""
    def recipe(server):
        quoted = server if kind in (3, 4, 5, 11, 12) else PRIVATE
        return bytes(IP(src=server, dst=CLIENT, proto=1) / Raw(message(kind, client_udp(quoted))))
    check_direct(configured, recipe)
