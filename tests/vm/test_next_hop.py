# SPDX-License-Identifier: MIT
"""The next hop of a reply that goes direct is the client's, not the POP's, whatever the routes and
neighbours do meanwhile; where there is none to be sure of, the tunnel carries it. Never is one lost.

segment.py has the picture. Each test sees every reply arrive once, and its frame leave the host."""

import contextlib
import socket

import pytest

import agent
import frames
import segment
import topology
import traffic
from segment import Client, Replies, ask, forget, host, kept, learn, neighbour


@pytest.fixture(scope="module")
def lan():
    with topology.World(pops=2) as world:
        # The second has its POP on the segment: the remote itself is on-link.
        servers = [world.add_server(1), world.add_server(2, pop=2, model="C")]
        made = segment.Segment(world)
        host(f"route add {servers[1].remote} dev eth0")
        made.near = Client(world.outside.netns_fd("near"))
        with contextlib.ExitStack() as running:
            running.enter_context(agent.Agent())
            for server in servers:
                running.enter_context(traffic.UdpServer(server))
            yield made
        agent.detach()


@pytest.fixture
def server(lan):
    return lan.world.servers[1]


@contextlib.contextmanager
def route(line):
    """Until the agent has read it, packets go where they went before, and so they do when it is gone again."""
    host(f"route add {line}")
    agent.resync()
    try:
        yield
    finally:
        host(f"route delete {line}")
        agent.resync()


@contextlib.contextmanager
def another_mac(lan, netns, device, address):
    """As of a spare part, announced. Frames under way to the old one would be lost: there are none."""
    def change(mac):
        lan.outside.batch(netns, f"link set {device} address {mac}")
        lan.announce(netns, device, mac, address)
        topology.wait_for(lambda: neighbour(address)[1] == mac, "the host knows")

    (old,) = [mac for mac, name in lan.names.items() if name == netns]
    lan.names[segment.SPARE_MAC] = f"the new {netns}"
    change(segment.SPARE_MAC)
    try:
        yield
    finally:
        change(old)


def test_client_behind_the_gateway(lan, server):
    with lan.direct_packets() as seen, Replies(lan, server) as replies:
        replies.more()
    assert replies.paths == ["direct to gw"]
    assert seen == {"gw": replies.sent, "gw2": 0}


def test_client_on_link(lan, server):
    """Until its neighbour is known, the tunnel carries the replies."""
    forget(segment.NEAR)
    before = kept(server)
    with Replies(lan, server, lan.near) as replies:
        replies.more()
    assert replies.paths == ["tunnel to gw"]
    assert kept(server) - before == replies.sent
    with Replies(lan, server, lan.near) as replies:
        replies.more()
        learn(segment.NEAR)
        replies.more()
    assert replies.paths == ["tunnel to gw", "direct to near"]


def ask_so_often(times):
    topology.run("sysctl", "-qw", f"net.ipv4.neigh.eth0.mcast_solicit={times}")


@contextlib.contextmanager
def keeps_silent(lan, netns):
    """Does not answer when the host asks for its address, which it does for longer than looking at it may take."""
    lan.outside.nft(netns, "table arp apart { chain in { type filter hook input priority 0; "
                           f"arp saddr ip {topology.HOST} drop; }}; }}")
    ask_so_often(10)
    try:
        yield
    finally:
        ask_so_often(3)
        lan.outside.nft(netns, "delete table arp apart")


def test_client_on_link_that_does_not_answer_for_itself(lan, server):
    """Stations kept apart from each other, say: the entry exists, but there is no address in it."""
    forget(segment.NEAR)
    before = kept(server)
    with keeps_silent(lan, "near"), Replies(lan, server, lan.near) as replies:
        replies.more()
        ask(segment.NEAR)
        assert neighbour(segment.NEAR) == ("INCOMPLETE", None)
        replies.more()
        topology.wait_for(lambda: neighbour(segment.NEAR)[0] == "FAILED", "no answer to ARP", 30)
        replies.more()
    assert replies.paths == ["tunnel to gw"]
    assert kept(server) - before == replies.sent


