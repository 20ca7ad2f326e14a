# SPDX-License-Identifier: MIT
"""Agents of root and of the agent's own user follow each other, and neither enters a namespace."""

import contextlib
import grp
import json
import os
import pathlib
import pwd
import re
import resource
import shutil
import signal
import subprocess

import pytest

import agent
import kernel
import topology
import traffic
from topology import run, wait_for

SERIES = tuple(int(part) for part in os.environ["KERNEL_SERIES"].split("."))
ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = "/usr/local/sbin/ipipdirectd"  # build directories may be closed to that user
CTL = "/usr/local/sbin/ipipdirectctl"
NAME = "ipipdirect"
NOBODY = "65534"
RIGHTS = "-all,+net_admin,+net_broadcast,+bpf,+perfmon"
BITS = sum(1 << bit for bit in (11, 12, 38, 39))
RUN_DIR = pathlib.Path("/run/ipipdirect")
PINS = pathlib.Path(agent.PINS)
# As the unit starts it. Root is taken from its rights by the agent itself.
AS_USER = ["setpriv", "--reuid", NAME, "--regid", NAME, "--clear-groups", "--no-new-privs", "--inh-caps", RIGHTS,
           "--ambient-caps", RIGHTS, "--bounding-set", RIGHTS, PROGRAM]
AS_ROOT = [PROGRAM]


@pytest.fixture(scope="module")
def world():
    run("systemd-sysusers", str(ROOT / "tools/ipipdirect.sysusers"))
    shutil.copy(agent.AGENT, PROGRAM)
    shutil.copy(agent.CTL, CTL)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with topology.World("A") as made:
        yield made
    agent.detach()


def prepare():
    run(PROGRAM, "--prepare")


def owners():
    """Who owns what an agent left, all of it; the one that runs may just rename a file that it wrote."""
    found = set()
    for path in (path for top in (PINS, RUN_DIR) for path in (top, *top.rglob("*"))):
        with contextlib.suppress(FileNotFoundError):
            found.add((path.owner(), path.group()))
    return found


def fields_of(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)


def start(command):
    if command is AS_USER:
        prepare()
    running = agent.Agent(command=command)
    user = pwd.getpwnam(NAME).pw_uid if command is AS_USER else 0
    assert fields_of(running.process.pid)["Uid"].split("\t") == [str(user)] * 4
    # A dead agent's user keeps nothing: what is there changed hands.
    assert owners() == {(NAME, NAME) if command is AS_USER else ("root", NAME)}
    return running


def test_root_and_user_follow_each_other_under_traffic(world):
    server = world.servers[1]
    running = start(AS_ROOT)
    with traffic.UdpServer(server):
        with traffic.udp_client(world) as client:
            traffic.udp_ask(client, server.public)
        before, stream = world.counters(), traffic.Stream(world, server.public, 100)
        for command in (AS_USER, AS_ROOT, AS_USER, AS_USER, AS_ROOT):
            at_least = len(stream.received) + 20
            running.kill()
            running = start(command)
            assert agent.status()["agent"]["problems"] == []
            wait_for(lambda least=at_least: len(stream.received) >= least, "replies")
        sent, lost, duplicated = stream.stop()
        after = world.counters()
    assert (lost, duplicated) == (0, 0)
    assert after["host_ipip"] == before["host_ipip"], "a reply passed the POP"
    assert after["host_direct"] - before["host_direct"] == sent
    direct = sum(entry["counters"]["direct_packets"] for entry in agent.status()["entries"])
    running.stop()
    assert direct > 0
    assert sum(entry["counters"]["direct_packets"] for entry in agent.live_entries()) >= sent


def test_who_may_look(world):
    """Members of the group read status and maps, and change nothing; others do neither."""
    gid = str(grp.getgrnam(NAME).gr_gid)
    member = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--groups", gid, CTL, "-j"]
    stranger = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", CTL, "-j"]
    with start(AS_USER) as running:
        assert json.loads(run(*member, "status"))["agent"]["pid"] == running.process.pid
        reads = subprocess.run([*member, "map", "dump"], check=False, capture_output=True, text=True)
        # Before 5.19 no call of bpf(2) is for users without CAP_BPF, as Debian sets it.
        closed = SERIES < (5, 19) and int(pathlib.Path("/proc/sys/kernel/unprivileged_bpf_disabled").read_text())
        assert reads.returncode == (2 if closed else 0), reads.stdout
        if not closed:
            assert [e["remote"] for e in json.loads(reads.stdout)["entries"]] == [topology.public_ip(1)]
        for who in (member, stranger):
            refused = subprocess.run([*who, "detach", "--force"], check=False, capture_output=True, text=True)
            assert (refused.returncode, json.loads(refused.stdout)["error"]["code"]) == (2, "permission")
        for command in (["status"], ["map", "dump"]):
            refused = subprocess.run([*stranger, *command], check=False, capture_output=True, text=True)
            assert (refused.returncode, json.loads(refused.stdout)["error"]["code"]) == (2, "permission")
        done = subprocess.run([PROGRAM, "--dry-run"], check=True, capture_output=True, text=True)
        assert "add remote" not in done.stdout, "root's dry run cannot read the maps of the user"


