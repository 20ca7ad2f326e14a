# SPDX-License-Identifier: MIT
"""Which maps a new agent adopts, which it replaces, and what is left then. That nothing is lost meanwhile is
shown by tests/vm/test_upgrade.py."""

import json
import os
import time

import pytest

from control import wait_for
from sandbox import AGENT, BUILD_DIR, FILTER, PINS
from tracing import without_memory_for

OTHER = os.path.join(BUILD_DIR, "tests/vm/other/build/agent/ipipdirectd")
ROW = "203.0.113.10"
PASSES_MAX = 60  # in half a minute: after 50 ms, twice as long each time, three seconds at most


def pins(sandbox):
    """Sets of maps by name, the rest without numbers; what holds the program is a link, or before 6.6 a filter's."""
    names = [pin if pin.startswith("v") else pin.split("_")[0] for pin in sandbox.do("ls", PINS).split()]
    return sorted("link" if name == "prog" else name for name in names)


def attached(sandbox):
    (interface,) = sandbox.read_status()["interfaces"]
    assert interface["error"] is None
    return interface["program_id"]


def program_in_kernel(sandbox):
    link, program = (f"{PINS}/{kind}_{sandbox.ifindex()}" for kind in ("link", "prog"))
    if sandbox.exists(link):
        return json.loads(sandbox.do("bpftool", "-j", "link", "show", "pinned", link))["prog_id"]
    return json.loads(sandbox.do("bpftool", "-j", "prog", "show", "pinned", program))["id"]


def once(sandbox, command=AGENT, *options):
    sandbox.do(*FILTER, command, "--once", *options)
    assert attached(sandbox) == program_in_kernel(sandbox)
    return sandbox.read_status()["map"]


def size(sandbox, max_entries, **others):
    sandbox.write("/run/config.json", json.dumps({"max_entries": max_entries, **others}))
    return "--config", "/run/config.json"


@pytest.fixture
def running(sandbox):
    once(sandbox)
    sandbox.add_row(ROW, ROW, slot=1)
    return sandbox


def test_the_same_are_adopted(running):
    before = running.do("bpftool", "-j", "map", "show", "pinned", f"{PINS}/v1/counters")
    once(running)
    assert running.do("bpftool", "-j", "map", "show", "pinned", f"{PINS}/v1/counters") == before
    assert pins(running) == ["jumps", "link", "v1"]


@pytest.mark.parametrize("command, directory, abi", [(OTHER, "v2", 2), (AGENT, "v1", 1)])
def test_those_of_another_abi_are_replaced(running, command, directory, abi):
    if abi == 1:
        once(running, OTHER)
    assert once(running, command)["abi"] == abi
    assert pins(running) == sorted(["jumps", "link", directory])


def test_those_of_another_size_are_replaced(running):
    running.count(0, kept={0: 7})
    view = once(running, AGENT, *size(running, 100))
    assert (view["max_rows"], view["no_entry_packets"]) == (100, 7)
    assert pins(running) == ["jumps", "link", "v1"]
    assert once(running)["max_rows"] == 16384


def test_incomplete_ones_are_replaced(running):
    running.do("rm", f"{PINS}/v1/sources")
    once(running)
    assert pins(running) == ["jumps", "link", "v1"]
    assert running.exists(f"{PINS}/v1/sources")


def test_what_a_killed_agent_was_filling_goes(running):
    running.do("mkdir", f"{PINS}/v1_new")
    running.do("mv", f"{PINS}/v1/remotes", f"{PINS}/v1_new/remotes")
    once(running)
    assert pins(running) == ["jumps", "link", "v1"]


def test_killed_before_the_new_ones_had_their_name(running):
    """The program that is attached uses maps that nobody finds: it is replaced all the same."""
    running.do("mv", f"{PINS}/v1", f"{PINS}/v1_new")
    once(running)
    assert pins(running) == ["jumps", "link", "v1"]


CALLS = ("unlink", "rmdir", "rename", "renameat2")


def places(sandbox, inject, options):
    """[(call, its number among those of its kind)] by which a new agent changes the sets."""
    sandbox.do("strace", "-qq", "-o", "/run/trace", "-e", "trace=" + ",".join(CALLS), *inject, AGENT, "--once", *options)
    lines = sandbox.do("cat", "/run/trace").splitlines()
    calls = [line.split("(")[0] for line in lines]
    return [(call, calls[:i + 1].count(call)) for i, call in enumerate(calls) if f"{PINS}/v1" in lines[i]]


@pytest.mark.parametrize("inject", [(), ("-e", "inject=renameat2:error=EINVAL")], ids=["at once", "as before 5.16"])
def test_killed_while_the_new_ones_get_their_place(running, inject):
    """At no moment is there no set, as where nothing was ever attached; where two can change places, nothing is lost."""
    running.count(0, kept={0: 7})
    for call, number in places(running, inject, size(running, 100)):
        if inject and call == "renameat2":
            continue
        once(running)
        running.count(0, kept={0: 7})
        done = running.run("strace", "-qq", "-o", "/dev/null", *inject, "-e", f"inject={call}:signal=KILL:when={number}",
                           AGENT, "--once", *size(running, 100))
        assert done.returncode != 0, f"{call} {number} was not reached"
        assert running.exists(f"{PINS}/v1"), f"killed at {call} {number}"
        view = once(running, AGENT, *size(running, 100))
        assert inject or view["no_entry_packets"] == 7, f"killed at {call} {number}"
        assert pins(running) == ["jumps", "link", "v1"]


def test_killed_before_the_former_were_removed(running):
    running.do("mkdir", f"{PINS}/v7")
    running.do("bpftool", "map", "create", f"{PINS}/v7/something", "type", "array", "key", "4", "value", "4",
               "entries", "1", "name", "something")
    once(running)
    assert pins(running) == ["jumps", "link", "v1"]


