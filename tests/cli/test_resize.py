# SPDX-License-Identifier: MIT
"""Another max_entries by a reload, and pins made anew, where that fails at first: it is told, tried again, and leaves nothing
behind. That no reply is lost meanwhile is shown by tests/vm/test_upgrade.py."""

import contextlib
import json
import signal

import pytest

from control import NAME, connect, wait_for
from sandbox import AGENT, CTL, PINS
from tracing import failing, without_memory_for

FILE = "/run/resize.json"
ROW = "203.0.113.10"
MAPS = {"remotes", "sources", "server_ports", "exempt_clients", "counters", "kept"}
OFTEN = ("--resync-interval", "1")
SELDOM = ("--resync-interval", "3600")


def configure(sandbox, size, **more):
    sandbox.write(FILE, json.dumps({"max_entries": size, **more}))


def start(sandbox, *options):
    """Without the unit's filter: a call that strace has fail is none that a filter knows."""
    configure(sandbox, 100)
    sandbox.start_agent("--config", FILE, *options, command=[AGENT])


def status(client):
    return client.call(f"{NAME}.GetStatus")["status"]


def is_told(client, size, wanted):
    return [text for text in status(client)["agent"]["problems"] if f"room for {size} rows, not for {wanted}" in text]


def has_size(client, size):
    document = status(client)
    return document["map"]["max_rows"] == size and document["agent"]["problems"] == []


def listed(sandbox, directory=""):
    return set(sandbox.do("ls", f"{PINS}/{directory}").split())


def block(sandbox):
    """Something of somebody else is where the new maps shall be."""
    sandbox.do("mkdir", "-p", f"{PINS}/v1_new/other")


def unblock(sandbox):
    sandbox.do("rmdir", f"{PINS}/v1_new/other")


def short_of_memory(sandbox, number):
    """The agent's bpf() call of that number, from here on, fails."""
    return failing(sandbox, "-e", "trace=bpf", "-e", f"inject=bpf:error=ENOMEM:when={number}")


@contextlib.contextmanager
def refused(sandbox, *options):
    """Another size that could not be had."""
    start(sandbox, *options)
    with connect(sandbox) as client:
        block(sandbox)
        configure(sandbox, 200)
        assert not client.call(f"{NAME}.Reload")["complete"], "it is not at work"
        assert is_told(client, 100, 200)
        yield client


def test_a_reload_tries_again(sandbox):
    with refused(sandbox, *SELDOM) as client:
        assert not client.call(f"{NAME}.Reload")["complete"], "nor now"
        assert not client.call(f"{NAME}.Resync")["complete"]
        told = sandbox.run(CTL, "reload")
        assert (told.returncode, told.stdout) == (0, f"the agent has taken {FILE}\n")
        assert told.stderr.startswith("problem: the maps have room for 100 rows, not for 200"), told.stderr
        unblock(sandbox)
        wait_for(lambda: client.call(f"{NAME}.Reload")["complete"])
        assert has_size(client, 200) and "v1_new" not in listed(sandbox)


def test_a_full_pass_tries_again(sandbox):
    with refused(sandbox, *OFTEN) as client:
        unblock(sandbox)
        wait_for(lambda: has_size(client, 200))


def test_the_former_size_is_no_problem(sandbox):
    with refused(sandbox, *SELDOM) as client:
        configure(sandbox, 100)
        wait_for(lambda: client.call(f"{NAME}.Reload")["complete"])
        assert has_size(client, 100)


def test_short_of_memory_anywhere(sandbox):
    """Tried again at once, and of what was made in part nothing is left."""
    start(sandbox, *SELDOM)
    with connect(sandbox) as client:
        for i, number in enumerate(range(2, 90, 6)):
            wanted = (200, 100)[i % 2]
            configure(sandbox, wanted)
            with short_of_memory(sandbox, number):
                assert client.call(f"{NAME}.Reload")["complete"]
            assert has_size(client, wanted)
            assert "v1_new" not in listed(sandbox) and listed(sandbox, "v1") == MAPS
    assert sandbox.logged().count("the maps keep their room") >= 5, "the load has more calls than that"


def test_short_of_memory_for_a_while(sandbox):
    """It goes on trying, and says so, in the log once."""
    start(sandbox, *SELDOM)
    with connect(sandbox) as client:
        with without_memory_for(sandbox, f"{PINS}/v1_new"):
            configure(sandbox, 200)
            sandbox.agent.send_signal(signal.SIGHUP)
            passes = status(client)["agent"]["passes"]
            wait_for(lambda: status(client)["agent"]["passes"] > passes + 5)
            assert is_told(client, 100, 200)
        wait_for(lambda: has_size(client, 200))
    assert sandbox.logged().count("the maps keep their room") == 1


def test_not_before_the_former_ones_have_their_place(sandbox):
    """While the former program may be attached the maps in use are those beside. None are made in that place."""
    start(sandbox, *SELDOM)
    with connect(sandbox) as client:
        with without_memory_for(sandbox, f"{PINS}/link_{sandbox.ifindex()}", f"{PINS}/prog_{sandbox.ifindex()}"):
            configure(sandbox, 200)
            client.call(f"{NAME}.Reload")
            assert status(client)["map"]["max_rows"] == 200 and listed(sandbox, "v1_new") == MAPS
            block(sandbox)
            configure(sandbox, 300)
            assert not client.call(f"{NAME}.Reload")["complete"]
            assert is_told(client, 200, 300)
            assert listed(sandbox, "v1_new") == MAPS | {"other"}
            unblock(sandbox)
        wait_for(lambda: has_size(client, 300))
    assert listed(sandbox, "v1") == MAPS and "v1_new" not in listed(sandbox)


@pytest.mark.parametrize("removed", [PINS, f"{PINS}/v1"])
@pytest.mark.parametrize("number", [3, 20, 51, 60])  # a map, the pin of the jumps, opening what was pinned
def test_pins_that_cannot_be_made_anew_at_first(sandbox, removed, number):
    start(sandbox, *SELDOM)
    with connect(sandbox) as client:
        sandbox.do("rm", "-r", removed)
        with short_of_memory(sandbox, number):
            client.call(f"{NAME}.Attach")
        wait_for(lambda: sandbox.exists(f"{PINS}/v1/kept") and has_size(client, 100) and sandbox.is_attached())
        assert listed(sandbox, "v1") == MAPS and "v1_new" not in listed(sandbox)
        sandbox.add_row(ROW, ROW, slot=1)
        wait_for(lambda: client.call(f"{NAME}.Resync")["complete"])
    assert sandbox.ctl_json("map", "dump")[1]["entries"] == [], "what is pinned is what the agent uses"
