# SPDX-License-Identifier: MIT
"""The agent follows the default route, whatever becomes of it: the program hangs where replies leave, and
nowhere else. A second link joins host and gateway, eth1 to host2; requests always come in by eth0.

No reply is lost by what the agent does. Between a change and its notice, a few take the tunnel."""

import contextlib
import os
import subprocess

import pytest

import agent
import topology
import traffic

HOST2, GATEWAY2 = "192.0.3.10", "192.0.3.1"
DEFAULT = f"default via {topology.GATEWAY} dev eth0"
PACKETS = 5


def ip(*lines):
    topology.run("ip", "-batch", "-", text_in="\n".join(lines) + "\n")


def make_second_link(world):
    world.outside.batch(
        "gw", "link add host2 type veth peer name hostside", f"address add {GATEWAY2}/24 dev host2",
        "link set host2 up", f"link set hostside name eth1 netns {os.getpid()}")
    ip(f"address add {HOST2}/24 dev eth1", "link set eth1 up")


@pytest.fixture(scope="module")
def world():
    with traffic.three_servers() as made:
        make_second_link(made)
        with agent.Agent("--resync-interval", "3600"):
            yield made
        agent.detach()
        topology.run("ip", "link", "delete", "eth1", check=False)


@pytest.fixture(autouse=True)
def as_before(world):
    yield
    ip("route flush exact default", f"route replace {DEFAULT}")
    wait_attached("eth0")


def attached():
    return [i["name"] for i in agent.status()["interfaces"] if i["attachment"] != "none"]


def ifindex(name):
    with open(f"/sys/class/net/{name}/ifindex", encoding="ascii") as file:
        return file.read().strip()


def is_ok():
    return agent.status()["agent"]["state"] == "ok"


def wait_attached(*names):
    """To these, as the status says, and the pins too: nothing is left at another interface."""
    # A pass in the midst of changes may fail, and is told until the next one.
    topology.wait_for(lambda: attached() == list(names) and is_ok(), f"attached to {names}, is {attached()}")
    indexes = sorted(ifindex(name) for name in names)
    pinned = sorted(pin.split("_")[1] for pin in os.listdir(agent.PINS)
                    if pin.startswith(("link_", "prog_")))
    assert pinned == indexes
    # Debian's bpftool does not show TCX links here.
    if all(i["attachment"] == "clsact" for i in agent.status()["interfaces"]):
        net = topology.run("bpftool", "net")
        assert all(f"{name}(" in net for name in names)
        assert net.count("direct") == len(names), net


def leaving_by(device):
    with open(f"/sys/class/net/{device}/statistics/tx_packets", encoding="ascii") as file:
        return int(file.read())


@contextlib.contextmanager
def all_direct(world, *devices):
    """What is asked meanwhile is answered without tunnel, out of these devices, one of them or all."""
    before, sent = world.counters(), sum(leaving_by(device) for device in devices)
    yield
    after = world.counters()
    assert after["host_ipip"] == before["host_ipip"]
    assert after["host_direct"] - before["host_direct"] >= PACKETS
    assert sum(leaving_by(device) for device in devices) - sent >= PACKETS


def ask(world, n=PACKETS):
    server = world.servers[1]
    with traffic.udp_client(world) as client:
        for _ in range(n):
            _, peer = traffic.udp_ask(client, server.public)
            assert peer == (server.public, traffic.PORT)


def check_direct(world, *devices):
    # The first packet may find a gateway that is being resolved; then the tunnel carries it.
    ask(world, 1)
    with all_direct(world, *devices):
        ask(world)


def test_a_better_metric(world):
    check_direct(world, "eth0")
    ip(f"route replace {DEFAULT} metric 100", f"route del {DEFAULT}")
    ip(f"route add default via {GATEWAY2} dev eth1 metric 50")
    wait_attached("eth1", "eth0")
    check_direct(world, "eth1")
    ip(f"route del default via {GATEWAY2} dev eth1 metric 50")
    wait_attached("eth0")
    check_direct(world, "eth0")
    ip(f"route add {DEFAULT}", f"route del {DEFAULT} metric 100")


