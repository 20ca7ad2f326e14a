# SPDX-License-Identifier: MIT
"""What discovery may find half done, or done anew under the old name, while replies of three tunnels are under way: none is lost,
doubled or sent over the POP, and the map comes out right."""

import contextlib
import os
import re
import subprocess
import time

import pytest

import agent
import faults
import fleet
import traffic
from dweller import AS_USER, LOCAL, Process
from topology import CLIENT, run, wait_for

# Between the parts of a dump the agent stands still for so long; within this, its namespace ends.
STALL_USEC = 400_000
STALLS = int(os.environ.get("IPIPDIRECT_STALLS", "5"))
TRIES = 20


@pytest.fixture
def running(world):
    """The agent, without a filter of system calls, as it is traced, and without a periodic pass."""
    with faults.new_agent() as started, traffic.Unharmed(world, per_second=20) as replies:
        yield started
        replies.more()


def wait_map(world, others=()):
    faults.wait_right(lambda: {**world.rows(), **{(remote, None): remote for remote in others}})


def short_life(world, running, *options):
    """A namespace with a tunnel ends while the agent reads everything. Returns what was traced of its reads of sockets."""
    run("ip", "netns", "add", "short")
    run("ip", "-n", "short", "link", "add", "tun0", "type", "ipip", "remote", "45.0.0.8", "local", LOCAL)
    wait_map(world, ["45.0.0.8"])
    with faults.Tracer(running.process.pid, faults.strace("-e", "trace=recvmsg", *options)):
        with subprocess.Popen([agent.CTL, "resync"], stdout=subprocess.DEVNULL) as asking:
            time.sleep(STALL_USEC / 4e6)
            run("ip", "netns", "delete", "short")
            assert asking.wait(30) in (0, 4)
        wait_map(world)
    return faults.trace_text()


