# SPDX-License-Identifier: MIT
"""The BPF file system goes, and the pins with it, while replies are under way. Each arrives, once. No program is left
whose maps nobody keeps true, and whoever starts next makes all anew."""

import os
import shutil
import socket
import subprocess

import pytest

import agent
import faults
import topology
import traffic
from kernel import has_tcx, only_clsact

WITHIN = 5.0
OURS = ("prio", "7", "handle", "0x69706970")


@pytest.fixture(scope="module")
def world():
    with traffic.three_servers() as made:
        # It has a copy of all mounts, and no umount of ours comes there.
        made.outside.run("umount", "/sys/fs/bpf")
        # The first of all gives the interface its clsact, for which the kernel stops it (DATAPATH, Known limits).
        with start():
            pass
        agent.detach()
        yield made


@pytest.fixture(autouse=True)
def replies(world):
    """Of three tunnels, all the time; each arrives, once, by whichever way."""
    with traffic.Unharmed(world, per_second=20, all_direct=False) as made:
        yield made
        if not os.path.ismount("/sys/fs/bpf"):
            mount()
        agent.detach()


def start(**options):
    """No full pass, so whatever is noticed is noticed at once."""
    return agent.Agent("--resync-interval", "3600", **options)


def wait_ways(replies, way):
    topology.wait_for(lambda: replies.ways() == {way}, f"{way} only", 20)


def interface():
    (found,) = agent.status()["interfaces"]
    return found


def egress():
    return topology.run("tc", "filter", "show", "dev", "eth0", "egress")


def lose_pins():
    # An agent that looks at a pin keeps it busy for that moment.
    topology.wait_for(lambda: subprocess.run(["umount", "/sys/fs/bpf"], check=False).returncode == 0, "umount", WITHIN)


def mount():
    topology.run("mount", "-t", "bpf", "bpf", "/sys/fs/bpf")


def lose_pins_below(replies):
    wait_ways(replies, "direct")
    lose_pins()
    # A link goes a little later than its pin; until then that is told.
    topology.wait_for(lambda: "pins were removed" in (interface()["error"] or ""), "told in the status", WITHIN)
    assert (interface()["attachment"], agent.status()["agent"]["state"]) == ("none", "degraded")
    assert "direct" not in egress()
    wait_ways(replies, "ipip")
    mount()


def test_below_a_running_agent_that_is_started_anew(replies):
    with start():
        lose_pins_below(replies)
    with start():
        assert interface()["error"] is None
        wait_ways(replies, "direct")


def test_below_a_running_agent_that_is_told_to_attach(replies):
    with start():
        lose_pins_below(replies)
        subprocess.run([agent.CTL, "attach"], check=True)
        assert interface()["error"] is None
        wait_ways(replies, "direct")


def test_the_pins_are_removed_before_an_operator_detaches(replies):
    """Nothing rings for that. What the agent attached itself, it knows without a pin."""
    with start():
        wait_ways(replies, "direct")
        shutil.rmtree(agent.PINS)
        subprocess.run([agent.CTL, "detach"], check=True)
        assert "direct" not in egress()
        wait_ways(replies, "ipip")
        subprocess.run([agent.CTL, "attach"], check=True)
        assert interface()["error"] is None
        wait_ways(replies, "direct")


@only_clsact
def test_they_are_removed_and_the_kernel_refuses_to_say_what_is_there(replies):
    """So the agent cannot take its filter off for a while, in which it must not forget what is its own."""
    with start(command=(agent.AGENT,)) as running:
        wait_ways(replies, "direct")
        shutil.rmtree(agent.PINS)
        # What libbpf asks, and answers to clients; what is asked about routes is messages.
        refusal = faults.strace("-e", "trace=sendto", "-e", "inject=sendto:error=ENOBUFS")
        with faults.Tracer(running.process.pid, refusal), socket.socket(socket.AF_UNIX) as client:
            passes = agent.status()["agent"]["passes"]
            client.connect(agent.SOCKET)
            client.sendall(b'{"method": "io.ipipdirect.Detach"}\0')
            topology.wait_for(lambda: agent.status()["agent"]["passes"] >= passes + 3, "tried again", WITHIN)
            assert "direct" in egress()
        subprocess.run([agent.CTL, "detach"], check=True)
        assert "direct" not in egress()
        wait_ways(replies, "ipip")
        subprocess.run([agent.CTL, "attach"], check=True)
        wait_ways(replies, "direct")


