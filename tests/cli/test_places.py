# SPDX-License-Identifier: MIT
"""The places that the agent works on go away or are full: it says so, harms nothing, and goes on when they are back."""

import json
import os
import signal
import threading
import time

from sandbox import AGENT, PINS

READS = 10_000
RUN = "/run/ipipdirect"
STATUS = f"{RUN}/status.json"


def wait_for(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def is_well(sandbox):
    return sandbox.read_status()["agent"]["state"] == "ok"


def wait_well(sandbox):
    wait_for(lambda: attached(sandbox) and is_well(sandbox), "attached, and nothing to say")


def attached(sandbox):
    (interface,) = sandbox.read_status()["interfaces"]
    return interface["attachment"] != "none" and interface["error"] is None


class Rewriting(threading.Thread):
    """Has the status written anew all the time."""

    def __init__(self, sandbox, path):
        super().__init__(daemon=True)
        self.agent, self.path, self.ending = sandbox.agent, path, threading.Event()
        self.start()

    def run(self):
        while not self.ending.is_set():
            before = os.stat(self.path).st_ino
            self.agent.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 1
            while os.stat(self.path).st_ino == before and time.monotonic() < deadline:
                time.sleep(0.002)


def test_the_status_is_never_torn(sandbox):
    """Each read is of one status, whole, while a new one takes its place again and again."""
    sandbox.start_agent("--resync-interval", "3600")
    path = f"/proc/{sandbox.holder.pid}/root{STATUS}"
    rewriting = Rewriting(sandbox, path)
    reads, passes, deadline = 0, set(), time.monotonic() + 120
    while reads < READS or len(passes) < 20:
        assert time.monotonic() < deadline, f"{reads} reads, {len(passes)} texts"
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        assert document["schema_version"] == 1 and "discovery" in document
        passes.add(document["agent"]["passes"])
        reads += 1
    rewriting.ending.set()
    rewriting.join()
    print(f"{reads} reads of {len(passes)} texts")
    sandbox.stop_agent()


def test_no_bpffs_at_the_start(sandbox):
    sandbox.do("umount", "/sys/fs/bpf")
    done = sandbox.run(AGENT, "--once")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no BPF file system on /sys/fs/bpf: mount -t bpf bpf /sys/fs/bpf" in done.stderr
    sandbox.do("mount", "-t", "bpf", "bpf", "/sys/fs/bpf")
    sandbox.start_agent()
    wait_well(sandbox)


def test_the_bpffs_goes_while_it_runs(sandbox):
    """With it go the pins, as if somebody had detached. It is told; whoever starts next makes everything anew."""
    sandbox.start_agent("--resync-interval", "1")
    wait_well(sandbox)
    wait_for(lambda: sandbox.run("umount", "/sys/fs/bpf").returncode == 0, "not in use by a pass")
    # A link goes a little later than its pin; until then that is told.
    wait_for(lambda: "restart the agent" in (sandbox.read_status()["interfaces"][0]["error"] or ""), "told in the status")
    assert not attached(sandbox)
    assert sandbox.ctl("status").returncode == 4
    assert sandbox.agent.poll() is None
    sandbox.do("mount", "-t", "bpf", "bpf", "/sys/fs/bpf")
    assert not sandbox.exists(PINS)
    sandbox.stop_agent()
    sandbox.start_agent()
    wait_well(sandbox)
    wait_for(lambda: sandbox.ctl("status").returncode == 0, "exit status 0")


FILL = "cat /dev/zero >{0}/filler 2>/dev/null; ! echo more >>{0}/filler"


def full(sandbox):
    """A run directory of a few pages, all of them used."""
    sandbox.do("mkdir", "-p", RUN)
    sandbox.do("mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "tmpfs", RUN)
    sandbox.do("sh", "-c", FILL.format(RUN))


def test_a_full_run_directory_at_the_start(sandbox):
    """The packets matter more than what is told about them."""
    full(sandbox)
    sandbox.start_agent("--resync-interval", "3600")
    assert any(sandbox.exists(f"{PINS}/{kind}_{sandbox.ifindex()}") for kind in ("link", "prog")), "it is attached"
    assert sandbox.do("sh", "-c", f"cat {STATUS} 2>/dev/null; true") == ""
    sandbox.do("rm", f"{RUN}/filler")
    wait_for(lambda: sandbox.exists(STATUS), "written when there is room, without any event")
    wait_well(sandbox)


def test_the_run_directory_gets_full_and_empty_again(sandbox):
    """What is there stays, whole; a status that could not be written is written when there is room."""
    sandbox.do("mkdir", "-p", RUN)
    sandbox.do("mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "tmpfs", RUN)
    sandbox.start_agent("--resync-interval", "1")

    def is_full():
        """A status that was being written had its room meanwhile; that of the one before it is free afterwards."""
        if sandbox.run("sh", "-c", FILL.format(RUN)).returncode != 0:
            return False
        was = sandbox.read_status()
        return sandbox.ctl("resync").returncode == 0 and sandbox.read_status() == was

    wait_for(is_full, "no room for another status")
    before = sandbox.read_status()
    for _ in range(2):  # passes that cannot be told
        assert sandbox.ctl("resync").returncode == 0
    assert sandbox.agent.poll() is None
    assert sandbox.read_status() == before
    sandbox.do("rm", f"{RUN}/filler")
    wait_for(lambda: sandbox.read_status()["agent"]["passes"] > before["agent"]["passes"], "written again")
    wait_well(sandbox)
    # Between two of its writings.
    wait_for(lambda: sandbox.do("ls", "-A", RUN).split() == ["agent.lock", "held.json", "io.ipipdirect", "lock", "status.json"], "nothing is left behind")
