# SPDX-License-Identifier: MIT
"""The agent as a user without rights but a few capabilities, none of them CAP_SYS_ADMIN: the least
set with which it does its job, and what it says when one of these is missing."""

import contextlib
import json
import os
import resource
import shutil
import subprocess

import pytest

import agent
import topology
import traffic

SERIES = os.environ["KERNEL_SERIES"]
USER = 4711  # nobody's number
RUN_DIR = "/tmp/ipipdirect-run"
BPFFS = "/sys/fs/bpf"
COPY = "/tmp/ipipdirectd"  # the build tree may be closed to that user

# Where the verifier refuses the program without CAP_PERFMON. 5.10 lets nobody else compare packet
# pointers; what the others mind (a spill of 4 bytes, an index under speculation) is a matter of how
# the program is written and compiled. A kernel that is listed and no longer insists is noticed as well.
NEEDS_PERFMON = {"5.10", "6.1", "6.12", "7.3"}
NEEDED = ["bpf", "net_admin", "net_broadcast", *(["perfmon"] if SERIES in NEEDS_PERFMON else [])]

CANNOT_LOAD = "cannot load the BPF program and its maps: "
MISSING = {
    "bpf": "it lacks CAP_BPF: start it as root",
    "net_admin": "it lacks CAP_NET_ADMIN: start it as root",
    "net_broadcast": "it lacks CAP_NET_BROADCAST: start it as root",
    "perfmon": "(it lacks CAP_PERFMON)",  # the verifier has several ways to refuse
}


@pytest.fixture(scope="module")
def world():
    shutil.copy(agent.AGENT, COPY)
    os.mkdir(RUN_DIR)
    os.chown(RUN_DIR, USER, USER)
    # Kernels before 5.11 charge BPF maps to this limit.
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    os.chmod(BPFFS, 0o711)
    with topology.World("A") as made:
        yield made


@pytest.fixture(autouse=True)
def pins(world):
    """The one directory of BPF's file system where that user may write."""
    os.mkdir(agent.PINS, 0o750)
    os.chown(agent.PINS, USER, USER)
    yield
    agent.detach()


def command(capabilities):
    listed = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    return ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups",
            "--no-new-privs", "--inh-caps", listed, "--ambient-caps", listed,
            "--bounding-set", listed, COPY]


ENVIRONMENT = {"RUNTIME_DIRECTORY": RUN_DIR}


def once(capabilities):
    """(exit status, what it said)"""
    done = subprocess.run([*command(capabilities), "--once"], check=False, text=True,
                          stderr=subprocess.PIPE, env={**os.environ, **ENVIRONMENT})
    return done.returncode, done.stderr


def status():
    with open(f"{RUN_DIR}/status.json", encoding="utf-8") as file:
        return json.load(file)


def attachments():
    """What is attached; of the parts that a program consists of, one array is pinned beside."""
    pins = os.listdir(agent.PINS)
    assert sum(pin.startswith("jumps_") for pin in pins) <= 1, pins
    return [pin for pin in pins if pin != "v1" and not pin.startswith("jumps_")]


def exchange(world):
    """UDP and TCP with the server. Returns what the gateway counted: packets in and without tunnel."""
    server, before = world.servers[1], world.counters()
    with traffic.UdpServer(server), traffic.udp_client(world) as client:
        answer, peer = traffic.udp_ask(client, server.public, b"are you there?")
    assert (answer, peer) == (b"are you there?", (server.public, traffic.PORT))
    with traffic.TcpServer(server, 1_000_000) as sender:
        size, digest, _ = traffic.tcp_fetch(world, server.public)
    assert (size, digest) == (1_000_000, sender.digest)
    after = world.counters()
    return [after[name] - before[name] for name in ("host_ipip", "host_direct")]


def test_what_is_needed_is_enough(world):
    for _ in range(2):  # the second time it takes over what the first one left
        assert once(NEEDED)[0] == 0
        tunnelled, direct = exchange(world)
        assert tunnelled == 0 and direct > 0
    assert len(attachments()) == 1