def test_a_replaced_route_under_traffic(world):
    """There and back: the new interface has the program before the old one loses it."""
    with traffic.Unharmed(world, per_second=20, all_direct=False) as replies:
        for route, name in ((f"default via {GATEWAY2} dev eth1", "eth1"), (DEFAULT, "eth0")):
            replies.more()
            ip(f"route replace {route}")
            wait_attached(name)
        replies.more()


def test_several_next_hops(world):
    ip(f"route replace default nexthop via {topology.GATEWAY} dev eth0 nexthop via {GATEWAY2} dev eth1")
    topology.wait_for(lambda: sorted(attached()) == ["eth0", "eth1"], "attached to both")
    check_direct(world, "eth0", "eth1")


def test_the_interface_is_deleted_and_made_again(world):
    """Replies are lost while there is no way out for them, and at no other time."""
    ip(f"route replace default via {GATEWAY2} dev eth1")
    wait_attached("eth1")
    old = ifindex("eth1")
    ask(world, 1)  # the gateway is resolved
    with traffic.Unharmed(world, per_second=20, all_direct=False) as replies:
        with replies.gap():
            ip("link delete eth1")
            topology.wait_for(lambda: attached() == [], "seen to be gone")
            assert agent.status()["agent"]["state"] == "degraded"
            make_second_link(world)
            ip(f"route add default via {GATEWAY2} dev eth1")
        wait_attached("eth1")
        topology.wait_for(lambda: replies.ways() == {"direct"}, "all go direct")
    assert ifindex("eth1") != old
    check_direct(world, "eth1")


def test_the_interface_gets_another_name(world):
    ip(f"route replace default via {GATEWAY2} dev eth1")
    wait_attached("eth1")
    ip("link set eth1 down", "link set eth1 name wan", "link set wan up",
       f"route replace default via {GATEWAY2} dev wan")
    wait_attached("wan")
    check_direct(world, "wan")
    ip("link set wan down", "link set wan name eth1", "link set eth1 up")


def test_without_any_default_route_it_stays(world):
    wait_attached("eth0")
    ip("route add 198.51.100.0/24 via 192.0.2.1", "route add 203.0.113.0/24 via 192.0.2.1")
    ip(f"route del {DEFAULT}")
    agent.resync()
    wait_attached("eth0")
    check_direct(world, "eth0")
    ip(f"route add {DEFAULT}", "route del 198.51.100.0/24", "route del 203.0.113.0/24")


def bridge():
    topology.run("modprobe", "bridge")
    ip("link add up0 type bridge", "link set eth1 master up0")


def bond():
    topology.run("modprobe", "bonding", "max_bonds=0")
    ip("link add up0 type bond mode active-backup miimon 10", "link set eth1 down",
       "link set eth1 master up0")


@pytest.mark.parametrize("put_above", [bridge, bond])
def test_a_device_is_put_above_it_while_it_runs(world, put_above):
    ip(f"route replace default via {GATEWAY2} dev eth1")
    wait_attached("eth1")
    put_above()
    ip("address flush dev eth1", "link set up0 up", f"address add {HOST2}/24 dev up0")
    topology.wait_for(lambda: "LOWER_UP" in topology.run("ip", "link", "show", "up0"), "a carrier")
    ip(f"route replace default via {GATEWAY2} dev up0")
    wait_attached("up0")
    check_direct(world, "up0")
    ip(f"route replace {DEFAULT}", "link delete up0", "link set eth1 up",
       f"address replace {HOST2}/24 dev eth1")


def test_interfaces_by_name(world):
    """Beside the agent that runs no other may; so this one is asked what it would do."""
    plan = subprocess.run([agent.AGENT, "--dry-run", "--interface", "eth1", "--interface", "none"],
                          check=True, text=True, stdout=subprocess.PIPE).stdout
    assert "attach to eth1" in plan.splitlines() and "eth0" not in plan
