# SPDX-License-Identifier: MIT
"""The short way through the program: when it is taken, when it is not, and what it must not believe.

All other tests of this folder run with an agent too, and so through it. Here the FIB is made to refuse, by turning
forwarding off: what goes direct nevertheless went the short way.
"""

import struct

import pytest
from scapy.layers.inet import IP, in4_chksum

import datapath
from packets import *  # pylint: disable=wildcard-import,unused-wildcard-import
from test_contract import DIRECT

ROUTED = "198.51.100.0/24"
SHORT = {name: DIRECT[name] for name in DIRECT if name.startswith(("udp", "tcp")) and "lite" not in name
         and "options" not in name}


@pytest.fixture
def without_fib(namespace):
    namespace.sysctl("net/ipv4/conf/uplink/forwarding", 0)
    yield
    namespace.sysctl("net/ipv4/conf/uplink/forwarding", 1)


@pytest.fixture
def with_agent(runner):
    """An agent whose program has learned the gateway."""
    runner.configure(CONFIG, agent=True)
    assert goes_direct(runner)
    return runner


def goes_direct(runner, recipe=udp(), remote=REMOTE_A, server=PRIVATE, **frame):
    verdict, out, counted = runner.run(tunnelled(recipe(server), remote, **frame))
    assert verdict == datapath.TC_ACT_UNSPEC
    if out == direct(recipe(CONFIG.remotes[remote].game_server_ip)):
        return True
    assert out == tunnelled(recipe(server), remote, **frame)
    assert list(counted) == [(CONFIG.remotes[remote].slot, "KEPT_NO_NEXT_HOP")]
    return False


@pytest.mark.parametrize("name", SHORT)
def test_short_way_needs_no_fib(with_agent, without_fib, name):
    assert goes_direct(with_agent, SHORT[name])


@pytest.mark.parametrize("remote,server", [(POP_C, PUBLIC_C), (POP_RULE, PRIVATE), (REMOTE_A, "10.9.8.7"), (REMOTE_P, REMOTE_P),
                                           *[(REMOTE_P, source) for source in PRIVATE_EDGES]])
def test_short_way_of_other_servers(with_agent, without_fib, remote, server):
    assert goes_direct(with_agent, remote=remote, server=server)


@pytest.mark.parametrize("recipe", [udp(options=OPTIONS), icmp_echo(), udplite(), other(50)])
def test_other_packets_need_no_fib_either(with_agent, without_fib, recipe):
    assert goes_direct(with_agent, recipe)


def test_nothing_is_believed_without_an_agent(with_agent, without_fib):
    with_agent.ask("alive", 0)
    assert not goes_direct(with_agent)
    with_agent.ask("alive", 1)
    assert goes_direct(with_agent)


def test_other_next_hop_of_the_pop_asks_the_fib(with_agent, without_fib):
    """The POP is on-link, or behind another router; the client is not."""
    assert not goes_direct(with_agent, ether=Ether(dst=datapath.NEIGHBOUR_MAC, src=datapath.UP_MAC))


def test_routed_client_asks_the_fib(with_agent, without_fib):
    assert not goes_direct(with_agent, udp(client=datapath.NEIGHBOUR))


def test_route_that_the_agent_has_told(with_agent, without_fib):
    with_agent.ask("uplink", "uplink", datapath.GATEWAY, ",".join((*datapath.ROUTES, f"{CLIENT}/32")))
    assert not goes_direct(with_agent)


def test_what_was_learned_from_former_routes_is_not_believed(with_agent, namespace):
    with_agent.ask("uplink", "uplink", datapath.GATEWAY, ",".join(datapath.ROUTES))
    namespace.sysctl("net/ipv4/conf/uplink/forwarding", 0)
    try:
        assert not goes_direct(with_agent)
    finally:
        namespace.sysctl("net/ipv4/conf/uplink/forwarding", 1)
    assert goes_direct(with_agent)


