# SPDX-License-Identifier: MIT
"""Other people's programs on the same interface: they run, and they stay as they are."""

import contextlib
import json
import os
import re
import subprocess

import pytest

import agent
import topology
import traffic
from kernel import has_tcx

FOREIGN = os.path.join(agent.BUILD_DIR, "tests/vm/foreign.bpf.o")
FOREIGN_TCX = os.path.join(agent.BUILD_DIR, "tests/vm/attach_tcx")


def filters():
    return topology.run("tc", "filter", "show", "dev", "eth0", "egress")


def strip_ours(text):
    """What tc shows without our filter, which has priority 7."""
    return "".join(line for line in text.splitlines(keepends=True) if " pref 7 " not in line)


def net():
    return json.loads(topology.run("bpftool", "-j", "net"))


def maps_of(name):
    return [m["id"] for m in json.loads(topology.run("bpftool", "-j", "map", "show")) if m.get("name", "").startswith(name)]


def wait_freed(name):
    """The kernel frees what nobody uses any more when it comes to it."""
    topology.wait_for(lambda: not maps_of(name), "the end of its map")


def packets_seen(name):
    """The foreign program's counter: its only map has one 64-bit value."""
    (number,) = maps_of(name)
    dump = json.loads(topology.run("bpftool", "-j", "map", "dump", "id", str(number)))
    return dump[0]["formatted"]["value"]


@pytest.fixture(autouse=True)
def nothing_of_theirs_left():
    yield
    wait_freed("foreign")


def exchange(world):
    server = world.servers[1]
    with traffic.udp_client(world) as client:
        _, peer = traffic.udp_ask(client, server.public)
        assert peer == (server.public, traffic.PORT)


def test_a_foreign_clsact_filter(world):
    topology.run("tc", "qdisc", "add", "dev", "eth0", "clsact")
    topology.run("tc", "filter", "add", "dev", "eth0", "egress", "prio", "3", "handle", "1", "bpf",
                 "direct-action", "obj", FOREIGN, "sec", "tc")
    topology.run("tc", "filter", "add", "dev", "eth0", "egress", "prio", "9", "protocol", "ip",
                 "flower", "ip_proto", "tcp", "action", "ok")
    before_filters = filters()
    assert "pref 3 " in before_filters and "flower" in before_filters
    before = world.counters()
    with agent.Agent():
        seen = packets_seen("foreign")
        exchange(world)
        assert packets_seen("foreign") > seen, "the foreign filter does not run any more"
        assert stable(strip_ours(filters())) == stable(before_filters)
    agent.detach()
    assert stable(filters()) == stable(before_filters)
    assert "clsact" in topology.run("tc", "qdisc", "show", "dev", "eth0")
    after = world.counters()
    assert after["host_ipip"] == before["host_ipip"]
    assert after["host_direct"] > before["host_direct"]
    for priority in ("3", "9"):
        topology.run("tc", "filter", "del", "dev", "eth0", "egress", "prio", priority)


def stable(text):
    """Flower prints how long ago it was used with -s only; nothing here changes by itself."""
    assert not re.search(r"used \d", text)
    return text


def test_a_foreign_tcx_program(world):
    """Kernels before 6.6 have no TCX: there the program must be refused, and ours fall back."""
    holder = subprocess.Popen([FOREIGN_TCX, FOREIGN, "eth0"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    expected = "tcx" if has_tcx() else "clsact"
    try:
        assert holder.stdout.readline() == ("attached\n" if has_tcx() else "")
        before_net = net()
        before = world.counters()
        with agent.Agent():
            assert agent.status()["interfaces"][0]["attachment"] == expected
            seen = packets_seen("foreign") if has_tcx() else 0
            exchange(world)
            if has_tcx():
                assert packets_seen("foreign") > seen, "the foreign program does not run any more"
        agent.detach()
        assert net() == before_net
        after = world.counters()
        assert after["host_ipip"] == before["host_ipip"]
        assert after["host_direct"] > before["host_direct"]
    finally:
        holder.stdin.close()
        holder.wait()


@contextlib.contextmanager
def foreign_filter(place):
    priority = {"before": "3", "after": "9"}[place]
    topology.run("tc", "filter", "add", "dev", "eth0", "egress", "prio", priority, "handle", "1", "bpf",
                 "direct-action", "obj", FOREIGN, "sec", "tc")
    yield
    topology.run("tc", "filter", "del", "dev", "eth0", "egress", "prio", priority)
    wait_freed("foreign")


@contextlib.contextmanager
def foreign_link(place):
    """The last one unless it asks to be the first."""
    options = {"before": ["before"], "after": []}[place]
    with subprocess.Popen([FOREIGN_TCX, FOREIGN, "eth0", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as holder:
        assert holder.stdout.readline() == "attached\n"
        yield
        holder.stdin.close()
    wait_freed("foreign")


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_foreign_program_that_comes_and_goes_while_it_runs(world, place):
    """Both see the packets, ours is not taken for taken off, and no reply of three tunnels is lost, doubled or sent over the POP."""
    foreign = foreign_link if has_tcx() else foreign_filter
    with agent.Agent("--resync-interval", "1"):
        with traffic.Unharmed(world) as replies:
            for _ in range(2):
                with foreign(place):
                    seen = packets_seen("foreign")
                    replies.more()
                    assert packets_seen("foreign") > seen, "the foreign program does not run"
                replies.more()
        agent.resync()
        (interface,) = agent.status()["interfaces"]
        assert (interface["restored"], interface["error"]) == (0, None)
    agent.detach()