@pytest.mark.parametrize("command", [AS_ROOT, AS_USER], ids=["root", "user"])
def test_detach_and_attach_beside_the_agent(world, command):
    """By force too, which takes the maps as well: no agent need be restarted to go on."""
    server = world.servers[1]
    with start(command), traffic.UdpServer(server), traffic.udp_client(world) as client:
        for words in (["detach"], ["detach", "--force"]):
            run(CTL, *words)
            before = world.counters()
            traffic.udp_ask(client, server.public)
            assert world.counters()["host_direct"] == before["host_direct"], "a reply went direct"
            assert agent.status()["agent"]["placement"]["detached"]
            run(CTL, "attach")
            assert agent.status()["agent"]["problems"] == []
            before = world.counters()
            traffic.udp_ask(client, server.public)
            assert world.counters()["host_direct"] > before["host_direct"], "a reply took the tunnel"
            assert owners() == {(NAME, NAME) if command is AS_USER else ("root", NAME)}


def test_what_is_not_ours_is_given_to_nobody(world):
    """--prepare looks first. A stranger's pin ends it; a second name of somebody's file is left alone."""
    prepare()
    stolen = PINS / "link_77"
    run("bpftool", "map", "create", str(stolen), "type", "hash", "key", "4", "value", "4", "entries", "1", "name", "x")
    os.chown(stolen, int(NOBODY), 0)
    os.chown(PINS / "v1/kept", 0, 0)
    done = subprocess.run([PROGRAM, "--prepare"], check=False, capture_output=True, text=True)
    assert done.returncode == 2 and f"{stolen} is not a pin of ours" in done.stderr
    assert (stolen.stat().st_uid, (PINS / "v1/kept").owner()) == (int(NOBODY), "root")
    os.unlink(stolen)
    other = pathlib.Path("/sys/fs/bpf/other")
    os.rename(PINS / "v1/kept", other)
    os.link(other, PINS / "v1/kept")
    foreign = RUN_DIR / "foreign"
    foreign.write_text("", encoding="ascii")
    (RUN_DIR / "offloads.json").unlink(missing_ok=True)
    (RUN_DIR / "offloads.json").symlink_to(foreign)
    prepare()
    assert (other.owner(), foreign.owner(), (RUN_DIR / "offloads.json").lstat().st_uid) == ("root", "root", 0)
    for path in (other, foreign, RUN_DIR / "offloads.json"):
        path.unlink()
    prepare()
    assert owners() == {(NAME, NAME)}


def test_docker_keeps_the_user_out(world):
    """Its directory is for root alone. That hides its file names, and keeps nothing from being known."""
    place = pathlib.Path("/run/docker/netns")
    place.mkdir(mode=0o755, parents=True)
    place.parent.chmod(0o700)
    (place / "c0ffee").touch()
    run("mount", "--bind", "/run/netns/g1", str(place / "c0ffee"))
    world.add_server(2)
    try:
        with start(AS_USER):
            status = agent.status()
            assert [skipped["path"] for skipped in status["skipped_files"]] == [str(place)]
            assert status["discovery"]["complete"]
            assert sorted(e["remote"] for e in status["entries"]) == [topology.public_ip(n) for n in (1, 2)]
    finally:
        run("umount", str(place / "c0ffee"))
        shutil.rmtree(place.parent)
        world.remove_server(2)


FORBIDDEN = ("setns", "unshare", "ptrace", "execve", "execveat", "fork", "vfork", "process_vm_readv", "clone3")


@pytest.mark.parametrize("command", [AS_ROOT, AS_USER], ids=["root", "user"])
def test_no_namespace_is_entered(world, command, tmp_path):
    """strace sees all that it asks the kernel for, from start to end."""
    if command is AS_USER:
        prepare()
    trace = tmp_path / "trace"
    with agent.Agent(command=["strace", "-f", "-qq", "-s", "0", "-o", trace, *command]) as tracer:
        children = pathlib.Path(f"/proc/{tracer.process.pid}/task/{tracer.process.pid}/children")
        (pid,) = children.read_text(encoding="ascii").split()
        fields = fields_of(pid)
        assert [int(fields[f"Cap{name}"], 16) for name in ("Prm", "Eff", "Bnd")] == [BITS] * 3
        assert [int(fields[f"Cap{name}"], 16) for name in ("Inh", "Amb")] == [0, 0]
        assert fields["NoNewPrivs"] == "1"
        with agent.Remotes() as remotes:
            server = world.add_server(3)
            remotes.wait(server.remote, agent.model_a(server.public), 30)
            world.remove_server(3)
            remotes.wait(topology.public_ip(3), None, 30)
        before = agent.status()["agent"]["reloads"]
        os.kill(int(pid), signal.SIGHUP)
        wait_for(lambda: agent.status()["agent"]["reloads"] > before, "a pass after the reload", 30)
        # It opens some to look at them; none stays.
        wait_for(lambda: not [text for text in kernel.descriptors(pid)
                              if re.match(r"(net|mnt|user|pid):\[|/proc/\d+/ns/|/run/netns/", text)],
                 "no descriptor of a namespace", 10)
        os.kill(int(pid), signal.SIGTERM)
        assert tracer.process.wait(30) == 0
    calls = re.findall(r"^\d+ +(\w+)\(", trace.read_text(encoding="utf-8"), re.M)
    started = calls.index("execve") if command is AS_ROOT else len(calls) - 1 - calls[::-1].index("execve")
    after = set(calls[started + 1:])
    assert {"bpf", "sendmsg", "recvmsg", "capset", "prctl"} <= after
    assert not after & set(FORBIDDEN)