def test_another_interface_is_not_meant(with_agent, without_fib):
    with_agent.ask("uplink", "wire", datapath.GATEWAY, ",".join(datapath.ROUTES))
    assert goes_direct(with_agent)
    with_agent.ask("clear")
    with_agent.configure(CONFIG, agent=True)
    with_agent.ask("clear")
    with_agent.ask("remote", REMOTE_A, REMOTE_A, 1, 0, 0)
    with_agent.ask("uplink", "wire", datapath.GATEWAY, ",".join(datapath.ROUTES))
    assert not goes_direct(with_agent)


# ---- checksums

def with_check(recipe, server, check_at, wanted):
    """Two bytes of payload that make the checksum of recipe(bytes)(server) come out as `wanted`."""
    check, = struct.unpack_from("!H", recipe(b"\0\0")(server), check_at)
    return struct.pack("!H", (check - wanted) % 0xffff)


@pytest.mark.parametrize("recipe,protocol,check_at", [(udp, 17, 26), (tcp, 6, 36)])
def test_finished_checksum_that_looks_unfinished(with_agent, without_fib, recipe, protocol, check_at):
    """It equals the sum of its pseudo header, which is what CHECKSUM_PARTIAL would have there."""
    length = len(recipe(b"\0\0")(PRIVATE)) - 20
    pseudo = ~in4_chksum(protocol, IP(src=PRIVATE, dst=CLIENT, len=20 + length, ihl=5), b"") & 0xffff
    payload = with_check(recipe, PRIVATE, check_at, pseudo)
    assert struct.unpack_from("!H", recipe(payload)(PRIVATE), check_at) == (pseudo,)
    assert goes_direct(with_agent, recipe(payload))


@pytest.mark.parametrize("change", range(0, 0x10000, 257))
def test_every_kind_of_carry(with_agent, without_fib, change):
    server = f"10.{change >> 8}.{change & 255}.2"
    for recipe in (udp(bytes([change & 255])), tcp(bytes([change >> 8]))):
        assert goes_direct(with_agent, recipe, server=server)


# ---- parts of the program that are missing

def test_no_parts_and_no_agent(runner):
    runner.configure(CONFIG)
    runner.ask("forward", 0)
    try:
        frame = tunnelled(udp()(PRIVATE))
        assert runner.run(frame) == (
            datapath.TC_ACT_UNSPEC, frame, {(datapath.SLOT_NONE, "KEPT_NO_PROGRAM"): 1})
    finally:
        runner.ask("forward", 1)


def test_no_parts_for_a_packet_that_needs_them(with_agent):
    with_agent.ask("forward", 0)
    try:
        frame = tunnelled(icmp_echo()(PRIVATE))
        assert with_agent.run(frame) == (
            datapath.TC_ACT_UNSPEC, frame, {(datapath.SLOT_NONE, "KEPT_NO_PROGRAM"): 1})
    finally:
        with_agent.ask("forward", 1)


@pytest.mark.parametrize("name", SHORT)
def test_stripped_packet_is_finished_without_them(with_agent, name):
    """Too late to leave it to the tunnel."""
    with_agent.ask("forward", 0)
    try:
        expected = SHORT[name](REMOTE_A)
        assert with_agent.run(tunnelled(SHORT[name](PRIVATE))) == (
            datapath.TC_ACT_UNSPEC, direct(expected), {(1, "direct"): (1, len(expected))})
    finally:
        with_agent.ask("forward", 1)


# ---- many remotes

def test_more_remotes_than_a_bucket_holds(runner, namespace):
    """Those that find no room in front are served from the map."""
    remotes = [f"198.18.{n >> 6}.{n & 63}" for n in range(1, 250)]
    runner.configure(CONFIG, agent=True)
    for remote in remotes:
        runner.ask("remote", remote, "192.0.2.99", 20, 0, 0)
    for _ in range(2):
        for remote in remotes:
            frame = tunnelled(udp()(PRIVATE), remote)
            assert runner.run(frame)[1] == direct(udp()("192.0.2.99")), remote
