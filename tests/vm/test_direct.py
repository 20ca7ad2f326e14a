# SPDX-License-Identifier: MIT
"""The main job: three namespaces behind three remotes; every reply reaches the client straight."""

import os
import socket

import pytest

import agent
import topology
import traffic

SERVERS = 3


@pytest.fixture(scope="module")
def world():
    with topology.World(pops=2) as made:
        for n in range(1, SERVERS + 1):
            made.add_server(n, pop=1 + n % 2)
        yield made


@pytest.fixture
def direct(world):
    """The agent runs; afterwards nothing of it is left."""
    with agent.Agent():
        yield
    agent.detach()


def delta(world, before):
    return {name: packets - before[name] for name, packets in world.counters().items()}


def each_server(world):
    return [world.servers[n] for n in range(1, SERVERS + 1)]


def exchange(world, **server_options):
    """One request and reply with each server; the answers and their sources are right."""
    for server in each_server(world):
        with traffic.UdpServer(server, **server_options), traffic.udp_client(world) as client:
            answer, peer = traffic.udp_ask(client, server.public, b"are you there?")
            assert peer == (server.public, traffic.PORT)
            yield answer


def assert_all_direct(world, before, least=SERVERS):
    seen = delta(world, before)
    assert seen["host_ipip"] == 0, seen
    assert seen["host_direct"] >= least, seen


def test_without_the_agent_replies_pass_the_pop(world):
    before = world.counters()
    assert list(exchange(world)) == [b"are you there?"] * SERVERS
    seen = delta(world, before)
    assert seen["host_ipip"] == SERVERS and seen["host_direct"] == 0, seen


def test_udp(world, direct):
    before = world.counters()
    assert list(exchange(world)) == [b"are you there?"] * SERVERS
    assert_all_direct(world, before)


def test_udp_with_checksum_0(world, direct):
    before = world.counters()
    assert list(exchange(world, checksum=False)) == [b"are you there?"] * SERVERS
    assert_all_direct(world, before)


def test_udp_reply_in_fragments(world, direct):
    big = os.urandom(4000)
    before = world.counters()
    assert list(exchange(world, reply=lambda data: big)) == [big] * SERVERS
    assert_all_direct(world, before, least=3 * SERVERS)


def test_tcp_20_megabytes(world, direct):
    before = world.counters()
    for server in each_server(world):
        with traffic.TcpServer(server, 20_000_000) as sender:
            size, digest, peer = traffic.tcp_fetch(world, server.public)
        assert (size, digest) == (20_000_000, sender.digest)
        assert peer == (server.public, traffic.PORT)
    # Whole super-packets cross a veth pair, so these are far fewer than 20 MB / MSS.
    assert_all_direct(world, before, least=3 * SERVERS)


def test_ping(world, direct):
    before = world.counters()
    for server in each_server(world):
        source, _seconds = traffic.ping(world, server.public)
        assert source == server.public
    assert_all_direct(world, before)


def test_status_and_map_tell_the_truth(world, direct):
    status = agent.status()
    assert status["agent"]["state"] == "ok", status["agent"]
    mapped = {t["netns"]: t["game_server_ips"] for t in status["tunnels"] if t["state"] == "mapped"}
    assert mapped == {s.netns: [s.public] for s in each_server(world)}
    assert [i["name"] for i in status["interfaces"]] == ["eth0"]
    with agent.Remotes() as remotes:
        for server in each_server(world):
            assert remotes.get(server.remote) == agent.model_a(server.public)


def test_the_client_sees_only_the_public_address(world, direct):
    """A raw socket at the client takes every UDP packet there is: none has a private source."""
    sniffer = world.client_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    with sniffer:
        list(exchange(world))
        sniffer.setblocking(False)
        sources = set()
        while True:
            try:
                sources.add(sniffer.recvfrom(65536)[1][0])
            except BlockingIOError:
                break
    assert sources == {s.public for s in each_server(world)}


def test_detach_gives_the_pop_its_packets_back(world):
    with agent.Agent():
        pass
    agent.detach()
    before = world.counters()
    list(exchange(world))
    seen = delta(world, before)
    assert seen["host_ipip"] == SERVERS and seen["host_direct"] == 0, seen
