# SPDX-License-Identifier: MIT
"""Modes, ports and exemptions on the wire, changed by SIGHUP while the program stays attached."""

import json
import signal

import pytest

import agent
import topology
import traffic

CONFIG = "/tmp/policy.json"
PORT, OTHER_PORT = 27015, 27016
A2S_INFO = b"\xff\xff\xff\xff\x49"


@pytest.fixture(scope="module")
def world():
    with topology.World("A") as made:
        write({})
        with agent.Agent("--config", CONFIG) as running:
            made.agent = running
            yield made
        agent.detach()


def write(config):
    with open(CONFIG, "w", encoding="utf-8") as file:
        json.dump(config, file)


def configure(world, config):
    """Reloads, and waits until a pass was made after it."""
    write(config)
    program = agent.status()["interfaces"][0]["program_id"]
    world.agent.process.send_signal(signal.SIGHUP)
    agent.resync()
    assert agent.status()["interfaces"][0]["program_id"] == program, "the program was reloaded"


def path_of_reply(world, port=PORT, reply=b"hello"):
    server = world.servers[1]
    before = world.counters()
    with traffic.UdpServer(server, reply=lambda data: reply, port=port), \
            traffic.udp_client(world) as client:
        answer, peer = traffic.udp_ask(client, server.public, port=port)
    assert (answer, peer) == (reply, (server.public, port))
    after = world.counters()
    seen = {name: after[name] - before[name] for name in ("host_ipip", "host_direct")}
    assert sum(seen.values()) == 1, seen
    return "tunnel" if seen["host_ipip"] else "direct"


def kept(reason):
    (entry,) = agent.live_entries()
    return entry["counters"]["kept"][reason]


def test_direct_without_any_policy(world):
    configure(world, {})
    assert path_of_reply(world) == "direct"


def test_mode_shadow_counts_and_changes_nothing(world):
    configure(world, {"mode": "shadow"})
    before = kept("shadow")
    assert path_of_reply(world) == "tunnel"
    assert kept("shadow") == before + 1


def test_mode_tunnel_drains(world):
    configure(world, {"mode": "tunnel"})
    before = kept("mode-tunnel")
    assert path_of_reply(world) == "tunnel"
    assert kept("mode-tunnel") == before + 1


def test_server_ports(world):
    configure(world, {"server_ports": [PORT]})
    before = kept("server-port")
    assert path_of_reply(world, PORT) == "direct"
    assert path_of_reply(world, OTHER_PORT) == "tunnel"
    assert kept("server-port") == before + 1
    configure(world, {"server_ports": ["27000-27015", "27016-27100"]})
    assert path_of_reply(world, OTHER_PORT) == "direct"


def test_exempt_queries(world):
    configure(world, {"exempt": ["a2s-info"]})
    before = kept("exempt-query")
    assert path_of_reply(world, reply=A2S_INFO + b"name\0map\0") == "tunnel"
    assert path_of_reply(world, reply=b"\xff\xff\xff\xff\x44players") == "direct"
    assert path_of_reply(world, reply=A2S_INFO[:4]) == "direct"
    assert kept("exempt-query") == before + 1


def test_exempt_clients(world):
    configure(world, {"exempt_clients": [topology.CLIENT + "/32"]})
    before = kept("exempt-client")
    assert path_of_reply(world) == "tunnel"
    assert kept("exempt-client") == before + 1
    configure(world, {"exempt_clients": ["192.0.2.0/24"]})
    assert path_of_reply(world) == "direct"


def test_a_bad_reload_changes_nothing_and_says_so(world):
    configure(world, {"mode": "shadow"})
    configure(world, {"mode": "sideways"})
    assert path_of_reply(world) == "tunnel"
    problems = agent.status()["agent"]["problems"]
    assert any("mode: expected" in problem for problem in problems), problems
    configure(world, {})
    assert path_of_reply(world) == "direct"
    assert agent.status()["agent"]["state"] == "ok"
