# SPDX-License-Identifier: MIT
"""A fleet whose tunnels change all the time: the map follows, and nothing is left over.

Short by default. The long form, and what docs/BENCHMARKS.md quotes:

    tests/vm/run --memory 4096 --timeout 0 --env BUILD_DIR=$PWD/build --env IPIPDIRECT_FLEET=1000 \
        --env IPIPDIRECT_CHURN_SECONDS=30 --env IPIPDIRECT_CYCLES=10000 -- \
        /usr/bin/python3 -B -m pytest -s tests/vm/test_churn.py
"""

import json
import os
import pathlib
import re
import subprocess
import time

import pytest

import agent
import fleet
import kernel
import topology

FLEET = int(os.environ.get("IPIPDIRECT_FLEET", "30"))
SECONDS = float(os.environ.get("IPIPDIRECT_CHURN_SECONDS", "3"))
CYCLES = int(os.environ.get("IPIPDIRECT_CYCLES", "60"))
RATE = 100  # changes a second
FDS = 64
LONG, GROWTH = 5000, 0.02  # An allocator takes 128 KiB at a time: of a short run that says nothing


@pytest.fixture(scope="module")
def ships():
    with fleet.Fleet(FLEET) as made:
        yield made


@pytest.fixture
def running(ships):
    with agent.Agent("--resync-interval", "3600") as made:
        yield made.process.pid
    agent.detach()


def report(what, pid, **more):
    print(json.dumps({"what": what, "namespaces": FLEET, **more, "fds": agent.n_fds(pid),
                      "rss_mib": round(agent.rss(pid) / 1048576, 1)}))


def test_changes_reach_the_map(ships, running):
    fds = agent.n_fds(running)
    # How long it takes is for the long run on a quiet machine; that each comes is for all.
    done = ships.end(ships.churn(int(RATE * SECONDS), RATE, "r", timed=True))
    expected = fleet.oracle()
    topology.wait_for(lambda: agent.map_now() == expected, "the map is what iproute2 says", 60)
    report("changes", running, **done)
    assert done["timed"] + done["superseded"] == done["changes"]
    assert len(expected) == ships.size
    # One more while a child writes the status, and others while a pass reads: these come and go.
    topology.wait_for(lambda: agent.n_fds(running) <= fds + 1 < FDS, "no file descriptor is left over", 30)
    topology.wait_for(lambda: agent.status()["map"]["remotes"] == ships.size, "the status says so", 60)
    assert agent.status()["agent"]["pid"] == running


def nsids():
    """Of other namespaces. That the agent's own has a number in itself may come of `ip netns add` (ARCHITECTURE)."""
    out = topology.run("ip", "netns", "list-id")
    return len(set(re.findall(r"^nsid (\d+)", out, re.M)) - {str(kernel.own_nsid())})


def test_namespaces_that_come_and_go(ships, running):
    topology.wait_for(lambda: len(agent.map_now()) == ships.size, "the fleet is mapped", 60)
    fds, numbers = agent.n_fds(running), nsids()
    done, start, warm = 0, time.monotonic(), None
    while done < CYCLES:
        some = range(100000 + done, 100000 + min(done + 50, CYCLES))
        ships.create(some)
        ships.delete(some)
        done += len(some)
        if warm is None and done >= CYCLES / 10:
            warm = agent.own_memory(running)
    seconds = time.monotonic() - start
    topology.wait_for(lambda: nsids() == numbers, "all namespaces are gone", 60)
    expected = fleet.oracle()
    assert len(expected) == ships.size
    topology.wait_for(lambda: agent.map_now() == expected, "only the fleet is mapped", 60)
    topology.wait_for(lambda: agent.n_fds(running) <= fds, "no file descriptor is left over", 30)
    end = agent.own_memory(running)
    report("namespaces made and deleted", running, cycles=done, seconds=round(seconds),
           own_mib=[round(size / 1048576, 2) for size in (warm, end)])
    assert end <= warm * (1 + GROWTH) or CYCLES < LONG


def test_idle_is_idle(running):
    """Nothing happens, nobody wakes up: but for the look at a TCX link, which makes no events, once a second."""
    uses_tcx = agent.status()["interfaces"][0]["attachment"] == "tcx"
    topology.wait_for(lambda: agent.quiet_for(2), "what the start brought is over", 20)
    start = time.monotonic()
    trace = subprocess.Popen(["strace", "-f", "-q", "-e", "trace=epoll_wait,epoll_pwait,epoll_pwait2", "-o", "/tmp/idle",
                              "-p", str(running)])
    topology.wait_for(lambda: "TracerPid:\t0\n" not in pathlib.Path(f"/proc/{running}/status").read_text(encoding="ascii"),
                      "strace is attached", 30)
    time.sleep(5)
    trace.terminate()
    trace.wait()
    seconds = time.monotonic() - start
    wakes = [line for line in pathlib.Path("/tmp/idle").read_text().splitlines() if re.search(r"= [1-9]", line)]
    assert len(wakes) <= (seconds + 1 if uses_tcx else 0), wakes
