# SPDX-License-Identifier: MIT
"""A game server's public address (model C) comes to the tunnel's device later than the device, or is away for a moment. In between
the device looks like one of model A, whose packets leave with the remote's address: that is the POP's here, and no reply may."""

import agent
import topology
import traffic


def row(server):
    (found,) = [each for each in agent.live_entries() if each["remote"] == server.remote]
    return found["game_server_ip"], found["own_source"], found["private_source"]


def test_the_address_is_away_when_the_agent_ends(request):
    """So the row of in between stays, for as long as nobody is there to see the address again."""
    with topology.World("C") as world:
        server = world.servers[1]
        request.addfinalizer(agent.detach)
        running = agent.Agent("--resync-interval", "3600")
        with traffic.UdpServer(server):
            assert traffic.way_of_an_answer(world, server) == "direct"
            assert row(server) == (server.public, True, False)
            topology.run("ip", "-n", server.netns, "address", "flush", "dev", "tun0")
            topology.wait_for(lambda: row(server) == (server.remote, False, True), "taken for model A")
            running.kill()
            topology.run("ip", "-n", server.netns, "address", "add", f"{server.inner}/32", "dev", "tun0")
            # The kernel took the device's routes away with its last address.
            topology.run("ip", "-n", server.netns, "route", "add", "default", "dev", "tun0")
            with traffic.Unharmed(world, all_direct=False) as replies:
                assert replies.ways() == {"ipip"}, "what is not known is the tunnel's"
                with agent.Agent("--resync-interval", "3600"):
                    topology.wait_for(lambda: replies.ways() == {"direct"}, "direct again")
            assert row(server) == (server.public, True, False)