@pytest.mark.parametrize("missing", NEEDED)
def test_nothing_less_is(missing):
    code, said = once([name for name in NEEDED if name != missing])
    assert code == 2
    assert MISSING[missing] in said
    assert attachments() == []


CAPABILITY = {"net_broadcast": 11, "net_admin": 12, "perfmon": 38, "bpf": 39}  # linux/capability.h


def bits(names):
    return sum(1 << CAPABILITY[name] for name in names)


def has_exactly(pid, names, user):
    """Its sets, the two that nobody needs without execve() being empty."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    assert [int(fields[f"Cap{name}"], 16) for name in ("Prm", "Eff", "Bnd")] == [bits(names)] * 3
    assert [int(fields[f"Cap{name}"], 16) for name in ("Inh", "Amb")] == [0, 0]
    assert fields["NoNewPrivs"] == "1"
    assert fields["Uid"].split("\t") == [str(user)] * 4


def test_it_follows_namespaces(world):
    """Running on, it hears of what comes and goes in other namespaces, and never had more rights."""
    with agent.Agent(command=command(NEEDED), environment=ENVIRONMENT) as running:
        has_exactly(running.process.pid, NEEDED, USER)
        with agent.Remotes() as remotes:
            server = world.add_server(2)
            remotes.wait(server.remote, agent.model_a(server.public))
            topology.run("ip", "-n", server.netns, "link", "delete", "tun0")
            remotes.wait(server.remote, None)


def test_what_is_too_much_is_given_up():
    """Whoever starts it with more than it needs, ambient and all."""
    with agent.Agent(command=command([*CAPABILITY, "sys_admin", "sys_ptrace", "dac_override", "setpcap"]),
                     environment=ENVIRONMENT) as running:
        has_exactly(running.process.pid, CAPABILITY, USER)


def test_root_keeps_no_more(world):
    """It stays root, and what it owns is enough to replace the program and to follow."""
    os.chown(agent.PINS, 0, 0)
    for _ in range(2):
        with agent.Agent() as running, agent.Remotes() as remotes:
            has_exactly(running.process.pid, CAPABILITY, 0)
            remotes.wait(topology.public_ip(1), agent.model_a(topology.public_ip(1)))
            tunnelled, direct = exchange(world)
            assert tunnelled == 0 and direct > 0


@contextlib.contextmanager
def namespace_of_a_process():
    """A file in /run/netns that leads to /proc/PID/ns/net of root's process, with a tunnel to …50."""
    holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo up; exec cat"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "up\n"
    os.symlink(f"/proc/{holder.pid}/ns/net", "/run/netns/process")
    topology.run("ip", "-n", "process", "link", "add", "tun0", "type", "ipip",
                 "remote", "203.0.113.50", "local", "10.9.50.2")
    yield
    os.unlink("/run/netns/process")
    holder.stdin.close()
    holder.wait()


def test_namespaces_of_other_users_processes(world):
    """Their files cannot be opened without CAP_SYS_PTRACE, which is not needed: the kernel is asked by pid."""
    with namespace_of_a_process():
        assert once(NEEDED)[0] == 0
        assert status()["skipped_files"] == []
        (found,) = [netns for netns in status()["namespaces"] if "process" in netns["names"]]
        assert (found["id"], found["owner"]) == (None, "host")
        assert found["found"][0] == "file /run/netns/process" and len(found["found"]) == 2
        with agent.Remotes() as remotes:
            assert remotes.get(topology.public_ip(1)) == agent.model_a(topology.public_ip(1))
            assert remotes.get("203.0.113.50") == agent.model_a("203.0.113.50")


def test_where_bpffs_is_closed():
    """systemd mounts it with mode 0700. No capability is the way: CAP_DAC_READ_SEARCH opens everything else too."""
    os.chmod(BPFFS, 0o700)
    for capabilities in (NEEDED, [*NEEDED, "dac_read_search"]):
        code, said = once(capabilities)
        assert (code, CANNOT_LOAD + "Permission denied" in said) == (2, True)
        assert f'{agent.PINS} is not open to user {USER}: "ipipdirectd --prepare", as root' in said
    os.chmod(BPFFS, 0o711)
