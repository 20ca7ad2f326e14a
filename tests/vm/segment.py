# SPDX-License-Identifier: MIT
"""World's host and gateway on a shared Ethernet segment, with more stations, and a second way out:

              ┌── gw: 192.0.2.1, and .3 of its own ──┬── POPs
    host ─────┼── gw2: 192.0.2.2 ────────────────────┴── client
     │        ├── near: a client, 192.0.2.50
     │        └── pop2: 192.0.2.60, and 198.18.2.2 as ever
     └─ eth1 ─── gw2: 192.0.3.1

The segment is a bridge in a namespace of its own, `lan`. Frames are named after the station that has the
MAC address: their path is where they go and whether in the tunnel, as in "direct to gw".
"""

import contextlib
import itertools
import json
import os
import socket
import struct

import agent
import frames
import kernel
import topology
import traffic

GATEWAY_OWN, GATEWAY2, GATEWAY2_SECOND = "192.0.2.3", "192.0.2.2", "192.0.3.1"
NEAR, POP_NEAR = "192.0.2.50", "192.0.2.60"
GATEWAY_MAC, GATEWAY2_MAC, SECOND_MAC, NEAR_MAC, POP_MAC, SPARE_MAC = (
    f"02:00:00:00:00:{n:02x}" for n in range(1, 7))


def host(*lines):
    topology.run("ip", "-batch", "-", text_in="\n".join(lines) + "\n")


