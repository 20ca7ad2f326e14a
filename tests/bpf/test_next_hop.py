# SPDX-License-Identifier: MIT
"""Where a direct packet goes: the kernel's routes, rules and neighbours of this very moment."""

import contextlib

import pytest

import datapath
from packets import *  # pylint: disable=wildcard-import,unused-wildcard-import

OTHER_GATEWAY, OTHER_MAC = "198.51.100.3", "02:00:00:00:01:03"


@contextlib.contextmanager
def changed(namespace, change, back):
    namespace.batch(change + "\n")
    try:
        yield
    finally:
        namespace.batch(back + "\n")


@pytest.fixture
def second_gateway(namespace):
    with changed(namespace, f"neigh add {OTHER_GATEWAY} lladdr {OTHER_MAC} dev uplink nud permanent",
                 f"neigh del {OTHER_GATEWAY} dev uplink"):
        yield


def goes_to(runner, recipe=udp()):
    """The MAC address a packet goes to, or None for one that stays."""
    verdict, out, counted = runner.run(tunnelled(recipe(PRIVATE)))
    assert verdict == datapath.TC_ACT_UNSPEC
    for mac in (datapath.GATEWAY_MAC, OTHER_MAC, datapath.NEIGHBOUR_MAC):
        if out == direct(recipe(REMOTE_A), mac=mac):
            assert counted == {(1, "direct"): (1, len(recipe(PRIVATE)))}
            return mac
    assert out == tunnelled(recipe(PRIVATE)) and counted == {(1, "KEPT_NO_NEXT_HOP"): 1}
    return None


def test_gateway_takes_another_mac(configured, namespace):
    """As when the other of two VRRP routers takes over."""
    with changed(namespace, f"neigh replace {datapath.GATEWAY} lladdr {OTHER_MAC} dev uplink",
                 f"neigh replace {datapath.GATEWAY} lladdr {datapath.GATEWAY_MAC} dev uplink nud permanent"):
        assert goes_to(configured) == OTHER_MAC
    assert goes_to(configured) == datapath.GATEWAY_MAC


def test_default_route_is_replaced(configured, namespace, second_gateway):
    with changed(namespace, f"route replace default via {OTHER_GATEWAY}",
                 f"route replace default via {datapath.GATEWAY}"):
        assert goes_to(configured) == OTHER_MAC


def test_no_default_route(configured, namespace):
    with changed(namespace, "route del default", f"route add default via {datapath.GATEWAY}"):
        assert goes_to(configured) is None
        assert goes_to(configured, udp(client=datapath.NEIGHBOUR)) == datapath.NEIGHBOUR_MAC


@pytest.mark.parametrize("client", [
    "9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "100.63.255.255",
    "100.128.0.0", "169.253.255.255", "169.255.0.0"])
def test_next_to_a_private_network(configured, client):
    assert goes_to(configured, udp(client=client)) == datapath.GATEWAY_MAC


def test_private_and_a_neighbour(configured, namespace):
    """Behind a gateway it may be anybody's; on this very network there is no doubt."""
    client = "10.66.0.7"
    with changed(namespace, f"route add 10.66.0.0/24 dev uplink\n"
                            f"neigh add {client} lladdr {datapath.NEIGHBOUR_MAC} dev uplink nud permanent",
                 f"neigh del {client} dev uplink\nroute del 10.66.0.0/24 dev uplink"):
        assert goes_to(configured, udp(client=client)) == datapath.NEIGHBOUR_MAC
    with changed(namespace, f"route add 10.66.0.0/24 via {datapath.GATEWAY}", "route del 10.66.0.0/24"):
        assert goes_to(configured, udp(client=client)) is None


def test_gateway_without_a_neighbour_entry(configured, namespace):
    with changed(namespace, f"neigh del {datapath.GATEWAY} dev uplink",
                 f"neigh replace {datapath.GATEWAY} lladdr {datapath.GATEWAY_MAC} dev uplink nud permanent"):
        assert goes_to(configured) is None
        assert goes_to(configured, udp(client=datapath.NEIGHBOUR)) == datapath.NEIGHBOUR_MAC


def test_gateway_that_is_stale_is_still_good(configured, namespace):
    """The tunnel's packets ask for it all the time, and so keep it true."""
    with changed(namespace, f"neigh replace {datapath.GATEWAY} lladdr {datapath.GATEWAY_MAC} dev uplink nud stale",
                 f"neigh replace {datapath.GATEWAY} lladdr {datapath.GATEWAY_MAC} dev uplink nud permanent"):
        assert goes_to(configured) == datapath.GATEWAY_MAC


def test_gateway_that_failed(configured, namespace):
    with changed(namespace, f"neigh replace {datapath.GATEWAY} dev uplink nud failed",
                 f"neigh replace {datapath.GATEWAY} lladdr {datapath.GATEWAY_MAC} dev uplink nud permanent"):
        assert goes_to(configured) is None


def test_route_of_a_client_network(configured, namespace, second_gateway):
    with changed(namespace, f"route add 203.0.113.0/25 via {OTHER_GATEWAY}", "route del 203.0.113.0/25"):
        assert goes_to(configured) == OTHER_MAC
        assert goes_to(configured, udp(client="203.0.113.150")) == datapath.GATEWAY_MAC


