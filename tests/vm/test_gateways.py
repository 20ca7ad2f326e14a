# SPDX-License-Identifier: MIT
"""Gateways that only direct packets use: the agent has the kernel look after their neighbour entries.

The tunnel goes by gw2, the client is behind gw, so the host itself sends gw nothing at all. gw asks for
nobody either: a new MAC address of its own goes unannounced. segment.py has the picture."""

import contextlib
import socket
import struct
import time

import pytest

import agent
import frames
import kernel
import segment
import topology
import traffic
from segment import host, neighbour

NOBODY = "192.0.2.99"
# Of the host's device: an entry is good for 0.5 to 1.5 s, then probed after 1 s, three times.
NEIGHBOUR_SYSCTLS = {"base_reachable_time_ms": 1000, "delay_first_probe_time": 1, "retrans_time_ms": 200}
COMINGS = 40
WITHIN = 8.0  # of those, with time for a machine that emulates
WINDOW, WINDOWS = 2.0, 5  # of seconds in which the agent's use of the processor is looked at
ETH_P_ARP = 0x0806


@pytest.fixture(scope="module")
def lan():
    with topology.World(pops=2) as world:
        server = world.add_server(1)
        made = segment.Segment(world)
        host(f"route add {server.remote} via {segment.GATEWAY2} dev eth0")
        topology.run("sysctl", "-qw", *(f"net.ipv4.neigh.eth0.{name}={value}"
                                        for name, value in NEIGHBOUR_SYSCTLS.items()))
        made.outside.nft("gw", "table arp silent { chain out { type filter hook output priority 0; "
                               "arp operation request oifname host drop; }; }")
        with agent.Agent("--resync-interval", "3600") as made.agent, traffic.UdpServer(server):
            yield made
        agent.detach()


def host_mac():
    with open("/sys/class/net/eth0/address", encoding="ascii") as file:
        return file.read().strip()


def set_gateway_mac(lan, mac):
    """With what gw knows of the host, which goes with the address."""
    lan.outside.batch("gw", f"link set host address {mac}",
                      f"neigh replace {topology.HOST} lladdr {host_mac()} dev host nud permanent",
                      f"route replace 10.9.0.0/16 via {topology.HOST}")


class Wire:
    """Where direct replies of the host go: the MAC addresses of those since the last time."""

    def __init__(self, lan):
        self.sniffer = frames.Sniffer(lan.outside.netns_fd("lan"), "host")

    def destinations(self):
        return {frame.destination for frame in self.sniffer.take()
                if frame.port == traffic.PORT and not frame.tunnelled}


@pytest.fixture
def stream(lan):
    set_gateway_mac(lan, segment.GATEWAY_MAC)
    made = traffic.Stream(lan.world, lan.world.servers[1].public)
    topology.wait_for(lambda: len(made.received) >= 20, "answers", 3 * WITHIN)  # gw may have had another address
    yield made
    made.stop(grace=0)


def test_a_gateway_that_changes_its_mac_address_silently(lan, stream):
    wire = Wire(lan)
    topology.wait_for(lambda: wire.destinations() == {segment.GATEWAY_MAC}, "direct by gw")
    set_gateway_mac(lan, segment.SPARE_MAC)
    start = time.monotonic()
    topology.wait_for(lambda: segment.SPARE_MAC in wire.destinations(), "sent to the new address", WITHIN)
    print(f"after {time.monotonic() - start:.1f} s")
    before = len(stream.received)
    topology.wait_for(lambda: len(stream.received) >= before + 20, "answers again")
    assert wire.destinations() == {segment.SPARE_MAC}


def test_a_gateway_whose_entry_is_deleted(lan, stream):
    host(f"neigh delete {topology.GATEWAY} dev eth0")
    topology.wait_for(lambda: neighbour(topology.GATEWAY)[1] is not None, "resolved anew", WITHIN)


class Requests:
    """ARP requests of the host for one address, counted."""

    def __init__(self, lan, address):
        self.address = socket.inet_aton(address)
        # All protocols: those of one are not asked for at the port of a bridge.
        self.socket = kernel.socket_in(lan.outside.netns_fd("lan"), socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.bind(("host", frames.ETH_P_ALL))
        self.socket.setblocking(False)
        self.n = 0

    def count(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                frame = self.socket.recv(64)
                ethertype, operation = struct.unpack_from("!H6xH", frame, 12)
                self.n += (ethertype, operation, frame[38:42]) == (ETH_P_ARP, 1, self.address)
        return self.n


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_a_gateway_that_does_not_answer(lan):
    """It is asked again and again, ever more rarely; when it comes, it is found."""
    requests = Requests(lan, NOBODY)
    host(f"route add 198.51.77.0/24 via {NOBODY} dev eth0")
    # Three broadcasts each time: at once, once more, then after 1, 2 and 4 seconds.
    topology.wait_for(lambda: requests.count() >= 9, "asked three times")
    start, had = time.monotonic(), requests.count()
    topology.wait_for(lambda: time.monotonic() > start + 3, "a while", 4)
    assert requests.count() - had <= 6, "asked without a pause"
    lan.outside.batch("near", f"address add {NOBODY}/24 dev eth0")
    topology.wait_for(lambda: neighbour(NOBODY)[1] == segment.NEAR_MAC, "found", 20)
    host("route delete 198.51.77.0/24")


def test_a_gateway_that_comes_and_goes(lan):
    """A neighbour is no reason for a pass. Other things are, as the ports of a bridge that learn, but not so often."""
    lan.outside.batch("near", f"address replace {NOBODY}/24 dev eth0")
    host(f"route add 198.51.77.0/24 via {NOBODY} dev eth0")
    agent.resync()
    topology.wait_for(lambda: neighbour(NOBODY)[1] == segment.NEAR_MAC, "known as a gateway", 20)
    passes = agent.status()["agent"]["passes"]
    for _ in range(COMINGS):
        host(f"neigh replace {NOBODY} lladdr {segment.NEAR_MAC} dev eth0 nud stale")
        host(f"neigh delete {NOBODY} dev eth0")
    assert agent.status()["agent"]["passes"] <= passes + COMINGS / 2
    host("route delete 198.51.77.0/24")


def test_entries_of_others_are_left_alone(lan):
    """A client on-link, and a gateway's entry that was set by hand."""
    host(f"neigh replace {segment.NEAR} lladdr {segment.NEAR_MAC} dev eth0 nud stale",
         f"neigh replace {topology.GATEWAY} lladdr {segment.GATEWAY_MAC} dev eth0 nud permanent")
    start = time.monotonic()
    topology.wait_for(lambda: time.monotonic() > start + 1, "the agent has had its time", 3)
    assert neighbour(segment.NEAR) == ("STALE", segment.NEAR_MAC)
    assert neighbour(topology.GATEWAY) == ("PERMANENT", segment.GATEWAY_MAC)
    host(f"neigh delete {topology.GATEWAY} dev eth0")


def test_it_never_runs_wild(lan):
    """All of the above cost the agent next to nothing. What stands still with the machine in the agent's time counts as its
    own, so it need not be each window."""
    pid, used = lan.agent.process.pid, []
    while not used or used[-1] > 20:  # ticks, of 200
        assert len(used) < WINDOWS, used
        before = cpu_ticks(pid)
        time.sleep(WINDOW)
        used.append(cpu_ticks(pid) - before)
