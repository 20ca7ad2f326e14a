# SPDX-License-Identifier: MIT
"""The program is taken off beside much else that goes on: it is back within a second all the same. What is told, and that
nothing is lost meanwhile, is shown by tests/vm/test_restore.py."""

import contextlib
import time

import pytest

from control import wait_for
from sandbox import PINS

N_ROUTES = 200000  # a read of them takes so long that the next one is seconds away
WITHIN = 3.0  # a second, on a busy machine
TRIES = 5  # it may stand still for longer at any instant, but hardly each time


# Without a gap, as new processes have between them: SIOCSIFFLAGS, a millisecond apart.
FLAP = """
import fcntl, socket, struct, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    for flags in (1, 0):
        fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", flags))
        time.sleep(0.001)
"""


@contextlib.contextmanager
def going_on(sandbox, script):
    """A shell script, again and again while the context lasts."""
    with sandbox.start("sh", "-ec", f"while :; do {script}; done") as process:
        try:
            yield
            assert process.poll() is None, "it ended"
        finally:
            process.kill()


def restored(sandbox):
    (interface,) = sandbox.read_status()["interfaces"]
    return interface["restored"]


def passes(sandbox):
    return sandbox.read_status()["agent"]["passes"]


def route_reads(sandbox):
    return sandbox.read_status()["agent"]["route_reads"]


@pytest.fixture
def linked(sandbox):
    sandbox.start_agent("--resync-interval", "3600")
    if not sandbox.exists(link(sandbox)):
        pytest.skip("this kernel has no TCX")
    return sandbox


def link(sandbox):
    return f"{PINS}/link_{sandbox.ifindex()}"


def take_off(sandbox):
    """Seconds until it is back."""
    before, pin = restored(sandbox), link(sandbox)
    start = time.monotonic()
    sandbox.do("rm", pin)
    wait_for(lambda: restored(sandbox) > before)
    assert sandbox.is_attached() and sandbox.exists(pin)
    return time.monotonic() - start


def test_bells_of_others_do_not_put_it_off(linked):
    """Those of a guest who rings as he likes: each has a pass of its own, and says nothing of attachments."""
    linked.do("ip", "netns", "add", "guest")
    with going_on(linked, "ip -n guest addr add 10.0.0.1/32 dev lo; sleep 0.1; ip -n guest addr del 10.0.0.1/32 dev lo; sleep 0.1"):
        before = passes(linked)
        wait_for(lambda: passes(linked) >= before + 10)
        before, start = passes(linked), time.monotonic()
        assert any(take_off(linked) < WITHIN for _ in range(TRIES)), "it waits for quiet"
        assert passes(linked) - before > time.monotonic() - start, "more than one a second"


def test_routes_that_flap_do_not_put_it_off(linked):
    """Of a host that speaks BGP, whose routes are read seconds after they changed."""
    linked.write("/run/all", "".join(f"route add 10.{i >> 16}.{i >> 8 & 255}.{i & 255} via 198.18.0.1\n" for i in range(N_ROUTES)))
    linked.do("ip", "-batch", "/run/all")
    flap = "ip route add 11.0.0.1 via 198.18.0.1; sleep 0.1; ip route del 11.0.0.1; sleep 0.1"
    with going_on(linked, flap):
        def without_a_read(i):
            before = route_reads(linked)
            wait_for(lambda: route_reads(linked) > before)
            before = route_reads(linked)
            linked.do("ip", "route", "add", f"11.0.1.{i}", "via", "198.18.0.1")  # they are stale again
            take_off(linked)
            return route_reads(linked) == before

        assert any(without_a_read(i) for i in range(TRIES)), "it waits for the routes"


def test_whoever_rings_without_end_keeps_nobody_waiting(sandbox):
    """Faster than what the agent waits for, to read what belongs together at once."""
    sandbox.do("ip", "netns", "add", "guest")
    sandbox.start_agent("--resync-interval", "3600")
    with going_on(sandbox, f"nsenter --net=/run/netns/guest /usr/bin/python3 -c '{FLAP}'"):
        made = []
        for _ in range(TRIES):
            before = passes(sandbox)
            time.sleep(2)
            made.append(passes(sandbox) - before)
        assert max(made) >= 20, made  # some 160, where each does not wait for quiet
        seconds = []
        for i in range(TRIES):
            start = time.monotonic()
            sandbox.do("ip", "netns", "add", f"other{i}")
            wait_for(lambda name=f"other{i}": [name] in [n["names"] for n in sandbox.read_status()["namespaces"]])
            seconds.append(time.monotonic() - start)
    assert min(seconds) < 2, seconds
