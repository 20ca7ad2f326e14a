# SPDX-License-Identifier: MIT
"""Somebody takes the program off while the agent runs: it is back within a second, nothing is lost
meanwhile (the tunnel carries it), and it is told. What is not ours stays as it is."""

import contextlib
import json
import os
import subprocess
import time

import pytest

import agent
import topology
import traffic
from kernel import only_clsact, only_tcx

FOREIGN = os.path.join(agent.BUILD_DIR, "tests/vm/foreign.bpf.o")
OURS = ("prio", "7", "handle", "0x69706970")
WITHIN = 3.0  # a second, on a machine that emulates and is busy besides
CONFIG = "/tmp/config.json"
TRIES = 5  # it may stand still for longer at any instant, but hardly each time
N_ROUTES = 14000  # a read of them takes so long that the next one is more than a second away
BEFORE_A_READ = 15  # tries: what is asked for takes as long itself where the machine is busy


def size(max_entries):
    with open(CONFIG, "w", encoding="utf-8") as file:
        json.dump({"max_entries": max_entries}, file)


@pytest.fixture(scope="module")
def world():
    with traffic.three_servers() as made:
        size(16384)
        with agent.Agent("--resync-interval", "3600", "--config", CONFIG):
            yield made
        agent.detach()


@pytest.fixture
def replies(world):
    """Of three tunnels, all the time; each arrives, once, by whichever way."""
    with traffic.Unharmed(world, per_second=20, all_direct=False) as made:
        yield made


def interface():
    (found,) = agent.status()["interfaces"]
    return found


def direct_packets():
    (entry,) = agent.live_entries()
    return entry["counters"]["direct_packets"]


def take_off_once(replies, command, stops_the_device):
    """Returns the seconds until it is told that it is back."""
    assert replies.ways() == {"direct"}
    before, start = interface()["restored"], time.monotonic()
    with replies.gap() if stops_the_device else contextlib.nullcontext():
        topology.run(*command)
        topology.wait_for(lambda: interface()["restored"] == before + 1, "told in the status")
    seconds = time.monotonic() - start
    assert (interface()["error"], agent.status()["agent"]["state"]) == (None, "ok")
    topology.wait_for(lambda: replies.ways() == {"direct"}, "direct again")
    with open("/tmp/agent.log", encoding="utf-8") as log:
        assert log.read().count("eth0: somebody took the program off: attached again") == before + 1
    return seconds


def take_off(replies, make_command, stops_the_device=False):
    times = []
    while not times or (min(times) >= WITHIN and len(times) < TRIES):
        times.append(take_off_once(replies, make_command(), stops_the_device))
    assert min(times) < WITHIN, times


@only_clsact
def test_the_qdisc_is_deleted(replies):
    """The kernel stops the device for that, and again for the new one: packets of everybody are lost."""
    take_off(replies, lambda: ["tc", "qdisc", "del", "dev", "eth0", "clsact"], stops_the_device=True)


@only_clsact
def test_the_filter_is_deleted(replies):
    take_off(replies, lambda: ["tc", "filter", "del", "dev", "eth0", "egress", *OURS, "bpf"])


@only_clsact
def test_all_filters_are_deleted(replies):
    take_off(replies, lambda: ["tc", "filter", "del", "dev", "eth0", "egress"])


@only_clsact
def test_the_filter_is_replaced(replies):
    """What is there now is somebody's: it is told, and stays until they remove it."""
    before = interface()["restored"]
    topology.run("tc", "filter", "replace", "dev", "eth0", "egress", *OURS, "bpf", "direct-action",
                 "obj", FOREIGN, "sec", "tc")
    topology.wait_for(lambda: interface()["error"], "told in the status")
    assert "somebody else" in interface()["error"]
    assert (interface()["attachment"], agent.status()["agent"]["state"]) == ("none", "degraded")
    theirs = topology.run("tc", "filter", "show", "dev", "eth0", "egress")
    assert "foreign" in theirs and "direct " not in theirs
    assert replies.ways() == {"ipip"}, "the tunnel carries the replies"
    assert topology.run("tc", "filter", "show", "dev", "eth0", "egress") == theirs
    # Nothing of ours is there that would need the former maps.
    size(8192)
    agent.until_complete("reload")
    assert agent.status()["map"]["max_rows"] == 8192
    assert [pin for pin in os.listdir(agent.PINS) if pin.startswith("v")] == ["v1"]
    topology.run("tc", "filter", "del", "dev", "eth0", "egress", *OURS, "bpf")
    topology.wait_for(lambda: interface()["attachment"] == "clsact", "attached again")
    topology.wait_for(lambda: replies.ways() == {"direct"}, "direct again")
    assert interface()["restored"] == before, "it was not there to be restored"