@pytest.mark.parametrize("rule,hit,miss", [
    (f"from {REMOTE_A}", udp(), None),
    (f"from {PRIVATE}", None, udp()),
    ("tos 0x10", udp(tos=0x10), udp()),
    ("ipproto tcp", tcp(), udp()),
    ("sport 27016", udp(sport=27016), udp()),
    ("dport 51005", udp(dport=51005), udp()),
    ("iif lo", udp(), None),
    ("fwmark 1", None, udp()),
], ids=lambda value: value if isinstance(value, str) else "")
def test_routing_rule(configured, namespace, second_gateway, rule, hit, miss):
    """Rules see the packet as it will leave, sent from here; marks they do not see."""
    with changed(namespace, f"route add default via {OTHER_GATEWAY} dev uplink table 77\n"
                            f"rule add {rule} lookup 77 pref 77",
                 "rule del pref 77\nroute flush table 77"):
        if hit:
            assert goes_to(configured, hit) == OTHER_MAC
        if miss:
            assert goes_to(configured, miss) == datapath.GATEWAY_MAC


@pytest.fixture
def second_interface(namespace):
    with changed(namespace, "link add second type veth peer name wire2\nlink set second up\nlink set wire2 up\n"
                            "addr add 198.18.0.2/24 dev second\n"
                            f"neigh add 198.18.0.1 lladdr {OTHER_MAC} dev second nud permanent",
                 "link del second"):
        yield


def test_default_route_of_another_interface(configured, namespace, second_interface):
    """An agent knows that only default routes lead to the client: what leaves here goes on by this interface's
    own, be the other's ever so good. Without one it might be nearer by the other, and stays."""
    with changed(namespace, "route replace default via 198.18.0.1 dev second\n"
                            f"route add default via {datapath.GATEWAY} dev uplink metric 500",
                 "route del default dev second\nroute del default dev uplink metric 500\n"
                 f"route add default via {datapath.GATEWAY} dev uplink"):
        assert goes_to(configured) == (datapath.GATEWAY_MAC if configured.agent else None)


def test_client_that_is_nearer_by_another_interface(configured, namespace, second_interface):
    with changed(namespace, "route add 203.0.113.0/25 via 198.18.0.1 dev second",
                 "route del 203.0.113.0/25 dev second"):
        if configured.agent:
            configured.ask("uplink", "uplink", datapath.GATEWAY, ",".join((*datapath.ROUTES, "203.0.113.0/25")))
        assert goes_to(configured) is None
        assert goes_to(configured, udp(client="203.0.113.150")) == datapath.GATEWAY_MAC


def test_client_that_only_another_interface_reaches(configured, namespace, second_interface):
    with changed(namespace, "route del default\nroute add default via 198.18.0.1 dev second",
                 f"route del default\nroute add default via {datapath.GATEWAY} dev uplink"):
        assert goes_to(configured) is None


def test_a_route_that_the_agent_has_not_read_yet_is_not_taken_for_the_default_one(configured, namespace, second_gateway):
    """Its clients go where the FIB says; who shares the POP's next hop with them does not."""
    by_other = Ether(dst=OTHER_MAC, src=datapath.UP_MAC)
    with changed(namespace, f"route add 203.0.113.0/25 via {OTHER_GATEWAY}", "route del 203.0.113.0/25"):
        assert goes_to(configured) == OTHER_MAC
        for _ in range(2):
            _, out, _ = configured.run(tunnelled(udp(client="203.0.113.150")(PRIVATE), ether=by_other))
            assert out == direct(udp(client="203.0.113.150")(REMOTE_A))


def test_without_a_gateway_each_client_has_a_next_hop_of_its_own(configured, namespace):
    """As where a router answers for everybody: the POP, or another client, may be somebody else on that network."""
    by_neighbour = Ether(dst=datapath.NEIGHBOUR_MAC, src=datapath.UP_MAC)
    mine, other = "203.0.113.150", "203.0.113.151"
    if configured.agent:
        configured.ask("uplink", "uplink", "0.0.0.0", ",".join(datapath.ROUTES))
    with changed(namespace, "route replace default dev uplink\n"
                            f"neigh add {mine} lladdr {OTHER_MAC} dev uplink nud permanent\n"
                            f"neigh add {other} lladdr {datapath.NEIGHBOUR_MAC} dev uplink nud permanent",
                 f"neigh del {mine} dev uplink\nneigh del {other} dev uplink\n"
                 f"route replace default via {datapath.GATEWAY} dev uplink"):
        assert goes_to(configured, udp(client=other)) == datapath.NEIGHBOUR_MAC
        for _ in range(2):
            _, out, _ = configured.run(tunnelled(udp(client=mine)(PRIVATE), ether=by_neighbour))
            assert out == direct(udp(client=mine)(REMOTE_A), mac=OTHER_MAC)
        assert goes_to(configured) is None, "nobody knows that client's"


@pytest.mark.live  # the kernel chooses by a number of its own
def test_equal_paths(configured, namespace, second_gateway):
    """One or the other."""
    with changed(namespace, f"route replace default nexthop via {datapath.GATEWAY} nexthop via {OTHER_GATEWAY}",
                 f"route replace default via {datapath.GATEWAY}"):
        assert goes_to(configured) in (datapath.GATEWAY_MAC, OTHER_MAC)


def test_interface_mtu_is_no_obstacle_to_what_the_tunnel_sent(configured, namespace):
    """1,500 bytes with the outer header fit, and so they do without; a smaller route MTU is not asked."""
    recipe = udp(bytes(1452))
    with changed(namespace, f"link set uplink mtu 1500\nroute replace default via {datapath.GATEWAY} mtu 1400",
                 f"route replace default via {datapath.GATEWAY}"):
        assert goes_to(configured, recipe) == datapath.GATEWAY_MAC
