# SPDX-License-Identifier: MIT
"""Another version takes over, with another ABI of the maps; or the maps get another size. Each reply
arrives, once, and none takes the way over the POP meanwhile: the program is replaced in place, by one
whose maps are complete."""

import json
import os
import signal
import subprocess
import time

import pytest

import agent
import topology
import traffic
from kernel import has_tcx

OTHER_BUILD = os.path.join(agent.BUILD_DIR, "tests/vm/other/build")
THIS, OTHER = agent.AGENT, os.path.join(OTHER_BUILD, "agent/ipipdirectd")
ABI = {THIS: 1, OTHER: 2}
CONFIG = "/tmp/config.json"


pytestmark = pytest.mark.usefixtures("nothing_left")


def pins():
    """Kinds of what is pinned: sets of maps by name, the rest without its number."""
    return sorted(pin if pin.startswith("v") else pin.split("_")[0] for pin in os.listdir(agent.PINS))


def check_taken_over(command):
    (interface,) = agent.status()["interfaces"]
    assert interface["attachment"] == ("tcx" if has_tcx() else "clsact")
    assert pins() == sorted(["jumps", "link" if has_tcx() else "prog", f"v{ABI[command]}"])
    assert agent.status()["map"]["abi"] == ABI[command]
    assert (interface["restored"], agent.status()["agent"]["state"]) == (0, "ok")
    return interface["program_id"]


def test_upgrade_and_downgrade(world):
    running = agent.Agent(command=(*agent.FILTER, THIS))
    with traffic.Unharmed(world) as replies:
        programs, rows = [check_taken_over(THIS)], agent.rows_told()
        for command, end in ((OTHER, running.__class__.kill), (OTHER, running.__class__.stop),
                             (THIS, running.__class__.kill), (THIS, running.__class__.stop)):
            end(running)
            replies.more()
            running = agent.Agent(command=(*agent.FILTER, command))
            programs.append(check_taken_over(command))
            assert agent.rows_told() == rows
            replies.more()
        assert len(set(programs)) == len(programs), "each time another program"
    running.stop()


def test_killed_while_it_takes_over(world):
    """At any moment, again and again, upgrading and downgrading by turns."""
    agent.Agent(command=(*agent.FILTER, THIS)).kill()
    with traffic.Unharmed(world) as replies:
        for i, milliseconds in enumerate(range(40, 1240, 100)):
            command = (OTHER, THIS)[i % 2]
            with subprocess.Popen([command], stderr=subprocess.DEVNULL) as process:
                time.sleep(milliseconds / 1000)  # how far it gets is not known, and shall not matter
                process.kill()
        replies.more()
        with agent.Agent(command=(*agent.FILTER, OTHER)):
            check_taken_over(OTHER)
            replies.more()
        with agent.Agent(command=(*agent.FILTER, THIS)):
            check_taken_over(THIS)
            replies.more()


def test_the_other_versions_tools_see_and_remove_everything(world):
    with agent.Agent(command=(*agent.FILTER, OTHER)):
        check_taken_over(OTHER)
    ctl = os.path.join(OTHER_BUILD, "tools/ipipdirectctl")
    assert agent.rows_in(json.loads(topology.run(ctl, "-j", "map", "dump"))["entries"]) == world.rows()
    agent.detach()  # with this version's


def configure(max_entries):
    with open(CONFIG, "w", encoding="utf-8") as file:
        json.dump({"max_entries": max_entries}, file)


def direct_packets():
    return sum(e["counters"]["direct_packets"] for e in agent.live_entries())


def test_the_maps_get_another_size(world):
    """By a reload, by a restart, and back: rows and counters come along."""
    configure(100)
    running = agent.Agent("--config", CONFIG)
    with traffic.Unharmed(world) as replies:
        program, rows = check_taken_over(THIS), agent.rows_told()
        counted = direct_packets()
        assert agent.status()["map"]["max_rows"] == 100 and counted > 0
        configure(5000)
        running.process.send_signal(signal.SIGHUP)
        topology.wait_for(lambda: agent.status()["map"]["max_rows"] == 5000, "larger maps")
        assert check_taken_over(THIS) != program and agent.rows_told() == rows
        assert direct_packets() >= counted
        counted = direct_packets()
        replies.more()
        running.kill()
        configure(200)
        running = agent.Agent("--config", CONFIG)
        assert agent.status()["map"]["max_rows"] == 200
        check_taken_over(THIS)
        assert agent.rows_told() == rows and direct_packets() >= counted
        replies.more()
    running.stop()
