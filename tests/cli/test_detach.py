# SPDX-License-Identifier: MIT
"""detach: removes everything of ours, and nothing else."""

import json
import re
import signal
import time

import pytest

from control import wait_for
from sandbox import AGENT, CTL, PINS
from tracing import failing

OUR_PRIORITY, OUR_HANDLE = 7, 0x69706970


def attached_id(sandbox):
    return sandbox.ctl_json("status")[1]["interfaces"][0]["program_id"]


def filters(sandbox):
    return sandbox.do("tc", "filter", "show", "dev", "wan", "egress")


def test_removes_everything(sandbox, fits):
    sandbox.once()
    sandbox.add_row("203.0.113.10", "203.0.113.10", slot=1)
    assert sandbox.exists(f"{PINS}/v1/remotes")
    done = sandbox.ctl("detach")
    assert (done.returncode, done.stderr) == (0, "")
    index = sandbox.ifindex()
    assert done.stdout == (f"detached from wan (interface index {index})\n"
                           f"removed the pinned maps below {PINS}\n")
    assert not sandbox.exists(PINS)
    assert not sandbox.is_attached()

    sandbox.once()
    status, document = sandbox.ctl_json("detach")
    assert status == 0
    assert fits("ctl-detach", document) == {"schema_version": 1, "pins_removed": True, "agent": "not-running",
                                            "detached": [{"ifindex": index, "name": "wan"}], "restored": []}


def test_twice_is_no_error(sandbox, fits):
    assert sandbox.ctl("detach").stdout == "nothing to remove\n"
    sandbox.once()
    assert sandbox.ctl("detach").returncode == 0
    done = sandbox.ctl("detach")
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing to remove\n", "")
    status, document = sandbox.ctl_json("detach")
    assert status == 0
    assert fits("ctl-detach", document) == {"schema_version": 1, "detached": [], "restored": [],
                                            "pins_removed": False, "agent": "not-running"}


def test_of_several_interfaces(sandbox, fits):
    sandbox.once("--interface", "wan", "--interface", "gateway")
    _status, document = sandbox.ctl_json("detach")
    assert sorted(item["name"] for item in fits("ctl-detach", document)["detached"]) == ["gateway", "wan"]
    assert not sandbox.is_attached("wan") and not sandbox.is_attached("gateway")


def test_of_an_interface_that_is_gone(sandbox):
    sandbox.once()
    sandbox.do("ip", "link", "del", "wan")
    done = sandbox.ctl("detach")
    assert (done.returncode, done.stderr) == (0, "")
    assert "detached from wan" in done.stdout and not sandbox.exists(PINS)


def test_of_an_agent_that_was_killed_at_once(sandbox):
    """Whatever of the directories it had made goes too."""
    sandbox.do("mkdir", PINS)
    assert sandbox.ctl("detach").returncode == 0
    assert not sandbox.exists(PINS)


def test_leaves_what_is_not_ours(sandbox):
    sandbox.once()
    sandbox.do("tc", "qdisc", "add", "dev", "wan", "clsact")
    sandbox.do("bpftool", "prog", "pin", "id", str(attached_id(sandbox)), "/sys/fs/bpf/somebody")
    add_filter(sandbox, 3, 1, "/sys/fs/bpf/somebody")
    before = filters(sandbox)
    assert "pref 3" in before
    assert sandbox.ctl("detach").returncode == 0
    assert filters(sandbox) == before
    assert sandbox.exists("/sys/fs/bpf/somebody") and not sandbox.exists(PINS)


def test_leaves_what_is_not_ours_in_our_directory(sandbox):
    sandbox.once()
    sandbox.do("bpftool", "map", "create", f"{PINS}/somebody", "type", "array", "key", "4", "value", "4",
               "entries", "1", "name", "somebody")
    done = sandbox.ctl("detach")
    assert done.returncode == 0
    assert "not ours: it stays" in done.stderr
    assert sandbox.do("ls", PINS) == "somebody\n"