@only_clsact
@pytest.mark.parametrize("call, number", [("sendmsg", "1+"), ("sendto", "2+")], ids=["before", "amid"])
def test_they_are_made_anew_by_an_operator_and_the_pass_comes_to_nothing(replies, call, number):
    """With the pins went what tells the filter from others', so the agent must not forget which program is its own: whether
    the pass ends before the attachment, as nothing can be read, or in it: the kernel says what is there, and then
    does nothing more."""
    with start(command=(agent.AGENT,)) as running:
        wait_ways(replies, "direct")
        program = interface()["program_id"]
        shutil.rmtree(agent.PINS)
        refusal = faults.strace("-e", f"trace={call}", "-e", f"inject={call}:error=ENOBUFS:when={number}")
        with faults.Tracer(running.process.pid, refusal), socket.socket(socket.AF_UNIX) as client:
            client.connect(agent.SOCKET)
            client.sendall(b'{"method": "io.ipipdirect.Attach"}\0')
            # Somebody waits for it, so what came of each pass is written at once.
            topology.wait_for(lambda: "the last pass failed" in str(agent.status()["agent"]["problems"]) or interface()["error"],
                              "it failed", 20)
            assert f"id {program} " in egress()
        topology.wait_for(lambda: interface()["program_id"] != program and f"id {interface()['program_id']} " in egress(),
                          "attached again", 20)
        assert interface()["error"] is None
        wait_ways(replies, "direct")


def test_while_no_agent_runs(replies):
    """A filter stays without its pin, and its maps are nobody's. The next agent knows it by what the last one said."""
    with start():
        wait_ways(replies, "direct")
        program = interface()["program_id"]
    lose_pins()
    mount()
    assert has_tcx() or f"id {program} " in egress()
    with start():
        assert (interface()["error"], interface()["attachment"]) == (None, "tcx" if has_tcx() else "clsact")
        assert interface()["program_id"] != program and f"id {program} " not in egress()
        wait_ways(replies, "direct")


def test_while_no_agent_runs_and_an_operator_detaches(replies):
    with start():
        wait_ways(replies, "direct")
    lose_pins()
    mount()
    subprocess.run([agent.CTL, "detach"], check=True)
    assert "direct" not in egress()
    wait_ways(replies, "ipip")


def test_while_no_agent_runs_and_nobody_knows_what_there_was(replies):
    """The status is gone as well: then a filter is somebody else's. It is told, with what removes it."""
    with start():
        wait_ways(replies, "direct")
    lose_pins()
    os.unlink("/run/ipipdirect/status.json")
    mount()
    with start():
        if not has_tcx():
            assert "somebody else" in interface()["error"]
            topology.run("tc", "filter", "del", "dev", "eth0", "egress", *OURS, "bpf")
            topology.wait_for(lambda: interface()["error"] is None, "attached", WITHIN)
        assert interface()["attachment"] == ("tcx" if has_tcx() else "clsact")
        wait_ways(replies, "direct")


def test_another_mount_namespace_has_a_copy_of_the_pins(replies):
    """It keeps a link alive that no agent can reach: that is told until the copy goes. A filter goes at once."""
    with start():
        wait_ways(replies, "direct")
        holder = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo up; exec cat"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert holder.stdout.readline() == "up\n"
        lose_pins()
        told = "still attached" if has_tcx() else "pins were removed"
        topology.wait_for(lambda: told in (interface()["error"] or ""), "told in the status", WITHIN)
        holder.communicate(timeout=30)
        topology.wait_for(lambda: "pins were removed" in interface()["error"], "it went with the copy", 20)
        mount()
        subprocess.run([agent.CTL, "attach"], check=True)
        wait_ways(replies, "direct")
