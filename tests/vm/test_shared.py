# SPDX-License-Identifier: MIT
"""Several game servers behind one remote."""

import json
import socket
import struct
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
            for server in servers:
                assert traffic.way_of_a_reply(world, server) == "direct"
        agent.detach()


def test_one_that_is_not_served_does_not_leave_with_the_others_address():
    with topology.World("CC") as world:
        first, second = world.servers.values()
        with open("/tmp/one.json", "w", encoding="utf-8") as file:
            json.dump({"rules": [{"match": {"netns": second.netns}, "set": {"trust": False}}]}, file)
        with agent.Agent("--config", "/tmp/one.json"):
            assert traffic.way_of_a_reply(world, first) == "direct"
            assert traffic.way_of_a_reply(world, second) == "tunnel"
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
            assert traffic.way_of_a_reply(world, pair[0]) == "tunnel"
            assert traffic.way_of_a_reply(world, third) == "direct", "the third is not blocked by the pair"
        agent.detach()


def send_ipip(remote, source):
    """As a virtual machine's own tunnel would: no device of this host's is asked."""
    payload = b"a reply"
    udp = struct.pack("!HHHH", traffic.PORT, 9, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, socket.IPPROTO_UDP, 0, socket.inet_aton(source),
                       socket.inet_aton(topology.CLIENT))
    head = head[:10] + struct.pack("!H", traffic.internet_checksum(head)) + head[12:]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IPIP) as sender:
        sender.sendto(head + udp, (remote, 0))


def test_what_nobody_sees_the_tunnel_of_is_not_taken_for_the_servers():
    with topology.World("C") as world:
        server = world.servers[1]
        with agent.Agent():
            assert agent.map_now() == world.rows()
            assert traffic.way_of_a_reply(world, server) == "direct"
            for source, counter in (("203.0.113.77", "host_ipip"), (server.public, "host_direct")):
                before = world.counters()
                send_ipip(server.remote, source)
                topology.wait_for(lambda: world.counters() != before, "it reaches the gateway")
                after = world.counters()
                assert {name for name in ("host_ipip", "host_direct") if after[name] > before[name]} == {counter}
            (entry,) = agent.live_entries()
            assert entry["counters"]["kept"]["no-source"] == 1
        agent.detach()


def explain(*words):
    """(exit status, document)"""
    done = subprocess.run([agent.CTL, "-j", "explain", *words], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout)


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
            assert traffic.way_of_a_reply(world, some) == "direct"
            assert {entry["tunnel"]["ifname"] for entry in agent.status()["entries"] if entry["tunnel"]} == {"tun0"}
            code, document = explain(twofold.netns, "tun1")
            assert (code, document["direct"]) == (0, True), document
            assert traffic.way_of_a_reply(world, twofold) == "direct"
        agent.detach()
