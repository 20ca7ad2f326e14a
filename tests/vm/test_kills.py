# SPDX-License-Identifier: MIT
"""Killed at random instants, at its start, at work and hanging (SIGSTOP, as before a watchdog), while tunnels come, change,
share a remote and go: whoever starts next makes the map what iproute2 says, and no reply of three tunnels notices.

Short by default. The long form, and what docs/RELIABILITY.md quotes:

    tests/vm/run --timeout 0 --env BUILD_DIR=$PWD/build --env IPIPDIRECT_KILLS=100 -- \
        /usr/bin/python3 -B -m pytest -s tests/vm/test_kills.py

IPIPDIRECT_SEED repeats the choices of a run, though not its timing.
"""

import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import time

import pytest

import agent
import fleet
import topology
import traffic

KILLS = int(os.environ.get("IPIPDIRECT_KILLS", "12"))
SEED = int(os.environ.get("IPIPDIRECT_SEED", "1"))
FLEET = 5
# Nothing but the start itself may make the map right: no periodic pass.
OPTIONS = ("--resync-interval", "3600")
KINDS = ("at start", "at work", "hanging", "at work", "at start")
# A start takes a third of this here, so that some are killed before anything is loaded and some after the first pass.
LONGEST = 0.8


def end(process):
    process.kill()
    assert process.wait(30) == -signal.SIGKILL, "it ended before it was killed"


def kill_a_start(rng):
    """An agent that was started and is killed, wherever it was by then."""
    with subprocess.Popen([agent.AGENT, *OPTIONS], stderr=subprocess.DEVNULL) as process:
        time.sleep(rng.uniform(0, LONGEST))
        end(process)


def kill_at_work(running, rng, hangs):
    time.sleep(rng.uniform(0, LONGEST))
    if hangs:
        running.process.send_signal(signal.SIGSTOP)
        time.sleep(rng.uniform(0, LONGEST))
    end(running.process)
    running.close()


def check_map():
    expected = fleet.oracle()
    assert len(expected) > 3
    with contextlib.suppress(AssertionError):
        topology.wait_for(lambda: agent.map_now() == expected, "the map is what iproute2 says", 30)
    assert agent.map_now() == expected
    topology.wait_for(lambda: agent.status()["agent"]["state"] == "ok", "it says so", 30)


def n_pins():
    """The rest of those that were killed is taken away: one set of maps, one link or program, its parts."""
    return len(os.listdir(agent.PINS))


def test_killed_at_random_instants(world):
    rng = random.Random(SEED)
    done = collections.Counter()
    running = agent.Agent(*OPTIONS)
    with fleet.Fleet(FLEET, uplink=False) as ships, fleet.Pairs() as pairs, \
            contextlib.closing(fleet.Churn(ships, pairs, random.Random(SEED))) as churn:
        ships.set_up(range(FLEET))
        check_map()
        with traffic.Unharmed(world, per_second=20) as replies:
            for i in range(KILLS):
                churn.go()
                kind = KINDS[i % len(KINDS)]
                if kind == "at start":
                    running.stop()
                    kill_a_start(rng)
                else:
                    kill_at_work(running, rng, hangs=kind == "hanging")
                done[kind] += 1
                running = agent.Agent(*OPTIONS)
                churn.pause()
                check_map()
                assert n_pins() == 3
            replies.more()
    running.stop()
    print(json.dumps({"seed": SEED, "kills": KILLS, **done, "changes": dict(churn.done),
                      "replies": replies.sent}))
    assert all(churn.done[what] for what in ("change", "share", "create", "delete"))