def test_client_on_link_gets_another_mac_address(lan, server):
    learn(segment.NEAR)
    with another_mac(lan, "near", "eth0", segment.NEAR):
        with Replies(lan, server, lan.near) as replies:
            replies.more()
    assert replies.paths == ["direct to the new near"]


def test_pop_on_link(lan):
    """The frames have the POP's address until it is replaced by the gateway's or the client's."""
    server = lan.world.servers[2]
    forget(segment.NEAR)
    with Replies(lan, server, lan.near) as replies:
        replies.more()
        learn(segment.NEAR)
        replies.more()
    assert replies.paths == ["tunnel to pop2", "direct to near"]
    with Replies(lan, server) as replies:
        replies.more()
    assert replies.paths == ["direct to gw"]


def test_the_default_route_moves_to_another_gateway(lan, server):
    with lan.direct_packets() as seen, Replies(lan, server) as replies:
        replies.more()
        host(f"route replace default via {segment.GATEWAY2}")
        replies.more()
        host(f"route replace default via {topology.GATEWAY}")
        replies.more()
    assert replies.paths == ["direct to gw", "direct to gw2", "direct to gw"]
    assert seen["gw2"] >= 20 and seen["gw"] + seen["gw2"] == replies.sent


def test_the_default_route_moves_and_the_pops_does_not(lan, server):
    """Frames go on fitting what was learned of the former gateway."""
    with route(f"{server.remote} via {topology.GATEWAY}"), Replies(lan, server) as replies:
        replies.more()
        host(f"route replace default via {segment.GATEWAY2}")
        agent.resync()
        replies.more()
        host(f"route replace default via {topology.GATEWAY}")
        agent.resync()
        replies.more()
        with route(f"default via {segment.GATEWAY2} metric 1"):
            host("route delete default metric 0")
            agent.resync()
            replies.more()
            host(f"route add default via {topology.GATEWAY}")
            agent.resync()
            replies.more()
    assert replies.paths == ["direct to gw", "direct to gw2", "direct to gw", "direct to gw2", "direct to gw"]


def move_gateway(lan, old, new):
    """As VRRP does it: the new owner announces the address, and the old one still forwards."""
    macs = {"gw": segment.GATEWAY_MAC, "gw2": segment.GATEWAY2_MAC}
    lan.outside.batch(old, f"address delete {topology.GATEWAY}/24 dev host")
    lan.outside.batch(new, f"address add {topology.GATEWAY}/24 dev host")
    lan.announce(new, "host", macs[new], topology.GATEWAY)


@pytest.mark.parametrize("pop_route", [None, segment.GATEWAY_OWN])
def test_the_gateway_address_moves_to_another_router(lan, server, pop_route):
    """With a route to the POP by one of the routers themselves, its frames do not change."""
    with contextlib.ExitStack() as stack:
        if pop_route:
            stack.enter_context(route(f"{server.remote} via {pop_route}"))
        with Replies(lan, server) as replies:
            replies.more()
            before = lan.direct_packets_at("gw2")
            move_gateway(lan, "gw", "gw2")
            topology.wait_for(lambda: lan.direct_packets_at("gw2") > before, "it has been noticed", 20)
            replies.more()
            move_gateway(lan, "gw2", "gw")
            replies.more()
    assert replies.paths == ["direct to gw", "direct to gw2", "direct to gw"]


def test_the_gateway_gets_another_mac_address(lan, server):
    with another_mac(lan, "gw", "host", topology.GATEWAY):
        with Replies(lan, server) as replies:
            replies.more()
    assert replies.paths == ["direct to the new gw"]


def test_a_route_to_the_client_by_another_router(lan, server):
    """Which the host knows nothing of yet: the agent has the kernel ask. Until it has answered, the tunnel
    carries the replies."""
    forget(segment.GATEWAY2)
    with Replies(lan, server) as replies:
        replies.more()
        with route(f"198.51.100.0/24 via {segment.GATEWAY2}"):
            topology.wait_for(lambda: neighbour(segment.GATEWAY2)[1], "asked for and answered")
            replies.more()
        replies.more()
    direct = [path for path in replies.paths if path != "tunnel to gw"]
    assert direct == ["direct to gw", "direct to gw2", "direct to gw"], replies.paths


