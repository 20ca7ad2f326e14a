# SPDX-License-Identifier: MIT
"""The agent's death changes nothing on the wire, and neither does its return."""

import agent
import traffic

KILLS = 3


def test_killed_and_started_under_traffic():
    with traffic.three_servers() as world:
        running = agent.Agent()
        with traffic.Unharmed(world) as replies:
            for _ in range(KILLS):
                replies.more(0.5)
                running.kill()
                replies.more(0.5)
                running = agent.Agent()
        status = agent.status()
        running.stop()
        agent.detach()
        assert replies.sent >= KILLS * replies.per_second
        # The counters of the rows went on counting through every restart.
        direct = sum(e["counters"]["direct_packets"] for e in status["entries"])
        assert direct >= KILLS * replies.per_second
