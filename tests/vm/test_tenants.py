# SPDX-License-Identifier: MIT
"""Tenants that are trusted, as the root of a container is without a user namespace of its own: each may do what he likes
in his namespace, and takes from the others no more than the short way, never the long one."""

import contextlib
import os

import pytest

import agent
import topology
import traffic

TENANT = "tenant"
# The limits are 256 and 1024. Of more than 16384 tunnels the rest is not even read: IPIPDIRECT_TENANT_TUNNELS=17000.
TUNNELS, ADDRESSES = int(os.environ.get("IPIPDIRECT_TENANT_TUNNELS", "300")), 1100
PATIENCE = 30 + TUNNELS / 50  # seconds; the kernel takes long to make and to end so many


@pytest.fixture(scope="module")
def world():
    with traffic.servers_that_answer("AC") as made:
        with agent.Agent():
            yield made
        agent.detach()


def tunnels(netns):
    return {tunnel["ifname"]: tunnel for tunnel in agent.status()["tunnels"] if tunnel["netns"] == netns}


def reasons(netns):
    return {name: tunnel["reason"] for name, tunnel in tunnels(netns).items() if name != "tunl0"}


@contextlib.contextmanager
def tenant(*lines):
    """A namespace of the host's with what its root did there."""
    topology.run("ip", "netns", "add", TENANT)
    try:
        do("link set lo up", *lines)
        yield
    finally:
        topology.run("ip", "netns", "delete", TENANT)
        topology.wait_for(lambda: not tunnels(TENANT), "the tenant is gone", PATIENCE)


def do(*lines):
    topology.run("ip", "-n", TENANT, "-batch", "-", text_in="\n".join(lines) + "\n")


def ipip(name, remote, *addresses):
    return [f"link add {name} type ipip remote {remote} local 10.9.77.2", f"link set {name} up",
            *(f"address add {address}/32 dev {name}" for address in addresses)]


def way(world, number):
    return traffic.way_of_an_answer(world, world.servers[number])


@pytest.fixture
def served(world):
    topology.wait_for(lambda: agent.map_now() == world.rows(), "the servers are in the map")
    yield world
    topology.wait_for(lambda: agent.map_now() == world.rows(), "the servers are in the map as before")
    for number in (1, 2):
        assert way(world, number) == "direct"


def test_addresses_that_are_nobodys(served):
    """As remote and as address; the kernel takes them all."""
    odd = {"multi0": "224.0.0.1", "broad0": "255.255.255.255", "loop0": "127.0.0.1", "null0": "0.0.0.1", "class0": "240.0.0.1"}
    lines = [line for name, address in odd.items() for line in ipip(name, address, "203.0.113.70")]
    lines += ipip("none0", "0.0.0.0", "203.0.113.71")
    # A private remote and no public address: nobody a client could know.
    holds = {f"holds{i}": address for i, address in enumerate(odd.values())}
    lines += [line for i, (name, address) in enumerate(holds.items()) for line in ipip(name, f"10.1.1.{i + 1}", address)]
    with tenant(*lines):
        topology.wait_for(lambda: set(reasons(TENANT)) == {*odd, *holds, "none0"}, "all are seen")
        assert reasons(TENANT) == {**dict.fromkeys(odd, "remote-forbidden"), **dict.fromkeys(holds, "no-public-address"),
                                   "none0": "no-remote"}
        assert agent.map_now() == served.rows()
        for number in (1, 2):
            assert way(served, number) == "direct"


def test_addresses_of_others(served):
    one, two = served.servers[1], served.servers[2]
    with tenant(*ipip("one0", "198.18.77.1", one.public), *ipip("two0", "198.18.77.2", two.public),
                *ipip("gate0", topology.GATEWAY, topology.GATEWAY), *ipip("host0", "198.18.77.3", topology.HOST)):
        claims = {"one0": "address-claimed", "two0": "address-claimed"}
        topology.wait_for(lambda: set(reasons(TENANT)) == {"one0", "two0", "gate0", "host0"} and
                          claims.items() <= reasons(TENANT).items(), "all are seen, with their addresses")
        found = tunnels(TENANT)
        for name, server in ("one0", one), ("two0", two):
            assert (found[name]["state"], found[name]["reason"]) == ("conflict", "address-claimed")
            assert found[name]["rival"]["netns"] == server.netns
        # What he has besides is about his own packets alone: each row has one of his remotes, which is nobody else's. An address
        # that the host has as well is not the server's (model B): there the remote is.
        assert [(found[name]["state"], found[name]["game_server_ips"]) for name in ("gate0", "host0")] == [
            ("mapped", [topology.GATEWAY]), ("mapped", ["198.18.77.3"])]
        topology.wait_for(lambda: agent.map_now() == {
            **served.rows(), ("198.18.77.1", None): None, ("198.18.77.2", None): None,
            (topology.GATEWAY, None): topology.GATEWAY, ("198.18.77.3", None): "198.18.77.3"}, "theirs are as they were")
        for number in (1, 2):
            assert way(served, number) == "direct"
        assert agent.status()["agent"]["state"] == "degraded"


def test_an_address_of_another_on_no_tunnel(served):
    """The other's short way is in doubt then, and that is said; the client hears whom he asked."""
    two = served.servers[2]
    with tenant(f"address add {two.public}/32 dev lo"):
        topology.wait_for(lambda: reasons(two.netns) == {"tun0": "addresses-unknown"}, "it is noticed")
        topology.wait_for(lambda: (two.remote, None) not in agent.map_now(), "no entry")
        assert way(served, 2) == "tunnel"
        assert way(served, 1) == "direct"
        assert any("game_server_ip" in problem for problem in agent.status()["agent"]["problems"])


def test_more_tunnels_than_a_namespace_may_have(served):
    lines = [f"link add z{i} type ipip remote 45.0.{i // 250}.{i % 250 + 1} local 10.9.77.2" for i in range(TUNNELS)]
    with traffic.Unharmed(served, per_second=20), tenant(*lines):
        topology.wait_for(lambda: "too-many-tunnels" in reasons(TENANT).values(), "the limit", PATIENCE)
        topology.wait_for(lambda: agent.map_now() == served.rows(), "none of them counts", PATIENCE)
        do(*(f"link delete z{i}" for i in range(256, TUNNELS)), "link delete z0")
        topology.wait_for(lambda: len(agent.map_now()) == 257, "below the limit they do", PATIENCE)
    topology.wait_for(lambda: agent.map_now() == served.rows(), "they go with it", PATIENCE)


def test_more_addresses_than_a_namespace_may_have(served):
    lines = [f"address add 10.77.{i // 250}.{i % 250 + 1}/32 dev lo" for i in range(ADDRESSES)]
    with traffic.Unharmed(served, per_second=20), tenant(*ipip("tun0", "45.0.0.1", "10.0.77.2"), *lines):
        topology.wait_for(lambda: reasons(TENANT) == {"tun0": "too-many-addresses"}, "the limit", 30)
        topology.wait_for(lambda: agent.map_now() == served.rows(), "nothing of it counts")
        do(*(f"address delete 10.77.{i // 250}.{i % 250 + 1}/32 dev lo" for i in range(1000, ADDRESSES)))
        topology.wait_for(lambda: agent.map_now() == {**served.rows(), ("45.0.0.1", None): "45.0.0.1"}, "below the limit it does", 30)