def test_a_route_by_a_router_that_does_not_answer(lan, server):
    with keeps_silent(lan, "gw2"):
        forget(segment.GATEWAY2)
        before = kept(server)
        with route(f"198.51.100.0/24 via {segment.GATEWAY2}"):
            with Replies(lan, server) as replies:
                replies.more()
        assert replies.paths == ["tunnel to gw"]
        assert kept(server) - before == replies.sent
    forget(segment.GATEWAY2)


PRIVATE = ("10.66.0.7", "172.31.0.7", "192.168.66.7", "100.64.0.7", "169.254.66.7")


def test_what_is_private_behind_the_gateway_stays(lan, server):
    """A POP's address in its own network, say: it has to be answered through the tunnel."""
    before = kept(server)
    with lan.direct_packets() as seen, server.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((server.inner, 0))
        for address in PRIVATE:
            sender.sendto(b"alive", (address, 9))
        topology.wait_for(lambda: kept(server) - before == len(PRIVATE), "all have stayed")
    assert seen == {"gw": 0, "gw2": 0}


def test_a_private_client_on_link(lan, server):
    host("address add 10.66.0.1/24 dev eth0")
    lan.outside.batch("near", "address add 10.66.0.7/24 dev eth0")
    try:
        learn("10.66.0.7")
        with server.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, \
                frames.Sniffer(lan.outside.netns_fd("lan"), "host") as wire:
            sender.bind((server.inner, 0))
            sender.sendto(b"to a neighbour", ("10.66.0.7", 9))
            found = topology.wait_for(lambda: [f for f in wire.take() if f.payload.startswith(b"to a neigh")], "its frame")
        assert [(f.tunnelled, f.destination, f.address) for f in found] == [(False, segment.NEAR_MAC, server.public)]
    finally:
        host("address del 10.66.0.1/24 dev eth0")
        lan.outside.batch("near", "address del 10.66.0.7/24 dev eth0")


def attached():
    return sorted(i["name"] for i in agent.status()["interfaces"] if i["attachment"])


def test_a_second_default_route(lan, server):
    """A worse one, but the tunnel goes that way: so does the direct reply, by that way's gateway."""
    with route(f"default via {segment.GATEWAY2_SECOND} metric 200"):
        topology.wait_for(lambda: attached() == ["eth0", "eth1"], "attached to both")
        with Replies(lan, server) as replies:
            replies.more()
            with route(f"{server.remote} via {segment.GATEWAY2_SECOND}"):
                replies.more()
            replies.more()
        assert replies.paths == ["direct to gw", "direct to gw2 by eth1", "direct to gw"]
        with Replies(lan, lan.world.servers[2]) as replies:
            replies.more()
        assert replies.paths == ["direct to gw"]
    topology.wait_for(lambda: attached() == ["eth0"], "eth1 left alone")


def test_client_nearer_by_another_interface(lan, server):
    """The tunnel leaves by eth0, the client's route by eth1, where nothing can be sent from here."""
    before = kept(server)
    with route(f"198.51.100.0/24 via {segment.GATEWAY2_SECOND}"):
        with Replies(lan, server) as replies:
            replies.more()
    assert replies.paths == ["tunnel to gw"]
    assert kept(server) - before == replies.sent


def test_client_in_a_namespace_of_this_host(lan, server):
    """Nearer by another interface as well: the veth pair between."""
    topology.run("ip", "netns", "add", "local")
    host("link add vlocal type veth peer name eth0 netns local", "address add 10.9.99.1/24 dev vlocal",
         "link set vlocal up")
    topology.run("ip", "-n", "local", "-batch", "-", text_in="address add 10.9.99.2/24 dev eth0\n"
                 "link set eth0 up\nroute add default via 10.9.99.1\n")
    before = kept(server)
    with open("/run/netns/local", "rb") as netns:
        with Replies(lan, server, Client(netns.fileno())) as replies:
            replies.more()
    topology.run("ip", "netns", "delete", "local")
    assert replies.paths == ["tunnel to gw"]
    assert kept(server) - before == replies.sent