def changed(before, what):
    """The status, when it says so."""
    status = agent.status_now()
    return what(status) != what(before) and status


@contextlib.contextmanager
def routes_that_flap():
    """Of a host that speaks BGP: many, one of which comes and goes."""
    gateway = json.loads(topology.run("ip", "-j", "route", "show", "default"))[0]["gateway"]
    routes = [f"10.{100 + (i >> 16)}.{i >> 8 & 255}.{i & 255}" for i in range(N_ROUTES)]
    topology.run("ip", "-batch", "-", text_in="".join(f"route add {to} via {gateway}\n" for to in routes))
    flap = f"while :; do ip route add 11.0.0.1 via {gateway}; sleep 0.1; ip route del 11.0.0.1; sleep 0.1; done"
    process = subprocess.Popen(["sh", "-ec", flap])
    try:
        yield gateway
        assert process.poll() is None, "it ended"
    finally:
        process.kill()
        process.wait()
        topology.run("ip", "route", "flush", "root", "11.0.0.0/8")
        topology.run("ip", "-batch", "-", text_in="".join(f"route del {to}\n" for to in routes))


@only_clsact
def test_routes_that_flap_do_not_put_it_off(replies):
    """They are read seconds after they changed; the filter is back before, as the same status says."""
    def without_a_read(gateway, i):
        before = agent.status_now()
        after = topology.wait_for(lambda: changed(before, lambda status: status["agent"]["route_reads"]), "the routes read", 30)
        # They are stale again when the filter goes.
        topology.run("sh", "-ec", f"ip route add 11.0.1.{i} via {gateway}; tc filter del dev eth0 egress {' '.join(OURS)} bpf")
        back = topology.wait_for(lambda: changed(after, lambda status: status["interfaces"][0]["restored"]), "back", 30)
        return back["agent"]["route_reads"] == after["agent"]["route_reads"]

    with routes_that_flap() as gateway:
        assert any(without_a_read(gateway, i) for i in range(BEFORE_A_READ)), "it waits for the routes"
    topology.wait_for(lambda: replies.ways() == {"direct"}, "direct again")


@only_clsact
def test_others_filters_survive_it(replies):
    topology.run("tc", "filter", "add", "dev", "eth0", "egress", "prio", "3", "handle", "1", "bpf",
                 "direct-action", "obj", FOREIGN, "sec", "tc")
    take_off(replies, lambda: ["tc", "filter", "del", "dev", "eth0", "egress", *OURS, "bpf"])
    assert "pref 3 " in topology.run("tc", "filter", "show", "dev", "eth0", "egress")
    topology.run("tc", "filter", "del", "dev", "eth0", "egress", "prio", "3")


def link_pin():
    return f"{agent.PINS}/link_{interface()['ifindex']}"


@only_tcx
def test_the_link_is_detached(replies):
    def detach():
        link = json.loads(topology.run("bpftool", "-j", "link", "show", "pinned", link_pin()))
        return ["bpftool", "link", "detach", "id", str(link["id"])]

    take_off(replies, detach)


@only_tcx
def test_the_pin_is_removed(replies):
    """With its last reference the link goes."""
    pin = link_pin()
    take_off(replies, lambda: ["rm", pin])
    assert os.path.exists(pin)


def test_qdiscs_of_other_interfaces_cost_no_pass(world):
    topology.wait_for(lambda: agent.quiet_for(0.5), "nothing more of what the tests before rang")
    passes = agent.status()["agent"]["passes"]
    for _ in range(5):
        topology.run("tc", "qdisc", "add", "dev", "v1", "clsact")
        topology.run("tc", "qdisc", "del", "dev", "v1", "clsact")
    assert agent.quiet_for(0.5)
    assert agent.status()["agent"]["passes"] == passes