def as_clsact(sandbox):
    """Turns what the agent attached into what it attaches on kernels before 6.6."""
    index, program = sandbox.ifindex(), attached_id(sandbox)
    pin = f"{PINS}/prog_{index}"
    sandbox.do("bpftool", "prog", "pin", "id", str(program), pin)
    if sandbox.exists(f"{PINS}/link_{index}"):
        sandbox.do("rm", f"{PINS}/link_{index}")
    sandbox.do("tc", "qdisc", "add", "dev", "wan", "clsact")
    add_filter(sandbox, OUR_PRIORITY, OUR_HANDLE, pin)
    return pin


def add_filter(sandbox, priority, handle, pin):
    sandbox.do("tc", "filter", "add", "dev", "wan", "egress", "prio", str(priority), "handle", hex(handle),
               "bpf", "direct-action", "object-pinned", pin)


def test_of_a_clsact_filter(sandbox):
    """The filter goes, those of others and the qdisc stay."""
    sandbox.once()
    pin = as_clsact(sandbox)
    add_filter(sandbox, 8, 1, pin)
    ours = f"handle {hex(OUR_HANDLE)}"
    assert ours in filters(sandbox)
    assert sandbox.ctl("detach").returncode == 0
    assert ours not in filters(sandbox)
    assert re.search(r"pref 8 .*handle 0x1", filters(sandbox))
    assert "clsact" in sandbox.do("tc", "qdisc", "show", "dev", "wan")
    assert not sandbox.exists(PINS)


def test_of_a_filter_whose_pins_are_gone(sandbox):
    """As when the bpffs was unmounted: the last agent's word is left."""
    sandbox.once()
    as_clsact(sandbox)
    document = sandbox.read_status()
    document["interfaces"][0]["attachment"] = "clsact"
    sandbox.do("rm", "-r", PINS)
    ours = f"handle {hex(OUR_HANDLE)}"
    # Somebody else's, by what was written.
    sandbox.write_status({**document, "interfaces": [{**document["interfaces"][0], "program_id": 1}]})
    assert "nothing is attached" in sandbox.ctl("status").stdout
    assert sandbox.ctl("detach").stdout == "nothing to remove\n" and ours in filters(sandbox)
    sandbox.write_status(document)
    assert "wan: attached (clsact" in sandbox.ctl("status").stdout
    assert "detached from wan" in sandbox.ctl("detach").stdout and ours not in filters(sandbox)
    assert sandbox.ctl("detach").stdout == "nothing to remove\n"


def test_leaves_a_filter_of_somebody_else_in_our_place(sandbox):
    """Same priority and handle, but not our program."""
    sandbox.once()
    pin = as_clsact(sandbox)
    sandbox.do("rm", pin)
    sandbox.once()  # another program; the TCX link is back
    before = filters(sandbox)
    assert sandbox.ctl("detach").returncode == 0
    assert filters(sandbox) == before and hex(OUR_HANDLE) in before


def test_from_another_namespace(sandbox, is_error):
    """A clsact filter is found by interface index, which means something else there."""
    sandbox.once()
    as_clsact(sandbox)
    sandbox.do("ip", "netns", "add", "game1")
    elsewhere = ["nsenter", "--net=/run/netns/game1"]
    done = sandbox.run(*elsewhere, CTL, "-j", "detach")
    assert done.returncode == 2
    is_error(json.loads(done.stdout), "wrong-namespace")
    assert hex(OUR_HANDLE) in filters(sandbox) and sandbox.exists(PINS)
    assert sandbox.ctl("detach").returncode == 0
    assert hex(OUR_HANDLE) not in filters(sandbox) and not sandbox.exists(PINS)


def test_of_a_tcx_link_from_another_namespace(sandbox):
    """A link goes with its pin."""
    sandbox.once()
    if not sandbox.exists(f"{PINS}/link_{sandbox.ifindex()}"):
        pytest.skip("this kernel has no TCX")
    sandbox.do("ip", "netns", "add", "game1")
    done = sandbox.run("nsenter", "--net=/run/netns/game1", CTL, "detach")
    assert done.returncode == 0 and "detached from wan" in done.stdout
    assert not sandbox.is_attached()