def test_without_a_default_route_it_stays_and_is_replaced_there(running):
    running.do("ip", "route", "del", "default")
    before = attached(running)
    assert once(running, AGENT, *size(running, 100))["max_rows"] == 100
    assert attached(running) != before


def test_the_tools_of_another_version_say_so(running):
    once(running, OTHER)
    status, document = running.ctl_json("map", "dump")
    assert (status, document["error"]["code"]) == (2, "pins-invalid")
    once(running)
    assert running.ctl_json("map", "dump")[0] == 0


@pytest.mark.parametrize("names", [("v2",), ("v1_new",), ("v1", "v2", "v2_new")])
def test_detach_removes_all_sets(running, names):
    for name in names:
        running.do("mkdir", "-p", f"{PINS}/{name}")
    assert running.ctl("detach").returncode == 0
    assert not running.exists(PINS)


def test_nothing_of_the_former_goes_while_it_may_be_attached(sandbox):
    """The look at what is attached fails, so that goes on, with the parts and maps that it needs."""
    sandbox.start_agent(*size(sandbox, 200), command=[AGENT])
    former, before = program_in_kernel(sandbox), sandbox.do("ls", PINS).split()
    with without_memory_for(sandbox, f"{PINS}/link_{sandbox.ifindex()}", f"{PINS}/prog_{sandbox.ifindex()}"):
        size(sandbox, 100)
        sandbox.ctl("reload")
        wait_for(lambda: sandbox.read_status()["map"]["max_rows"] == 100)
        wait_for(lambda: sandbox.read_status()["agent"]["state"] == "degraded")
        assert program_in_kernel(sandbox) == former
        assert set(before) < set(sandbox.do("ls", PINS).split()), "what it needs is there"
        assert pins(sandbox) == ["jumps", "jumps", "link", "v1", "v1_new"]
    wait_for(lambda: pins(sandbox) == ["jumps", "link", "v1"])
    wait_for(lambda: sandbox.read_status()["agent"]["state"] == "ok")
    assert attached(sandbox) == program_in_kernel(sandbox) != former


def errors(sandbox):
    return {interface["name"]: interface["error"] for interface in sandbox.read_status()["interfaces"]}


def resized(sandbox, max_entries, **others):
    """A running agent has got maps of another size, in their place, and nothing of the former is left."""
    size(sandbox, max_entries, **others)
    sandbox.ctl("reload")
    wait_for(lambda: sandbox.read_status()["map"]["max_rows"] == max_entries)
    wait_for(lambda: pins(sandbox) == ["jumps", "link", "v1"])
    assert sandbox.ctl_json("map", "dump")[1]["max_rows"] == max_entries


def test_an_interface_that_is_not_there_delays_nothing(sandbox):
    wanted = {"interfaces": ["wan", "ppp0"]}
    sandbox.start_agent(*size(sandbox, 200, **wanted))
    assert errors(sandbox) == {"wan": None, "ppp0": "there is no such interface"}
    resized(sandbox, 100, **wanted)
    sandbox.stop_agent()
    sandbox.start_agent(*size(sandbox, 100, **wanted))
    assert pins(sandbox) == ["jumps", "link", "v1"], "nor does a start leave anything"
    sandbox.do("ip", "link", "set", "gateway", "name", "ppp0")
    wait_for(lambda: errors(sandbox) == {"wan": None, "ppp0": None})


def test_an_interface_that_was_renamed_is_left(sandbox):
    """Its program is not to go on with maps that are removed."""
    wanted = {"interfaces": ["wan", "gateway"]}
    sandbox.start_agent(*size(sandbox, 200, **wanted))
    assert errors(sandbox) == {"wan": None, "gateway": None}
    sandbox.stop_agent()
    sandbox.do("ip", "link", "set", "gateway", "name", "other")
    sandbox.start_agent(*size(sandbox, 100, **wanted))
    assert pins(sandbox) == ["jumps", "link", "v1"]
    assert sandbox.is_attached() and not sandbox.is_attached("other")


def test_an_interface_that_nothing_may_be_attached_to_delays_nothing(sandbox):
    """Its feature cannot be turned off, as that cannot be noted."""
    wanted = {"interfaces": ["wan", "gateway"], "offload_guard": "on"}
    sandbox.start_agent(*size(sandbox, 200, **wanted))
    sandbox.do("mkdir", "/run/ipipdirect/.offloads.json.new")
    sandbox.do("ethtool", "-K", "gateway", "tx-ipxip4-segmentation", "on")
    sandbox.ctl("reload")
    wait_for(lambda: "cannot be turned off" in (errors(sandbox)["gateway"] or ""))
    assert sandbox.is_attached() and not sandbox.is_attached("gateway")
    resized(sandbox, 100, **wanted)


def test_what_never_gets_known_delays_it_for_half_a_minute(running):
    """Rows that are missing would send packets through the tunnel, so the former program stays meanwhile; but not for ever."""
    once(running, OTHER)
    former = program_in_kernel(running)
    running.do("mkdir", "-p", "/run/netns")
    running.do("ln", "-s", "/" + "x" * 300, "/run/netns/unknown")  # the kernel does not follow it: ENAMETOOLONG
    start = time.monotonic()
    running.start_agent()
    while program_in_kernel(running) == former:
        assert time.monotonic() < start + 50, "never taken over"
        time.sleep(0.2)
    assert time.monotonic() >= start + 29
    assert running.read_status()["agent"]["passes"] < PASSES_MAX
    assert pins(running) == ["jumps", "link", "v1"]
