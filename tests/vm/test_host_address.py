# SPDX-License-Identifier: MIT
"""The server is bound to the host's own public address (model B), and that leaves the host's interface for a while, as it does with
DHCP and keepalived. It has not become the server's: no reply leaves with it, whatever becomes of the agent meanwhile."""

import agent
import topology
import traffic


def reason():
    (tunnel,) = [each for each in agent.status()["tunnels"] if each["netns"] == "g1" and each["ifname"] == "tun0"]
    return tunnel["reason"] or tunnel["game_server_ip_source"]


def test_a_host_address_that_is_away(request):
    with topology.World("B") as world:
        server = world.servers[1]
        on_host = f"{server.inner}/32", "dev", "eth0"
        topology.run("ip", "address", "add", *on_host)
        request.addfinalizer(agent.detach)
        running = agent.Agent("--resync-interval", "3600")
        with traffic.UdpServer(server):
            with traffic.udp_client(world) as client:
                traffic.udp_ask(client, server.public)
            with traffic.Unharmed(world, per_second=20, all_direct=False) as replies:
                assert (replies.ways(), reason()) == ({"direct"}, "auto:remote")
                topology.run("ip", "address", "delete", *on_host)
                topology.wait_for(lambda: reason() == "addresses-unknown", "in doubt")
                topology.wait_for(lambda: replies.ways() == {"ipip"}, "left to the tunnel")
                assert any("set game_server_ip" in problem for problem in agent.status()["agent"]["problems"])
                running.kill()
                running = agent.Agent("--resync-interval", "3600")
                agent.resync()
                assert (replies.ways(), reason()) == ({"ipip"}, "addresses-unknown"), "the next one remembers"
                topology.run("ip", "address", "add", *on_host)
                topology.wait_for(lambda: reason() == "auto:remote", "it is back")
                topology.wait_for(lambda: replies.ways() == {"direct"}, "direct again")
        running.stop()
