# SPDX-License-Identifier: MIT
"""A host whose routes change all the time, as one that speaks BGP: the agent reads them now and then, not for
each change, and the last change is never missed."""

import time

from sandbox import CTL

N_ROUTES, N_FLAPPING, SECONDS, READS = 32000, 2000, 3, 20


def agent_view(sandbox):
    return sandbox.read_status()["agent"]


def wait_for(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def seconds_per_read(sandbox):
    """Of a processor, of the agent's for a read of all routes that somebody asks for."""
    def spent():
        with open(f"/proc/{sandbox.agent.pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0]) / 1e9

    before = spent()
    for _ in range(READS):
        sandbox.do(CTL, "resync")
    return (spent() - before) / READS


def test_flapping(sandbox):
    routes = [f"10.{i >> 8}.{i & 255}.0/24 via 198.18.0.1" for i in range(N_ROUTES)]
    sandbox.write("/run/all", "".join(f"route add {route}\n" for route in routes))
    sandbox.write("/run/flap", "".join(f"route del {route}\nroute add {route}\n" for route in routes[:N_FLAPPING]))
    sandbox.do("ip", "link", "add", "wan2", "type", "veth", "peer", "name", "gateway2")
    sandbox.do("ip", "addr", "add", "198.19.0.2/24", "dev", "wan2")
    for device in ("wan2", "gateway2"):
        sandbox.do("ip", "link", "set", device, "up")
    sandbox.do("ip", "-batch", "/run/all")
    sandbox.start_agent()
    before, start = agent_view(sandbox), time.monotonic()
    while time.monotonic() < start + SECONDS:
        sandbox.do("ip", "-batch", "/run/flap")
    sandbox.do("ip", "route", "add", "default", "via", "198.19.0.1", "metric", "5")
    wait_for(lambda: "wan2" in [i["name"] for i in sandbox.read_status()["interfaces"]], "the last change is seen")
    after, took = agent_view(sandbox), time.monotonic() - start
    quiet = agent_view(sandbox)["route_reads"]
    time.sleep(1)
    assert agent_view(sandbox)["route_reads"] <= quiet + 1, "it ends"
    # The pause is ten times what a read takes, so reads take a tenth of the time; with the debounce alone it is half.
    share = (after["route_reads"] - before["route_reads"]) * seconds_per_read(sandbox) / took
    assert 0 < share < 0.2, (share, took, after)
    # Nor is there a pass for changes that are not read yet.
    assert after["passes"] - before["passes"] <= 2 * (after["route_reads"] - before["route_reads"]) + took


def test_a_small_table_is_followed_at_once(sandbox):
    sandbox.start_agent()
    seconds = []
    for n in range(9):
        reads = agent_view(sandbox)["route_reads"]
        start = time.monotonic()
        sandbox.do("ip", "route", "add", f"10.0.{n}.0/24", "via", "198.18.0.1")
        wait_for(lambda last=reads: agent_view(sandbox)["route_reads"] > last, "read")
        seconds.append(time.monotonic() - start)
    assert sorted(seconds)[-3] < 2, seconds  # two at most are those of a machine that stood still


def test_a_nexthop_that_goes_takes_its_route_along(sandbox):
    """The kernel tells of the nexthop alone."""
    sandbox.do("ip", "link", "add", "wan2", "type", "veth", "peer", "name", "gateway2")
    sandbox.do("ip", "addr", "add", "198.19.0.2/24", "dev", "wan2")
    for device in ("wan2", "gateway2"):
        sandbox.do("ip", "link", "set", device, "up")
    sandbox.do("ip", "route", "del", "default")
    sandbox.do("ip", "nexthop", "add", "id", "10", "via", "198.18.0.1", "dev", "wan")
    sandbox.do("ip", "route", "add", "default", "nhid", "10", "metric", "100")
    sandbox.start_agent()
    assert [i["name"] for i in sandbox.read_status()["interfaces"]] == ["wan"]
    sandbox.do("ip", "route", "add", "default", "via", "198.19.0.1", "metric", "200")
    wait_for(lambda: [i["name"] for i in sandbox.read_status()["interfaces"]] == ["wan", "wan2"], "a second one")
    sandbox.do("ip", "nexthop", "del", "id", "10")
    wait_for(lambda: [i["name"] for i in sandbox.read_status()["interfaces"]] == ["wan2"], "what is left", 10)
