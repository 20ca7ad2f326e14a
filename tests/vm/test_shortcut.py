# SPDX-License-Identifier: MIT
"""The way past the route look-up: an agent opens it and keeps it true, and it closes with its death.

With forwarding off on eth0 the FIB refuses to answer, so what still goes direct went without. Requests would be refused
too: the server speaks unasked.
"""

import os
import socket

import pytest

import agent
import topology
import traffic


@pytest.fixture(scope="module")
def world():
    with topology.World("A") as made:
        yield made


@pytest.fixture
def running(world):
    forwarding(True)
    with agent.Agent() as started:
        yield started
    forwarding(True)
    agent.detach()


def forwarding(on):
    topology.run("sysctl", "-qw", f"net.ipv4.conf.eth0.forwarding={int(on)}")


def next_hop():
    (interface,) = agent.status()["interfaces"]
    return interface["next_hop"]


def way_of_a_packet(world):
    """"direct" or "tunnel"; the client got it, from the public address, either way."""
    server, before = world.servers[1], world.counters()
    with traffic.udp_client(world) as client, server.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        client.bind((topology.CLIENT, 0))
        sender.bind((server.inner, traffic.PORT))
        sender.sendto(b"unasked", client.getsockname())
        assert client.recvfrom(100) == (b"unasked", (server.public, traffic.PORT))
    after = world.counters()
    ways = {name: after[name] - before[name] for name in ("host_ipip", "host_direct")}
    assert sorted(ways.values()) == [0, 1], ways
    return "direct" if ways["host_direct"] else "tunnel"


def parts():
    return [pin for pin in os.listdir(agent.PINS) if pin.startswith("jumps_")]


def test_an_agent_needs_no_fib_once_it_has_learned(world, running):
    assert next_hop() == "shortcut"
    assert way_of_a_packet(world) == "direct"
    forwarding(False)
    assert way_of_a_packet(world) == "direct"


def test_nothing_is_believed_of_a_dead_agent(world, running):
    assert way_of_a_packet(world) == "direct"
    forwarding(False)
    assert way_of_a_packet(world) == "direct"
    running.kill()
    topology.wait_for(lambda: way_of_a_packet(world) == "tunnel", "the kernel has closed the way")
    forwarding(True)
    assert way_of_a_packet(world) == "direct", "the FIB answers, agent or not"


def test_a_new_agent_learns_anew(world, running):
    assert way_of_a_packet(world) == "direct"
    running.kill()
    forwarding(False)
    with agent.Agent():
        assert len(parts()) == 1, "those of the former program are gone"
        assert way_of_a_packet(world) == "tunnel"
        forwarding(True)
        assert way_of_a_packet(world) == "direct"
        forwarding(False)
        assert way_of_a_packet(world) == "direct"


def test_routing_rules_close_it(world, running):
    assert way_of_a_packet(world) == "direct"
    topology.run("ip", "rule", "add", "fwmark", "1", "lookup", "77", "pref", "77")
    try:
        topology.wait_for(lambda: next_hop() == "routing-rules", "the agent has seen the rule")
        forwarding(False)
        assert way_of_a_packet(world) == "tunnel"
        forwarding(True)
        assert way_of_a_packet(world) == "direct"
    finally:
        topology.run("ip", "rule", "del", "pref", "77")
    topology.wait_for(lambda: next_hop() == "shortcut", "and that it is gone")


def test_a_route_to_the_client_closes_it(world, running):
    assert way_of_a_packet(world) == "direct"
    forwarding(False)
    topology.run("ip", "route", "add", "198.51.100.0/24", "via", topology.GATEWAY)
    try:
        agent.resync()
        assert way_of_a_packet(world) == "tunnel"
    finally:
        topology.run("ip", "route", "del", "198.51.100.0/24")
        forwarding(True)


def test_a_route_closes_it_while_passes_fail(world, running):
    """For a row that cannot be written: what comes after it in a pass is not done, and the program is not told of the route."""
    assert way_of_a_packet(world) == "direct"
    topology.run("bpftool", "map", "freeze", "pinned", f"{agent.PINS}/v1/remotes")
    topology.run("ip", "netns", "add", "more")
    try:
        topology.run("ip", "-n", "more", "link", "add", "tun0", "type", "ipip", "remote", "45.0.0.9", "local", "10.9.77.2")
        topology.wait_for(lambda: any("the last pass failed" in text for text in agent.status()["agent"]["problems"]), "it fails")
        forwarding(False)
        topology.run("ip", "route", "add", "198.51.100.0/24", "via", topology.GATEWAY)
        topology.wait_for(lambda: way_of_a_packet(world) == "tunnel", "the FIB is asked")
        topology.wait_for(lambda: next_hop() == "unread", "it is told")
    finally:
        topology.run("ip", "netns", "delete", "more")
        topology.run("ip", "route", "del", "198.51.100.0/24", check=False)


def test_a_row_that_changes_leaves_the_short_way(world, running):
    """Deleted with its namespace's tunnel, the row is gone from every table."""
    assert way_of_a_packet(world) == "direct"
    server = world.servers[1]
    topology.run("ip", "-n", server.netns, "link", "set", "tun0", "type", "ipip", "remote", "198.51.100.77")
    with agent.Remotes() as remotes:
        remotes.wait(server.remote, None)
        topology.run("ip", "-n", server.netns, "link", "set", "tun0", "type", "ipip", "remote", server.remote)
        remotes.wait(server.remote, agent.model_a(server.public))
    assert way_of_a_packet(world) == "direct"