@pytest.mark.parametrize("runs", [False, True], ids=["without an agent", "beside one"])
def test_of_a_tcx_link_that_somebody_has_pinned_too(sandbox, runs):
    """The link outlives our pin; without one it would for a moment, in which its device may segment again."""
    if runs:
        sandbox.start_agent()
    else:
        sandbox.once()
    link = f"{PINS}/link_{sandbox.ifindex()}"
    if not sandbox.exists(link):
        pytest.skip("this kernel has no TCX")
    sandbox.do("bpftool", "link", "pin", "pinned", link, "/sys/fs/bpf/somebody")
    assert sandbox.ctl("detach").returncode == 0
    assert not sandbox.is_attached()
    assert sandbox.exists("/sys/fs/bpf/somebody")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_after_the_agent(sandbox, number):
    sandbox.start_agent()
    sandbox.stop_agent(number)
    assert sandbox.ctl("detach").returncode == 0
    assert not sandbox.exists(PINS) and not sandbox.is_attached()


def test_while_no_row_can_be_written(sandbox):
    """Whoever wants it off need not wait until the maps are right."""
    sandbox.start_agent()
    sandbox.add_row("192.0.2.9", "203.0.113.9", slot=9)
    sandbox.do("bpftool", "map", "freeze", "pinned", f"{PINS}/v1/remotes")
    assert sandbox.ctl("resync").returncode == 4
    assert any("the last pass failed" in text for text in sandbox.read_status()["agent"]["problems"])
    done = sandbox.ctl("detach")
    assert (done.returncode, done.stderr) == (0, "") and "detached from wan" in done.stdout
    assert not sandbox.is_attached()
    assert [item["name"] for item in sandbox.read_status()["interfaces"] if item["attachment"] != "none"] == []
    # Nor does it go back before they are.
    done = sandbox.ctl("attach", "wan")
    assert done.returncode == 4 and not sandbox.is_attached()
    (interface,) = sandbox.read_status()["interfaces"]
    assert (interface["name"], interface["attachment"]) == ("wan", "none") and "maps are right" in interface["error"]


def test_while_nothing_can_be_asked(sandbox):
    """No namespace, no route and no interface."""
    sandbox.start_agent(command=[AGENT])  # what strace makes of a call, the filter would not let pass
    with failing(sandbox, "-e", "inject=sendmsg:error=ENOBUFS"):
        done = sandbox.ctl("detach")
        assert (done.returncode, done.stderr) == (0, "") and "detached from wan" in done.stdout
        assert not sandbox.is_attached()


def test_what_could_be_left_only_in_part_is_not_attached_again(sandbox):
    """Also while the routes are so many that they have to wait for their time."""
    sandbox.write("/run/routes", "".join(f"route add 10.{i >> 8}.{i & 255}.0/24 via 198.18.0.1\n" for i in range(16000)))
    sandbox.do("ip", "-batch", "/run/routes")
    sandbox.start_agent()
    rest = f"{PINS}/prog_{sandbox.ifindex()}_new"
    sandbox.do("mkdir", rest)
    assert sandbox.ctl("detach").returncode == 4
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        assert not sandbox.is_attached()
        time.sleep(0.1)
    sandbox.do("rmdir", rest)
    wait_for(lambda: sandbox.ctl("detach").returncode == 0)
    assert "attached again" not in sandbox.logged()


def test_the_agent_starts_anew_after_it(sandbox):
    sandbox.once()
    sandbox.do(CTL, "detach")
    sandbox.start_agent()
    assert sandbox.is_attached()
    assert sandbox.exists(f"{PINS}/v1/remotes")


def test_where_the_pins_are_hidden(sandbox, is_error):
    """Nothing to be seen is not nothing there."""
    sandbox.once()
    sandbox.do("ip", "netns", "add", "game1")
    done = sandbox.run("ip", "netns", "exec", "game1", CTL, "-j", "detach")
    assert done.returncode == 2
    is_error(json.loads(done.stdout), "no-bpffs")
    assert sandbox.exists(f"{PINS}/v1/remotes")