class Segment:
    def __init__(self, world):
        self.world, self.outside = world, world.outside
        self.names = {}
        topology.run("modprobe", "bridge")
        for netns in ("lan", "gw2", "near"):
            self.outside.run("ip", "netns", "add", netns)
            self.outside.run("ip", "netns", "exec", netns, "sysctl", "-qw",
                             *topology.sysctl_script(topology.SYSCTLS))
        self._make_bridge()
        self._join_gateway()
        self._join_gateway2()
        self._join_others()
        self._make_second_way()

    def _make_bridge(self):
        """The gateway's port to the host becomes the host's port of the bridge."""
        self.outside.batch("gw", "link set host netns lan")
        self.outside.batch("lan", "link add br0 type bridge", "link set br0 up",
                           "link set host master br0", "link set host up")

    def join(self, netns, device, mac, *addresses):
        self.outside.batch("lan", f"link add {netns} type veth peer name {device} netns {netns}",
                           f"link set {netns} master br0", f"link set {netns} up")
        self.outside.batch(netns, f"link set {device} address {mac}",
                           *(f"address add {a}/24 dev {device}" for a in addresses),
                           f"link set {device} up")
        self.names[mac] = netns

    def _join_gateway(self):
        self.join("gw", "host", GATEWAY_MAC, GATEWAY_OWN, topology.GATEWAY)
        self.outside.batch("gw", f"route add 10.9.0.0/16 via {topology.HOST}")

    def _join_gateway2(self):
        """It has a link of its own to the client, and leaves what is not for it to gw."""
        self.join("gw2", "host", GATEWAY2_MAC, GATEWAY2)
        self.outside.batch(
            "gw2", "link add client type veth peer name eth1 netns client",
            "address add 198.51.101.1/24 dev client", "link set client up",
            f"route add default via {GATEWAY_OWN}")
        self.outside.batch("client", "address add 198.51.101.2/24 dev eth1", "link set eth1 up")
        self.outside.batch("gw2", f"route add {topology.CLIENT} via 198.51.101.2")
        self.outside.nft("gw2", topology.GATEWAY_RULES)

    def _join_others(self):
        self.join("near", "eth0", NEAR_MAC, NEAR)
        self.outside.batch("near", "link set lo up", f"route add default via {topology.GATEWAY}")
        self.join("pop2", "lan", POP_MAC, POP_NEAR)

    def _make_second_way(self):
        self.outside.batch("gw2", "link add host2 type veth peer name hostside",
                           f"link set host2 address {SECOND_MAC}",
                           f"address add {GATEWAY2_SECOND}/24 dev host2", "link set host2 up",
                           f"link set hostside name eth1 netns {os.getpid()}")
        self.world.cleanup.callback(topology.run, "ip", "link", "delete", "eth1")
        host("address add 192.0.3.10/24 dev eth1", "link set eth1 up")
        self.names[SECOND_MAC] = "gw2 by eth1"

    def announce(self, netns, device, mac, address):
        """A gratuitous ARP request, as of a router that takes an address over."""
        mac, ip = bytes.fromhex(mac.replace(":", "")), socket.inet_aton(address)
        frame = (b"\xff" * 6 + mac + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1) +
                 mac + ip + bytes(6) + ip)
        with kernel.socket_in(self.outside.netns_fd(netns), socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((device, 0))
            raw.send(frame)

    @contextlib.contextmanager
    def direct_packets(self):
        """How many gw and gw2 see meanwhile: a dictionary that is filled at the end."""
        def read():
            return {n: self.direct_packets_at(n) for n in ("gw", "gw2")}

        before, seen = read(), {}
        yield seen
        seen.update((netns, packets - before[netns]) for netns, packets in read().items())

    def direct_packets_at(self, netns):
        return self.outside.nft_counters(netns)["host_direct"]


def neighbour(address):
    """The host's entry: (state, MAC address), or (None, None)."""
    found = json.loads(topology.run("ip", "-j", "neigh", "show", "to", address, "dev", "eth0") or "[]")
    return (found[0]["state"][0], found[0].get("lladdr")) if found else (None, None)


def ask(address):
    """The host asks for the neighbour, as if it had a packet for it. A real one might be answered, and
    then the neighbour would ask as well, at a time of its own."""
    host(f"neigh replace {address} dev eth0 use")


def learn(address):
    ask(address)
    topology.wait_for(lambda: neighbour(address)[1], f"{address} resolved")


def forget(address):
    if neighbour(address) != (None, None):
        host(f"neigh delete {address} dev eth0")
    assert neighbour(address) == (None, None)


class Client:
    """What traffic.Stream wants of a World: sockets, here of any namespace."""

    def __init__(self, netns_fd):
        self.netns_fd = netns_fd

    def client_socket(self, *args):
        return kernel.socket_in(self.netns_fd, *args)


class Replies:
    """A client that asks all the time. Afterwards it has every answer once, each left the host once,
    and `paths` says how: in the order of the questions, equal ones in a row named once."""

    def __init__(self, segment, server, client=None):
        self.segment, self.server = segment, server
        self.client = client or segment.world
        self.sent, self.paths = 0, None

    def __enter__(self):
        fd = self.segment.outside.netns_fd
        self.wires = [frames.Sniffer(fd("lan"), "host"), frames.Sniffer(fd("gw2"), "host2")]
        self.stream = traffic.Stream(self.client, self.server.public)
        return self

    def more(self, n=20):
        """Replies to questions that were not asked yet: what is under way may have gone another way."""
        enough = self.stream.sent + 1 + n  # one may be just sent
        topology.wait_for(lambda: len(self.stream.received) >= enough, f"{n} more replies")

    def __exit__(self, exception, *_):
        self.sent, lost, duplicated = self.stream.stop()
        replies = []
        for wire in self.wires:
            replies += [frame for frame in wire.take() if frame.port == traffic.PORT]
            wire.__exit__()
        if exception:
            return
        way = [self.path(frame) for frame in sorted(replies, key=lambda frame: frame.payload)]
        self.paths = [path for path, _ in itertools.groupby(way)]
        assert (lost, duplicated) == (0, 0), self.paths
        assert len(way) == self.sent, self.paths

    def path(self, frame):
        expected = self.server.inner if frame.tunnelled else self.server.public
        assert frame.address == expected, frame
        how = "tunnel" if frame.tunnelled else "direct"
        return f"{how} to {self.segment.names.get(frame.destination, frame.destination)}"


def kept(server, reason="no-next-hop"):
    (entry,) = [e for e in agent.live_entries() if e["remote"] == server.remote]
    return entry["counters"]["kept"][reason]
