# SPDX-License-Identifier: MIT
"""The default route over a VLAN, a bridge, a bond and a tun device instead of a plain Ethernet one."""

import contextlib
import fcntl
import json
import os
import select
import struct
import threading

import pytest

import agent
import frames
import kernel
import topology
import traffic

TCP_BYTES = 3_000_000
VLAN = 100
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 0x0001, 0x1000  # linux/if_tun.h


def ip(*lines):
    topology.run("ip", "-batch", "-", text_in="\n".join(lines) + "\n")


@contextlib.contextmanager
def vlan(world):
    topology.run("modprobe", "8021q")
    ip(f"link add link eth0 name eth0.{VLAN} type vlan id {VLAN}")
    world.outside.batch("gw", f"link add link host name host.{VLAN} type vlan id {VLAN}")
    yield f"eth0.{VLAN}", f"host.{VLAN}"
    ip(f"link delete eth0.{VLAN}")
    world.outside.batch("gw", f"link delete host.{VLAN}")


@contextlib.contextmanager
def bridge(world):
    topology.run("modprobe", "bridge")
    ip("link add br0 type bridge", "link set eth0 master br0")
    yield "br0", "host"
    ip("link delete br0")


@contextlib.contextmanager
def bond(world):
    topology.run("modprobe", "bonding", "max_bonds=0")
    ip("link add bond0 type bond mode active-backup miimon 10", "link set eth0 down",
       "link set eth0 master bond0", "link set bond0 up")
    topology.wait_for(lambda: read("/sys/class/net/bond0/carrier") == "1", "a carrier of the bond")
    yield "bond0", "host"
    ip("link delete bond0", "link set eth0 up")


@contextlib.contextmanager
def tun(world):
    """No link layer at all; what enters one end leaves by the other, in the gateway's namespace."""
    topology.run("modprobe", "tun")
    ends = open_tun("wan0"), open_tun("hosttun", world.outside.netns_fd("gw"))
    ip("link set wan0 up")
    world.outside.batch("gw", "link set hosttun up")  # before that, it takes no packet
    with Relay(*ends):
        yield "wan0", "hosttun"


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def open_tun(name, netns_fd=None):
    """The device lives as long as its file is open."""
    with kernel.inside(netns_fd) if netns_fd else contextlib.nullcontext():
        fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


class Relay(threading.Thread):
    def __init__(self, *ends):
        super().__init__(daemon=True)
        self.other = dict(zip(ends, reversed(ends)))
        self.wake_read, self.wake_write = os.pipe()
        self.start()

    def run(self):
        while True:
            ready, _, _ = select.select([*self.other, self.wake_read], [], [])
            if self.wake_read in ready:
                return
            for end in ready:
                os.write(self.other[end], os.read(end, 65536))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        os.write(self.wake_write, b"x")
        self.join()
        for fd in (*self.other, self.wake_read, self.wake_write):
            os.close(fd)


UPLINKS = {"vlan": vlan, "bridge": bridge, "bond": bond, "tun": tun}


@pytest.fixture(scope="module")
def world():
    with topology.World("A") as made:
        yield made


@pytest.fixture(scope="module", params=UPLINKS)
def uplink(request, world):
    """The name of the host's device; the agent runs and found it by itself."""
    with UPLINKS[request.param](world) as (device, gateway_device):
        world.move_uplink(device, gateway_device)
        with agent.Agent():
            yield device
        agent.detach()
    world.move_uplink()


@contextlib.contextmanager
def all_direct(world, least=1):
    """What is sent meanwhile reaches the gateway without tunnel: at least so many packets."""
    before = world.counters()
    yield
    after = world.counters()
    assert after["host_ipip"] == before["host_ipip"]
    assert after["host_direct"] - before["host_direct"] >= least


def direct_packets():
    (entry,) = agent.live_entries()
    return entry["counters"]["direct_packets"]


def test_the_program_is_attached_to_it_and_to_nothing_else(uplink):
    status = agent.status()
    assert status["agent"]["state"] == "ok", status["agent"]
    (interface,) = status["interfaces"]
    assert (interface["name"], interface["error"]) == (uplink, None)
    program = json.loads(topology.run("bpftool", "-j", "prog", "show", "id",
                                      str(interface["program_id"])))
    assert program["name"] == ("direct_l3" if uplink == "wan0" else "direct")
    kind = {"tcx": "link", "clsact": "prog"}[interface["attachment"]]
    ifindex = read(f"/sys/class/net/{uplink}/ifindex")
    pins = sorted(os.listdir(agent.PINS))
    # The parts of one program, no more: each loaded program has an array of its own.
    assert [pin for pin in pins if not pin.startswith("jumps_")] == sorted([f"{kind}_{ifindex}", "v1"])
    assert len(pins) == 3


def test_udp(world, uplink):
    server, before = world.servers[1], direct_packets()
    with all_direct(world), traffic.UdpServer(server), traffic.udp_client(world) as client:
        answer, peer = traffic.udp_ask(client, server.public, b"are you there?")
    assert (answer, peer) == (b"are you there?", (server.public, traffic.PORT))
    assert direct_packets() == before + 1


def test_udp_reply_in_fragments(world, uplink):
    server, big = world.servers[1], os.urandom(4000)
    with all_direct(world, least=3), traffic.UdpServer(server, reply=lambda data: big), \
            traffic.udp_client(world) as client:
        answer, peer = traffic.udp_ask(client, server.public)
    assert (answer, peer) == (big, (server.public, traffic.PORT))


def test_tcp(world, uplink):
    server = world.servers[1]
    with all_direct(world), traffic.TcpServer(server, TCP_BYTES) as sender:
        size, digest, peer = traffic.tcp_fetch(world, server.public)
    assert (size, digest) == (TCP_BYTES, sender.digest)
    assert peer == (server.public, traffic.PORT)


@pytest.mark.parametrize("uplink", ["vlan"], indirect=True)
def test_the_tag_is_on_the_wire(world, uplink):
    server = world.servers[1]
    with frames.Sniffer(world.outside.netns_fd("gw"), "host") as wire:
        with traffic.UdpServer(server), traffic.udp_client(world) as client:
            traffic.udp_ask(client, server.public)
        replies = [frame for frame in wire.take() if frame.port == traffic.PORT]
    assert [(frame.vlan, frame.tunnelled, frame.address) for frame in replies] == [
        (VLAN, False, server.public)]
