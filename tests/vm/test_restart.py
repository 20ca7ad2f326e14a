# SPDX-License-Identifier: MIT
"""The agent's death changes nothing on the wire, and neither does its return."""

import agent
import topology
import traffic

KILLS = 3
PER_SECOND = 100


def test_killed_and_started_under_traffic():
    with topology.World() as world:
        servers = [world.add_server(n) for n in (1, 2, 3)]
        running = agent.Agent()
        echoes = [traffic.UdpServer(server) for server in servers]
        for server in servers:  # the client's neighbours are resolved before counting
            with traffic.udp_client(world) as client:
                traffic.udp_ask(client, server.public)
        before = world.counters()
        streams = [traffic.Stream(world, server.public, PER_SECOND) for server in servers]
        try:
            for _ in range(KILLS):
                at_least = [len(stream.received) + PER_SECOND // 2 for stream in streams]
                enough = lambda: all(len(s.received) >= n for s, n in zip(streams, at_least))
                topology.wait_for(enough, "replies with the agent")
                running.kill()
                at_least = [len(stream.received) + PER_SECOND // 2 for stream in streams]
                topology.wait_for(enough, "replies without the agent")
                running = agent.Agent()
        finally:
            results = [stream.stop() for stream in streams]
            after = world.counters()
            status = agent.status()
            running.stop()
            for echo in echoes:
                echo.__exit__()
            agent.detach()
        for sent, lost, duplicated in results:
            assert sent >= KILLS * PER_SECOND
            assert (lost, duplicated) == (0, 0)
        assert after["host_ipip"] - before["host_ipip"] == 0, "a reply passed the POP"
        assert after["host_direct"] - before["host_direct"] == sum(sent for sent, _, _ in results)
        # The counters of the rows went on counting through every restart.
        direct = sum(e["counters"]["direct_packets"] for e in status["entries"])
        assert direct >= KILLS * PER_SECOND