def test_needs_root(sandbox, is_error):
    sandbox.once()
    sandbox.do("chmod", "644", "/run/ipipdirect/lock", "/run/ipipdirect/status.json")
    sandbox.do("chmod", "755", PINS, f"{PINS}/v1")
    done = sandbox.ctl_as_nobody("detach")
    assert done.returncode == 2 and "hint: run as root\n" in done.stderr
    is_error(json.loads(sandbox.ctl_as_nobody("-j", "detach").stdout), "permission")
    assert sandbox.exists(f"{PINS}/v1/remotes")


# What the offload guard turned off.

FEATURE = "tx-ipxip4-segmentation"
MEMORY = "/run/ipipdirect/offloads.json"


def is_on(sandbox, name="wan"):
    return f"{FEATURE}: on" in sandbox.do("ethtool", "-k", name)


@pytest.fixture
def guarded(sandbox):
    """A pass of the real agent has turned the feature off on `wan`."""
    sandbox.do("ethtool", "-K", "wan", FEATURE, "on")
    sandbox.write("/run/guard.json", '{"offload_guard": "on"}')
    sandbox.once("--config", "/run/guard.json")
    assert not is_on(sandbox) and sandbox.exists(MEMORY)
    return sandbox


def test_gives_back_what_the_guard_turned_off(guarded, fits):
    assert f"; {FEATURE} turned off\n" in guarded.ctl("status").stdout
    start = time.monotonic()
    done = guarded.ctl("detach")
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() > start + 1, "what waits in the queue of the interface would be cut by it"
    assert done.stdout.split("\n")[1] == f"turned {FEATURE} on again on wan"
    assert is_on(guarded) and not guarded.exists(MEMORY)
    assert guarded.ctl("detach").stdout == "nothing to remove\n"

    guarded.once("--config", "/run/guard.json")
    status, document = guarded.ctl_json("detach")
    assert status == 0
    assert fits("ctl-detach", document)["restored"] == [{"ifindex": guarded.ifindex(), "name": "wan"}]


def test_leaves_off_what_the_user_turned_off(sandbox):
    sandbox.write("/run/guard.json", '{"offload_guard": "on"}')
    sandbox.once("--config", "/run/guard.json")
    assert sandbox.ctl("detach").returncode == 0
    assert not is_on(sandbox)


def test_gives_back_where_only_that_is_left(guarded):
    """As after a crash of the machine's bpffs, or a detach that was killed."""
    guarded.do("rm", "-r", PINS)
    assert guarded.ctl("detach").stdout == f"turned {FEATURE} on again on wan\n"
    assert is_on(guarded)


def test_gives_back_nothing_to_an_interface_that_is_gone(guarded):
    guarded.do("ip", "link", "del", "wan")
    done = guarded.ctl("detach")
    assert (done.returncode, done.stderr) == (0, "") and FEATURE not in done.stdout
    assert not guarded.exists(MEMORY)


def test_gives_back_only_in_the_namespace_of_the_agent(guarded, is_error):
    """An interface index means something else there: here, a device that has the feature off."""
    guarded.do("ip", "netns", "add", "game1")
    inside = ["nsenter", "--net=/run/netns/game1"]
    guarded.do(*inside, "ip", "link", "add", "other", "index", str(guarded.ifindex()), "type", "veth")
    guarded.do(*inside, "ethtool", "-K", "other", FEATURE, "off")
    done = guarded.run(*inside, CTL, "-j", "detach")
    assert done.returncode == 2
    is_error(json.loads(done.stdout), "wrong-namespace")
    assert guarded.exists(PINS) and guarded.exists(MEMORY)
    # The namespace is taken for gone: it is forgotten, and no other device touched.
    assert guarded.run(*inside, CTL, "detach", "--force").returncode == 0
    assert f"{FEATURE}: off" in guarded.do(*inside, "ethtool", "-k", "other")
    assert not guarded.exists(PINS) and not guarded.exists(MEMORY) and not is_on(guarded)


def test_needs_root_to_give_back(guarded, is_error):
    guarded.do("rm", "-r", PINS)
    is_error(json.loads(guarded.ctl_as_nobody("-j", "detach").stdout), "permission")
    assert guarded.exists(MEMORY) and not is_on(guarded)
