# SPDX-License-Identifier: MIT
"""The agent's death changes nothing on the wire, and neither does its return, also where there is no room for what it writes."""

import contextlib
import pathlib

import pytest

import agent
import topology
import traffic

KILLS = 3
RUN_DIR = pathlib.Path("/run/ipipdirect")


pytestmark = pytest.mark.usefixtures("nothing_left")


def test_killed_and_started_under_traffic(world):
    running = agent.Agent()
    with traffic.Unharmed(world) as replies:
        for _ in range(KILLS):
            replies.more(0.5)
            running.kill()
            replies.more(0.5)
            running = agent.Agent()
    status = agent.status()
    running.stop()
    assert replies.sent >= KILLS * replies.per_second
    # The counters of the rows went on counting through every restart.
    direct = sum(e["counters"]["direct_packets"] for e in status["entries"])
    assert direct >= KILLS * replies.per_second


@contextlib.contextmanager
def small_run_directory():
    RUN_DIR.mkdir(exist_ok=True)
    topology.run("mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "tmpfs", str(RUN_DIR))
    yield
    topology.run("umount", str(RUN_DIR))


def is_full():
    """Whether not a byte more had room, which now has none."""
    filler = RUN_DIR / "filler"
    before = filler.stat().st_size if filler.exists() else -1
    with contextlib.suppress(OSError), open(filler, "ab", buffering=0) as file:
        while True:
            file.write(bytes(512))
    return filler.stat().st_size == before


def test_with_a_full_run_directory(world):
    """What is told about the packets has no room. They go direct all the same; a tunnel that comes is in the map, and one that goes
    is not, also of an agent that starts meanwhile."""
    own = world.rows()
    with small_run_directory(), agent.Agent("--resync-interval", "3600") as first, agent.Remotes() as remotes:
        with traffic.Unharmed(world) as replies:
            topology.wait_for(is_full, "full")
            topology.run("ip", "netns", "add", "late")
            topology.run("ip", "-n", "late", "link", "add", "name", "z0", "type", "ipip", "remote", "45.0.0.1", "local", "10.9.77.2")
            remotes.wait("45.0.0.1", agent.model_a("45.0.0.1"))
            replies.more()
            first.kill()
            with agent.Agent("--resync-interval", "3600"):
                assert remotes.all() == {**own, ("45.0.0.1", None): "45.0.0.1"}
                topology.run("ip", "-n", "late", "link", "delete", "z0")
                topology.wait_for(lambda: remotes.all() == own, "its row goes with it")
                topology.run("ip", "-n", "late", "link", "add", "name", "z1", "type", "ipip", "remote", "45.0.0.2", "local", "10.9.77.2")
                remotes.wait("45.0.0.2", agent.model_a("45.0.0.2"))
                replies.more()
                assert agent.rows_told() == own, "there is room for a status"
                (RUN_DIR / "filler").unlink()
                topology.wait_for(lambda: agent.rows_told() == {**own, ("45.0.0.2", None): "45.0.0.2"}, "told, when there is room", 30)
    topology.run("ip", "netns", "delete", "late")