def test_a_namespace_ends_in_the_middle_of_a_dump(world, running):
    """At each of the reads of its life, or some of them."""
    reads = short_life(world, running).count("recvmsg(")
    assert reads >= STALLS
    stalled = 0
    for n in range(1, reads + 1, reads // STALLS):
        stalled += "(DELAYED)" in short_life(world, running, "-e", f"inject=recvmsg:delay_enter={STALL_USEC}:when={n}")
    print(f"{reads} reads, {stalled} of them held")
    assert stalled >= STALLS - 1
    wait_map(world)


def test_a_route_comes_in_the_middle_of_a_pass(world):
    """From then on the kernel alone is asked about whom it leads to: here it says that there is no way, so he is left to the POP."""
    server = world.servers[1]
    unreachable = "unreachable", f"{CLIENT}/32"
    delays = f"inject=recvmsg:delay_enter={STALL_USEC // 4}:when=1+"
    with faults.new_agent() as started:
        wait_for(lambda: traffic.way_of_an_answer(world, server) == "direct", "direct")
        with faults.Tracer(started.process.pid, faults.strace("-e", "trace=recvmsg", "-e", delays)):
            run(agent.CTL, "resync", check=False)  # it knows now how long that takes
            seen = len(faults.trace_text())
            with subprocess.Popen([agent.CTL, "resync"], stdout=subprocess.DEVNULL) as asking:
                try:
                    wait_for(lambda: re.search(r"NLM_F_MULTI.*\(DELAYED\)", faults.trace_text()[seen:]), "it lists something")
                    run("ip", "route", "add", *unreachable)
                    ways = []
                    while asking.poll() is None:  # the pass is under way
                        ways.append(traffic.way_of_an_answer(world, server))
                    # The last may have been asked when it was over; there is a bell to be heard then.
                    assert ways[:-1] and set(ways[:-1]) == {"tunnel"}, ways
                finally:
                    run("ip", "route", "delete", *unreachable)
                    asking.kill()
        wait_for(lambda: traffic.way_of_an_answer(world, server) == "direct", "direct again", 30)


def test_a_tunnel_comes_to_the_host_in_the_middle_of_a_dump(world, running):
    """Its address is its own, also where it comes after the links were listed and before the addresses: not the host's, who is
    remembered for good."""
    remote, address = "45.0.0.9", "45.0.1.9"

    def tunnel_comes(*options):
        with faults.Tracer(running.process.pid, faults.strace("-e", "trace=recvmsg", *options)):
            with subprocess.Popen([agent.CTL, "resync"], stdout=subprocess.DEVNULL) as asking:
                time.sleep(STALL_USEC / 4e6)
                run("ip", "-batch", "-", text_in=f"link add late0 type ipip remote {remote} local {LOCAL}\n"
                                                 f"address add {address}/32 dev late0\n")
                assert asking.wait(30) in (0, 4)
            faults.wait_right(lambda: {**world.rows(), (remote, None): address})
        run("ip", "link", "delete", "late0")
        wait_map(world)
        return faults.trace_text()

    reads = [line for line in tunnel_comes().splitlines() if "recvmsg(" in line]
    of_links = [n for n, line in enumerate(reads, 1) if "nlmsg_type=RTM_NEWLINK, nlmsg_flags=NLM_F_MULTI" in line]
    assert len(of_links) >= 1 + len(world.servers)
    for n in sorted({*of_links, *(n + 1 for n in of_links)}):
        tunnel_comes("-e", f"inject=recvmsg:delay_enter={STALL_USEC}:when={n}")


def test_a_half_made_file(world, running):
    path = "/run/netns/half"
    try:
        with open(path, "wb"):
            pass
        wait_for(lambda: [file["path"] for file in agent.status()["skipped_files"]] == [path], "the placeholder")
        wait_map(world)
        run("unshare", f"--net={path}", "ip", "link", "add", "tun0", "type", "ipip", "remote", "45.0.0.7", "local", LOCAL)
        wait_map(world, ["45.0.0.7"])
        run("umount", path)
        wait_map(world)
    finally:
        run("umount", path, check=False)
        run("rm", "-f", path)


def test_a_remote_is_changed_while_the_tunnel_is_down(world, running):
    """No event says so. The next full pass sees it; until then the row of before is that of a tunnel that sends nothing."""
    with fleet.Fleet(1, uplink=False) as ships:
        wait_map(world, [ships.remotes[0]])
        ships.change(0)
        agent.resync()
        wait_map(world, [ships.remotes[0]])
        ships.set_up([0])
        wait_map(world, [ships.remotes[0]])
    wait_map(world)


def process_with(pid, *command, **options):
    """A process that gets this pid, which nobody has."""
    for _ in range(TRIES):
        with open("/proc/sys/kernel/ns_last_pid", "w", encoding="ascii") as file:
            file.write(str(pid - 1))
        made = Process(*command, **options)
        if made.pid == pid:
            return made
        made.end()
    raise AssertionError(f"somebody else was faster, {TRIES} times")


@pytest.fixture
def link():
    """In /run/netns, to the namespace of a process that is to be named."""
    path = "/run/netns/panel"
    with contextlib.ExitStack() as stack:
        def name(pid):
            os.symlink(f"/proc/{pid}/ns/net", path)
            stack.callback(os.unlink, path)
        yield name


def test_a_pid_is_used_again(world, running, link):
    """By somebody who may do what he likes in a namespace of his own, and gives his tunnel a game server's remote: a link
    that the host made to the process before makes nothing of his trusted."""
    first = Process("unshare", "--net", *AS_USER, remote="45.0.0.6")
    link(first.pid)
    wait_map(world, ["45.0.0.6"])
    first.end()
    victim = world.servers[1]
    with process_with(first.pid, *AS_USER, "unshare", "-rn", remote=victim.remote) as second:
        assert second.pid == first.pid
        run("nsenter", f"--net=/proc/{second.pid}/ns/net", f"--user=/proc/{second.pid}/ns/user", "ip", "address", "add",
            "198.51.100.77/32", "dev", "tun0")
        agent.resync()
        wait_map(world)
        wait_for(lambda: [netns["owner"] for netns in agent.status()["namespaces"]
                          if f"process {second.pid}" in netns["found"]] == ["other"], "whose it is")
