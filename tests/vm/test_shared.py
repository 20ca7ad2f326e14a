# SPDX-License-Identifier: MIT
"""Several game servers behind one remote."""

import json
import subprocess

import agent
import topology
import traffic


def test_each_answers_with_its_own_address():
    with topology.World("CC") as world:
        servers = list(world.servers.values())
        assert servers[0].remote == servers[1].remote
        with agent.Agent():
            with agent.Remotes() as remotes:
                flag_shared = 1
                assert remotes.get(servers[0].remote) == ("0.0.0.0", flag_shared)
            before = world.counters()
            for server in servers:
                with traffic.UdpServer(server), traffic.udp_client(world) as client:
                    _, peer = traffic.udp_ask(client, server.public)
                    assert peer == (server.public, traffic.PORT)
            after = world.counters()
            assert after["host_ipip"] == before["host_ipip"]
            assert after["host_direct"] - before["host_direct"] == 2
        agent.detach()


def way_of_a_reply(world, server):
    before = world.counters()
    with traffic.UdpServer(server), traffic.udp_client(world) as client:
        _, peer = traffic.udp_ask(client, server.public)
    after = world.counters()
    assert peer == (server.public, traffic.PORT)
    return {name for name in ("host_ipip", "host_direct") if after[name] > before[name]}


def test_one_that_is_not_served_does_not_leave_with_the_others_address():
    with topology.World("CC") as world:
        first, second = world.servers.values()
        with open("/tmp/one.json", "w", encoding="utf-8") as file:
            json.dump({"rules": [{"match": {"netns": second.netns}, "set": {"trust": False}}]}, file)
        with agent.Agent("--config", "/tmp/one.json"):
            assert way_of_a_reply(world, first) == {"host_direct"}
            assert way_of_a_reply(world, second) == {"host_ipip"}
        agent.detach()


def test_a_pair_that_cannot_be_told_apart_stays_on_the_tunnel():
    with topology.World("CCC") as world:
        *pair, third = world.servers.values()
        # The second claims the first one's address besides its own.
        topology.run("ip", "-n", pair[1].netns, "address", "add", f"{pair[0].public}/32", "dev", "tun0")
        config = '{"rules": [{"match": {"netns": "g[12]"}, "set": {"game_server_ip": "%s"}}]}'
        with open("/tmp/pair.json", "w", encoding="utf-8") as file:
            file.write(config % "203.0.113.77")
        with agent.Agent("--config", "/tmp/pair.json"):
            status = agent.status()
            states = {t["netns"]: (t["state"], t["reason"]) for t in status["tunnels"]
                      if t["ifname"] == "tun0"}
            assert states["g3"] == ("mapped", None)
            assert states["g1"][0] == states["g2"][0] == "conflict"
            assert status["agent"]["state"] == "degraded"
            assert "2 tunnels in conflict, wholly or partly on the tunnel path" in status["agent"]["problems"]
            before = world.counters()
            with traffic.UdpServer(pair[0]), traffic.udp_client(world) as client:
                _, peer = traffic.udp_ask(client, pair[0].public)
                assert peer == (pair[0].public, traffic.PORT)
            middle = world.counters()
            assert middle["host_ipip"] - before["host_ipip"] == 1, "the pair's packets use the tunnel"
            assert middle["host_direct"] == before["host_direct"]
            with traffic.UdpServer(third), traffic.udp_client(world) as client:
                _, peer = traffic.udp_ask(client, third.public)
                assert peer == (third.public, traffic.PORT)
            after = world.counters()
            assert after["host_ipip"] == middle["host_ipip"], "the third is not blocked by the pair"
            assert after["host_direct"] - middle["host_direct"] == 1
        agent.detach()


def explain(*words):
    """(exit status, document)"""
    done = subprocess.run([agent.CTL, "-j", "explain", *words], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout)


def ask(world, server):
    """How many packets of an answer went direct, and over the POP."""
    before = world.counters()
    with traffic.UdpServer(server), traffic.udp_client(world) as client:
        assert traffic.udp_ask(client, server.public)[1] == (server.public, traffic.PORT)
    after = world.counters()
    return after["host_direct"] - before["host_direct"], after["host_ipip"] - before["host_ipip"]


def test_explain_says_what_becomes_of_the_packets():
    """One of two addresses is not allowed; and two tunnels of a namespace have one row, which names but the first."""
    with topology.World("CA") as world:
        some, twofold = world.servers.values()
        topology.run("ip", "-n", some.netns, "address", "add", "203.0.113.200/32", "dev", "tun0")
        topology.run("ip", "-n", twofold.netns, "-batch", "-", text_in="\n".join([
            "address add 10.9.2.9/24 dev eth0", f"link add tun1 type ipip remote {twofold.remote} local 10.9.2.9",
            f"address add {twofold.inner}/32 dev tun1", "link set tun1 up", "route replace default dev tun1"]) + "\n")
        with open("/tmp/allowed.json", "w", encoding="utf-8") as file:
            file.write('{"allowed_game_server_ips": ["203.0.113.0/25"]}')
        with agent.Agent("--config", "/tmp/allowed.json"):
            code, document = explain(some.netns)
            assert (code, document["still_direct"]) == (4, "some"), document
            assert ask(world, some) == (1, 0)
            assert {entry["tunnel"]["ifname"] for entry in agent.status()["entries"] if entry["tunnel"]} == {"tun0"}
            code, document = explain(twofold.netns, "tun1")
            assert (code, document["direct"]) == (0, True), document
            assert ask(world, twofold) == (1, 0)
        agent.detach()
