# SPDX-License-Identifier: MIT
"""There is one agent at a time: two would undo each other's work."""

import pathlib
import signal
import socket
import struct
import subprocess
import time

import pytest

from control import wait_for
from sandbox import AGENT, FILTERED, PINS, hexed
from tracing import failing

N_ROWS = 4000  # of which no processor is so fast that the agent writes the status itself
PROG_ARRAY = "map_type:\t3"


def files(sandbox):
    """Of the run directory, between two of the moments in which the agent that runs writes its status."""
    deadline = time.monotonic() + 60
    while ".status.json.new" in (names := sandbox.do("ls", "-A", "/run/ipipdirect").split()):
        assert time.monotonic() < deadline, names
    return names


def everything(sandbox):
    """What an agent may change, but for the contents of the status."""
    return (sandbox.do("ls", "-lniR", "/sys/fs/bpf"), sandbox.do("bpftool", "-j", "net"), files(sandbox),
            sandbox.do("ip", "-j", "route"), sandbox.do("ethtool", "-k", "wan"))


@pytest.mark.parametrize("options", [[], ["--once"], ["--interface", "gateway"],
                                     ["--once", "--config", "/run/other.json"]])
def test_the_second_says_so_and_changes_nothing(sandbox, options):
    sandbox.write("/run/other.json", '{"max_entries": 100, "offload_guard": "on"}')
    sandbox.start_agent()
    before, view = everything(sandbox), sandbox.read_status()
    done = sandbox.run(AGENT, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip() == "ipipdirectd: another ipipdirectd is running"
    assert everything(sandbox) == before
    now = sandbox.read_status()
    assert (now["agent"]["pid"], now["interfaces"], now["map"]) == \
        (view["agent"]["pid"], view["interfaces"], view["map"])
    assert sandbox.agent.poll() is None


def test_a_dry_run_is_no_second_agent(sandbox):
    sandbox.start_agent()
    before = everything(sandbox)
    done = sandbox.run(AGENT, "--dry-run")
    assert (done.returncode, done.stdout) == (0, "nothing to do\n"), "it is attached"
    assert everything(sandbox) == before


def test_of_many_at_once_one_stays(sandbox):
    many = [sandbox.start(*FILTERED, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    deadline = time.monotonic() + 60
    while sum(agent.poll() is None for agent in many) > 1:
        assert time.monotonic() < deadline, "more than one agent runs"
        time.sleep(0.05)
    (stays,) = [agent for agent in many if agent.poll() is None]
    for agent in many:
        if agent is not stays:
            assert agent.returncode == 2
            assert "another ipipdirectd is running" in agent.stderr.read()
    while not sandbox.exists("/run/ipipdirect/status.json"):
        assert time.monotonic() < deadline and stays.poll() is None
        time.sleep(0.05)
    stays.send_signal(signal.SIGTERM)
    assert stays.wait(30) == 0
    for agent in many:
        agent.stderr.close()


def test_the_lock_goes_with_its_holder(sandbox):
    sandbox.start_agent()
    sandbox.stop_agent(signal.SIGKILL)
    sandbox.once()


def test_one_of_before_there_was_another_lock(sandbox):
    """It holds only the one that others may read: no second agent starts beside it, nor is it hidden from root."""
    sandbox.do("mkdir", "-p", "/run/ipipdirect")
    holder = sandbox.start("flock", "--exclusive", "/run/ipipdirect/lock", "sh", "-c", "echo held; exec cat",
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    for options in (["--once"], ["--prepare"]):
        done = sandbox.run(AGENT, *options)
        assert done.returncode == 2 and "another ipipdirectd is running" in done.stderr
        assert sandbox.ctl("detach").returncode == 3, "it cannot be told"
    holder.stdin.close()
    holder.wait(30)
    holder.stdout.close()
    sandbox.once()


@pytest.mark.parametrize("how", ["--shared", "--exclusive"])
def test_who_may_only_look_keeps_no_agent_from_its_work(sandbox, how):
    """A file that may be read may be locked. Root sees all the same whether an agent runs."""
    sandbox.once()
    sandbox.do("chmod", "755", "/run/ipipdirect")
    sandbox.do("chown", "0:65534", "/run/ipipdirect/lock")
    sandbox.do("chmod", "640", "/run/ipipdirect/lock")
    as_reader = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    assert sandbox.run(*as_reader, "flock", "--shared", "/run/ipipdirect/agent.lock", "true").returncode != 0
    holder = sandbox.start(*as_reader, "flock", how, "/run/ipipdirect/lock", "sh", "-c", "echo held; exec cat",
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    assert sandbox.ctl("status").returncode == 3
    sandbox.start_agent("--resync-interval", "1")
    assert sandbox.ctl("status").returncode == 0
    assert sandbox.run(AGENT, "--once").returncode == 2, "a second one"
    assert "stays off" in sandbox.ctl("detach").stdout and sandbox.ctl("attach").returncode == 0
    # When it is let go, the agent has it.
    holder.stdin.close()
    holder.wait(30)
    holder.stdout.close()
    deadline = time.monotonic() + 30
    while sandbox.run("flock", "--shared", "--nonblock", "/run/ipipdirect/lock", "true").returncode == 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def rows_that_stay(sandbox):
    """Of nobody known, while a namespace cannot be read."""
    sandbox.once()
    updates = []
    for i in range(1, N_ROWS):
        address = socket.inet_aton(f"45.0.{i >> 8}.{i & 255}")
        value = address + struct.pack("=IHBxxxxx", i, 0, 0)
        updates.append(f"map update pinned {PINS}/v1/remotes key {' '.join(hexed(address))} value {' '.join(hexed(value))}\n")
    sandbox.write("/run/rows", "".join(updates))
    sandbox.do("bpftool", "batch", "file", "/run/rows")
    sandbox.do("mkdir", "-p", "/run/netns")
    sandbox.do("ln", "-s", "/" + "x" * 300, "/run/netns/unknown")


def held(pid):
    """By what it is seen that an agent lives: the program arrays and the files of the run directory that a process has."""
    place = pathlib.Path("/proc", str(pid))
    arrays = sum(PROG_ARRAY in info.read_text(encoding="ascii") for info in (place / "fdinfo").iterdir())
    return arrays, sorted(fd.readlink().name for fd in (place / "fd").iterdir() if "/run/ipipdirect/" in str(fd.readlink()))


def test_a_child_that_writes_the_status_is_not_taken_for_the_agent(sandbox):
    """However slow it is: with what is held by it, an agent that is gone would seem to live on, to the program as well."""
    rows_that_stay(sandbox)
    sandbox.start_agent(command=[AGENT])
    children = pathlib.Path("/proc", str(sandbox.agent.pid), "task", str(sandbox.agent.pid), "children")
    # That is what only a child does, before anything that takes long.
    with failing(sandbox, "-e", "trace=setpriority", "-e", "inject=setpriority:delay_enter=60000000"):
        sandbox.do("ip", "netns", "add", "other")
        wait_for(lambda: children.read_text(encoding="ascii"))
        child = int(children.read_text(encoding="ascii").split()[0])
        wait_for(lambda: held(child)[1] == [])
        assert held(sandbox.agent.pid) == (2, ["agent.lock", "lock"])
        assert held(child) == (1, []), "it has the parts, which are pinned as well"
