# SPDX-License-Identifier: MIT
"""More tunnels than the map has room for: who is in stays in, who comes later stays on the tunnel, and it is told.
Room that gets free is used."""

import contextlib
import json
import re
import subprocess

import pytest

import agent
import fleet
import topology
import traffic

ROOM = 16  # the least that max_entries may be
CONFIG = "/tmp/config.json"


@pytest.fixture
def world():
    with traffic.three_servers() as made:
        yield made


def way_of_a_reply(world, server, replies):
    """Those of the others, all the time, go direct."""
    before = world.counters()["host_ipip"]
    with traffic.udp_client(world) as client:
        _, peer = traffic.udp_ask(client, server.public)
        assert peer == (server.public, traffic.PORT)
    way = "host_ipip" if world.counters()["host_ipip"] > before else "host_direct"
    replies.besides[way] += 1
    return way


def ctl(*arguments):
    done = subprocess.run([agent.CTL, *arguments], check=False, text=True, stdout=subprocess.PIPE)
    return done.returncode, done.stdout


def metric(text, name):
    return [int(value) for value in re.findall(rf"^ipipdirect_{name}(?:\{{[^}}]*\}})? (\d+)$", text, re.M)]


def states():
    return {t["netns"]: t["state"] for t in agent.status()["tunnels"] if t["ifname"] != "tunl0"}


def test_a_map_that_is_full(world):
    with open(CONFIG, "w", encoding="utf-8") as file:
        json.dump({"max_entries": ROOM}, file)
    with contextlib.ExitStack() as stack:
        stack.callback(agent.detach)
        stack.enter_context(agent.Agent("--config", CONFIG, "--resync-interval", "3600"))
        ships = stack.enter_context(fleet.Fleet(ROOM - len({server.remote for server in world.servers.values()}), uplink=False))
        full = {**world.rows(), **ships.rows()}
        topology.wait_for(lambda: agent.map_now() == full, "the last place is taken", 30)
        topology.wait_for(lambda: agent.status()["agent"]["state"] == "ok", "full, but nobody is left out", 30)
        assert ctl("status")[0] == 0

        replies = stack.enter_context(traffic.Unharmed(world, per_second=20))
        late = world.add_server(4)
        stack.enter_context(traffic.UdpServer(late))
        topology.wait_for(lambda: agent.status()["map"]["no_room"], "it is told", 30)
        assert agent.status()["map"]["no_room"] == [{"remote": late.remote, "inner_source": None}]
        assert agent.map_now() == full, "who was in stays in"
        assert way_of_a_reply(world, late, replies) == "host_ipip"
        status, text = ctl("status")
        assert status == 4 and "map full: no room for 1 rows" in text
        assert f"{ROOM} remotes" in text and f"room for {ROOM} of each" in text
        status, text = ctl("metrics")
        assert metric(text, "agent_degraded") == [1] and metric(text, "map_rows_without_room") == [1, 0]
        assert ROOM in metric(text, "map_rows") and ROOM in metric(text, "map_capacity_rows")

        ships.delete([0])
        topology.wait_for(lambda: agent.map_now().get((late.remote, None)) == late.public, "the free place is used", 30)
        topology.wait_for(lambda: agent.status()["agent"]["state"] == "ok", "and nothing is to be told", 30)
        assert agent.status()["map"]["no_room"] == []
        assert way_of_a_reply(world, late, replies) == "host_direct"
        text = ctl("metrics")[1]
        assert ctl("status")[0] == 0 and metric(text, "agent_degraded") == [0]
        assert metric(text, "map_rows_without_room") == [0, 0]
