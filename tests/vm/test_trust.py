# SPDX-License-Identifier: MIT
"""A user without rights makes namespaces with tunnels in them, and takes nothing from anybody."""

import contextlib
import json
import os
import socket
import subprocess

import pytest

import agent
import kernel
import topology
import traffic

CONFIG = "/tmp/trust.json"
USER = 4711  # nobody's number
OWN = "203.0.113.99"  # what the user might be entitled to


@pytest.fixture(scope="module")
def world():
    with topology.World("AC") as made:
        write({})
        made.agent = agent.Agent("--config", CONFIG)
        yield made
        made.agent.stop()
        agent.detach()


def write(config):
    with open(CONFIG, "w", encoding="utf-8") as file:
        json.dump(config, file)


def reload(config=None):
    """A link in /run/netns rings no bell, so this is also how the agent learns of one."""
    if config is not None:
        write(config)
    agent.until_complete("reload")


def ipip(name, remote, *addresses):
    lines = [f"ip link add {name} type ipip remote {remote} local 10.9.77.2", f"ip link set {name} up"]
    return lines + [f"ip address add {address} dev {name}" for address in addresses]


@contextlib.contextmanager
def namespace_of_a_user(name, *commands):
    """As anybody can make one; root only gives it a file name."""
    script = "\n".join(["ip link set lo up", *commands, "echo up", "exec cat"])
    holder = subprocess.Popen(
        ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups",
         "unshare", "--user", "--map-root-user", "--net", "sh", "-ec", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "up\n"
    os.symlink(f"/proc/{holder.pid}/ns/net", f"/run/netns/{name}")
    reload()
    try:
        yield holder.pid
    finally:
        os.unlink(f"/run/netns/{name}")
        holder.stdin.close()
        holder.wait(30)
        holder.stdout.close()
        reload()


@contextlib.contextmanager
def underlay_for(pid, *commands):
    """That the tunnels in its namespace may send; and what root does there besides."""
    topology.run("ip", "-batch", "-", text_in="\n".join([
        f"link add v77 type veth peer name eth0 netns {pid}", "address add 10.9.77.1/24 dev v77", "link set v77 up"]) + "\n")
    topology.run("nsenter", "--net", "--target", str(pid), "ip", "-batch", "-", text_in="\n".join([
        "address add 10.9.77.2/24 dev eth0", "link set eth0 up", *commands]) + "\n")
    try:
        yield
    finally:
        topology.run("ip", "link", "delete", "v77")


def send(pid):
    """A packet to a client, by the namespace's own routes."""
    with open(f"/proc/{pid}/ns/net", "rb") as netns, kernel.socket_in(netns.fileno(), socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"hello", (topology.CLIENT, traffic.PORT))


def tunnels(netns):
    return {tunnel["ifname"]: tunnel for tunnel in agent.status()["tunnels"] if tunnel["netns"] == netns}


def assert_direct(world, *numbers):
    for number in numbers:
        assert traffic.way_of_a_reply(world, world.servers[number]) == "direct"


@pytest.fixture
def victims(world):
    """What is in the maps for those who were there before."""
    reload({})
    one, two = world.servers[1], world.servers[2]
    before = agent.map_now()
    assert before == {(one.remote, None): one.public, (two.remote, None): two.public}
    assert_direct(world, 1, 2)
    return one, two, before


def test_a_user_takes_nothing_over(world, victims):
    one, two, before = victims
    with namespace_of_a_user(
            "evil", f"ip address add {two.public}/32 dev lo",
            *ipip("same0", one.remote, f"{one.inner}/32"),  # cannot be told apart from it
            *ipip("other0", two.remote, "10.0.77.2/32"),  # shares its POP
            *ipip("claim0", "198.18.77.2", f"{two.public}/32"),  # the address of another
            *ipip("own0", OWN, "10.0.77.2/32")) as evil:
        found = tunnels("evil")
        assert set(found) == {"same0", "other0", "claim0", "own0"} | set(found) & {"tunl0"}
        for name, tunnel in found.items():
            reason = "fallback-device" if name == "tunl0" else "untrusted"
            assert (tunnel["state"], tunnel["reason"], tunnel["rule"]) == ("skipped", reason, None)
            assert tunnel["reason_text"]
        assert agent.map_now() == before
        # What leaves by "other0" is not the second server's.
        assert [entry["own_source"] for entry in agent.status()["entries"] if entry["remote"] == two.remote] == [True]
        with underlay_for(evil, f"route add {two.remote} via 10.9.77.1", f"route add {topology.CLIENT} dev other0 src 10.0.77.2"):
            counted = world.counters()
            send(evil)
            topology.wait_for(lambda: world.counters()["host_ipip"] == counted["host_ipip"] + 1, "the tunnel carries it")
            assert world.counters()["host_direct"] == counted["host_direct"]
        assert_direct(world, 1, 2)
        assert agent.status()["agent"]["state"] == "ok", "no user gives the operator an alarm"
    assert agent.map_now() == before


def test_a_rule_admits_a_namespace_and_no_claim_of_it_on_others(world, victims):
    one, two, before = victims
    reload({"rules": [{"match": {"netns": "pod"}, "set": {"trust": True}}]})
    with namespace_of_a_user("pod", *ipip("claim0", "198.18.77.2", f"{two.public}/32"),
                             *ipip("own0", OWN, "10.0.77.2/32")):
        found = tunnels("pod")
        assert (found["claim0"]["state"], found["claim0"]["reason"]) == ("conflict", "address-claimed")
        assert found["claim0"]["rival"]["netns"] == two.netns
        assert (found["own0"]["state"], found["own0"]["rule"]) == ("mapped", 0)
        assert agent.map_now() == {**before, (OWN, None): OWN, ("198.18.77.2", None): None}
        assert_direct(world, 1, 2)
        # Nor more than what all may claim.
        reload({"rules": [{"match": {"netns": "pod"}, "set": {"trust": True}}],
                "allowed_game_server_ips": [f"{one.public}/32", f"{two.public}/32"]})
        assert tunnels("pod")["own0"]["reason"] == "not-allowed"
        assert (OWN, None) not in agent.map_now()
    assert agent.map_now() == before


def test_a_rule_distrusts_a_namespace_of_the_host(world, victims):
    one, two, _before = victims
    reload({"rules": [{"match": {"netns": one.netns}, "set": {"trust": False}}]})
    assert agent.map_now() == {(two.remote, None): two.public}
    assert tunnels(one.netns)["tun0"]["reason"] == "untrusted"
    reload({})
    assert_direct(world, 1, 2)


def test_a_namespace_beyond_a_limit_contributes_nothing(world, victims):
    one, two, _before = victims
    run = topology.run
    run("ip", "-n", one.netns, "address", "add", "10.0.78.1/32", "dev", "lo")
    try:
        found = [address for link in json.loads(run("ip", "-n", one.netns, "-j", "-4", "address"))
                 for address in link["addr_info"]]
        reload({"limits": {"addresses_per_namespace": len(found) - 1}})
        assert tunnels(one.netns)["tun0"]["reason"] == "too-many-addresses"
        assert agent.map_now() == {(two.remote, None): two.public}
        assert agent.status()["agent"]["state"] == "degraded"
    finally:
        run("ip", "-n", one.netns, "address", "delete", "10.0.78.1/32", "dev", "lo")
    reload({})
    assert_direct(world, 1, 2)


def test_the_older_claim_stays_when_the_agent_starts_anew(world, victims):
    """Names are sorted, so an agent without a memory would take "a-late" for the older one."""
    _one, two, before = victims
    topology.run("ip", "netns", "add", "a-late")
    topology.run("ip", "-n", "a-late", "-batch", "-", text_in="\n".join([
        "link add tun0 type ipip remote 198.18.77.2 local 10.9.77.2",
        f"address add {two.public}/32 dev tun0", "link set tun0 up"]) + "\n")
    refused = {**before, ("198.18.77.2", None): None}
    try:
        topology.wait_for(lambda: agent.map_now() == refused, "the claim is refused")
        for _ in range(2):
            world.agent.kill()
            world.agent = agent.Agent("--config", CONFIG)
            assert agent.map_now() == refused
            assert tunnels("a-late")["tun0"]["reason"] == "address-claimed"
            assert_direct(world, 1, 2)
    finally:
        topology.run("ip", "netns", "delete", "a-late")
    topology.wait_for(lambda: agent.map_now() == before, "its row goes with it")
