# SPDX-License-Identifier: MIT
"""The map follows the tunnels, and the agent holds no namespace alive."""

import itertools
import os
import subprocess
import time

import pytest

import agent
import topology

EVENT_SECONDS = 0.1  # what is promised on an idle machine
SAMPLES, ROUNDS = 5, 6  # a busy one may spoil a round, but not each
RESYNC_SECONDS = 2


@pytest.fixture(scope="module")
def world():
    # Grace periods are most of the time that it takes to delete a namespace.
    with open("/sys/kernel/rcu_expedited", "w", encoding="ascii") as file:
        file.write("1")
    with topology.World() as made:
        yield made


@pytest.fixture
def server(world):
    made = world.add_server(1)
    yield made
    world.remove_server(1)


@pytest.fixture
def running(server):
    with agent.Agent("--resync-interval", str(RESYNC_SECONDS)) as made:
        yield made
    agent.detach()


@pytest.fixture
def remotes(running, server):
    with agent.Remotes() as opened:
        opened.wait(server.remote, agent.model_a(server.public))
        yield opened


class IpBatch:
    """One running `ip -batch`: a command costs microseconds, not the start of a process."""

    def __init__(self, netns=None):
        where = ["-n", netns] if netns else []
        self.process = subprocess.Popen(["ip", *where, "-batch", "-"], stdin=subprocess.PIPE,
                                        text=True)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.stdin.close()
        assert self.process.wait() == 0

    def do(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()


def seconds_until(action, condition, what):
    start = time.monotonic()
    action()
    topology.wait_for(condition, what)
    return time.monotonic() - start


def middle_of(samples):
    return sorted(samples)[len(samples) // 2]


def check_in_time(sample):
    """Whether the middle one of some is within what is promised, in one of the rounds. `sample` is given numbers."""
    numbers, rounds = itertools.count(), []
    while not rounds or middle_of(rounds[-1]) > EVENT_SECONDS:
        assert len(rounds) < ROUNDS, rounds
        rounds.append([sample(next(numbers)) for _ in range(SAMPLES)])


def test_a_new_tunnel_is_mapped_in_time(remotes, server):
    with IpBatch(server.netns) as ip:
        def sample(n):
            remote = f"203.0.113.{100 + n}"
            return seconds_until(
                lambda: ip.do(f"link add name z{n} type ipip remote {remote} local {server.underlay}"),
                lambda: remotes.get(remote) == agent.model_a(remote), f"{remote} mapped")

        ip.do("link show lo")
        check_in_time(sample)


def test_a_removed_tunnel_leaves_the_map_in_time(remotes, server):
    with IpBatch(server.netns) as ip:
        def sample(n):
            remote = f"203.0.113.{100 + n}"
            ip.do(f"link add name z{n} type ipip remote {remote} local {server.underlay}")
            remotes.wait(remote, agent.model_a(remote))
            return seconds_until(lambda: ip.do(f"link delete z{n}"), lambda: remotes.get(remote) is None, f"{remote} gone")

        check_in_time(sample)


def test_a_remote_changed_while_up_moves_the_row_in_time(remotes, server):
    with IpBatch(server.netns) as ip:
        def sample(n):
            old, new = f"203.0.113.{100 + n}", f"203.0.113.{101 + n}"
            return seconds_until(
                lambda: ip.do(f"link change z type ipip remote {new} local {server.underlay}"),
                lambda: remotes.get(new) == agent.model_a(new) and remotes.get(old) is None, f"{new} for {old}")

        ip.do(f"link add name z type ipip remote 203.0.113.100 local {server.underlay}")
        ip.do("link set z up")
        remotes.wait("203.0.113.100", agent.model_a("203.0.113.100"))
        check_in_time(sample)


def test_a_remote_changed_while_down_is_found_by_the_periodic_pass(remotes, server):
    """Such a change emits no event at all: net/ipv4/ip_tunnel.c, ip_tunnel_update()."""
    topology.run("ip", "-n", server.netns, "link", "add", "name", "z", "type", "ipip",
                 "remote", "203.0.113.100", "local", server.underlay)
    remotes.wait("203.0.113.100", agent.model_a("203.0.113.100"))
    topology.run("ip", "-n", server.netns, "link", "change", "z", "type", "ipip",
                 "remote", "203.0.113.101", "local", server.underlay)
    remotes.wait("203.0.113.101", agent.model_a("203.0.113.101"), seconds=RESYNC_SECONDS + 1)
    topology.wait_for(lambda: remotes.get("203.0.113.100") is None, "the old remote gone")


def test_a_deleted_namespace_really_goes(world, remotes):
    """Its veth on the host goes with it, and that at once: nothing pins it."""
    world.add_server(2)
    remotes.wait(topology.public_ip(2), agent.model_a(topology.public_ip(2)))
    world.servers[2].release()
    topology.run("ip", "netns", "delete", "g2")
    # The kernel takes namespaces apart in a worker, after an RCU grace period.
    topology.wait_for(lambda: not os.path.exists("/sys/class/net/v2"), "v2 gone", 1)
    topology.wait_for(lambda: remotes.get(topology.public_ip(2)) is None, "the row gone")
    world.remove_server(2)


def test_a_namespace_made_later_is_found(world, remotes):
    world.add_server(3)
    remotes.wait(topology.public_ip(3), agent.model_a(topology.public_ip(3)))
    world.remove_server(3)


def test_the_agent_opens_nothing_for_a_namespace(running, remotes):
    """As many files with ten namespaces as with one, but for the moment of a pass."""
    before = agent.n_fds(running.process.pid)
    for n in range(10):
        topology.run("ip", "netns", "add", f"x{n}")
        topology.run("ip", "-n", f"x{n}", "link", "add", "tun0", "type", "ipip",
                     "remote", f"203.0.113.{100 + n}", "local", "10.9.1.9")
    try:
        for n in range(10):
            remotes.wait(f"203.0.113.{100 + n}", agent.model_a(f"203.0.113.{100 + n}"))
        # One more while a child writes the status.
        topology.wait_for(lambda: agent.n_fds(running.process.pid) <= before + 1, "nothing more is open")
    finally:
        for n in range(10):
            topology.run("ip", "netns", "delete", f"x{n}")
