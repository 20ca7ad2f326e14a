# SPDX-License-Identifier: MIT
"""Every place where a namespace can be, with the real things in it: each is reported once, with all its
names, and none is held alive. The agent has the rights of the unit and no others."""

import contextlib
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import subprocess

import pytest

import agent
import kernel
import topology
from dweller import AS_USER, LOCAL, USER, Process
from topology import run, wait_for

CONTAINER = "c0ffee00" * 8
SANDBOX = "/run/docker/netns/fedcba987654"
HIDDEN = "/tmp/hidden/ns"  # where nobody looks

RIGHTS = "-all,+net_admin,+net_broadcast,+bpf,+perfmon"  # as in ipipdirect.service
COMMAND = ["setpriv", "--inh-caps", RIGHTS, "--ambient-caps", RIGHTS, "--bounding-set", RIGHTS,
           "--no-new-privs", *agent.FILTERED]


@pytest.fixture(scope="module", autouse=True)
def host():
    # Kernels before 5.11 charge BPF maps to this limit.
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    run("modprobe", "-a", "ipip", "veth", "dummy")
    run("ip", "-batch", "-", text_in="link add eth0 type dummy\nlink set eth0 up\n"
        "address add 192.0.2.10/24 dev eth0\nroute add default via 192.0.2.1\n")
    os.makedirs("/run/docker/netns")
    os.makedirs(os.path.dirname(HIDDEN))
    yield
    run("ip", "link", "delete", "eth0")


@contextlib.contextmanager
def following(seconds=3600):
    """The agent; by default with so long a time between full passes that only bells count."""
    with agent.Agent("--resync-interval", str(seconds), command=COMMAND) as running:
        with agent.Remotes() as remotes:
            running.remotes = remotes
            yield running
    agent.detach()


def namespaces():
    return agent.status()["namespaces"]


def found_as(way):
    """The one namespace that was found so, or None; never two."""
    listed = [netns for netns in namespaces() if way in netns["found"]]
    assert len(listed) < 2, listed
    return listed[0] if listed else None


def bind(source, target):
    with open(target, "wb"):
        pass
    run("mount", "--bind", source, target)


def unbind(target):
    run("umount", target)
    os.unlink(target)


CRUN = ["crun", "--cgroup-manager=cgroupfs"]


def make_bundle(bundle):
    """A container of one program, as crun itself would have it, but for what the program does not need."""
    os.makedirs(f"{bundle}/rootfs/bin")
    run("cp", "/bin/busybox", f"{bundle}/rootfs/bin/busybox")
    run(*CRUN, "spec", "--bundle", bundle)
    with open(f"{bundle}/config.json", encoding="utf-8") as file:
        config = json.load(file)
    config["process"].update(args=["/bin/busybox", "sleep", "1000"], terminal=False)
    config["root"] = {"path": "rootfs", "readonly": False}
    config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] in ("/proc", "/dev")]
    with open(f"{bundle}/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)


@contextlib.contextmanager
def container(bundle, remote):
    """By a real runtime. Its network namespace has a tunnel and nothing else."""
    make_bundle(bundle)
    # It inherits its output, and nobody should wait for the end of that.
    with open(f"{bundle}/log", "w+", encoding="utf-8") as log:
        done = subprocess.run([*CRUN, "run", "--detach", "--bundle", bundle, CONTAINER], check=False,
                              stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.seek(0)
        assert done.returncode == 0, log.read()
    try:
        pid = json.loads(run(*CRUN, "state", CONTAINER))["pid"]
        run("nsenter", f"--net=/proc/{pid}/ns/net", "ip", "link", "add", "tun0", "type", "ipip",
            "remote", remote, "local", LOCAL)
        yield pid
    finally:
        run(*CRUN, "delete", "--force", CONTAINER)


@pytest.fixture
def everything(tmp_path):
    """One namespace of each kind."""
    with contextlib.ExitStack() as stack:
        run("ip", "netns", "add", "game")
        stack.callback(run, "ip", "netns", "delete", "game")
        run("ip", "-n", "game", "link", "add", "tun0", "type", "ipip", "remote", "203.0.113.1", "local", LOCAL)
        for source, target in (("/run/netns/game", "/run/netns/second"),
                               ("/run/netns/game", "/run/docker/netns/0123456789ab"),
                               ("/proc/self/ns/net", "/run/docker/netns/default")):
            bind(source, target)
            stack.callback(unbind, target)
        made = {
            "panel": stack.enter_context(Process("unshare", "--net", *AS_USER, remote="203.0.113.2")),
            "anonymous": stack.enter_context(Process("unshare", "--net", remote="203.0.113.3")),
            "rootless": stack.enter_context(Process(*AS_USER, "unshare", "-rn", remote="203.0.113.5")),
        }
        os.symlink(f"/proc/{made['panel'].pid}/ns/net", "/run/netns/panel")
        stack.callback(os.unlink, "/run/netns/panel")
        with open(HIDDEN, "wb"):
            pass
        run("unshare", f"--net={HIDDEN}", "ip", "link", "add", "inside", "type", "veth", "peer", "name", "hid",
            "netns", str(os.getpid()))
        run("ip", "link", "show", "dev", "hid")  # to say where the other end is, it needs a number
        stack.callback(unbind, HIDDEN)
        made["container"] = stack.enter_context(container(f"{tmp_path}/bundle", "203.0.113.4"))
        bind(f"/proc/{made['container']}/ns/net", SANDBOX)  # as Docker has it
        stack.callback(unbind, SANDBOX)
        yield made


def test_each_namespace_once_with_all_its_names(everything):
    with following() as running:
        for n in (1, 2, 3, 4):
            running.remotes.wait(topology.public_ip(n), agent.model_a(topology.public_ip(n)))
        listed = {tuple(netns["found"]): netns for netns in namespaces()}
        expected = {
            ("the agent's own", "file /run/docker/netns/default"): ("host", [], "host", None),
            ("file /run/docker/netns/0123456789ab", "file /run/netns/game", "file /run/netns/second"):
                ("game", ["game", "second"], "host", None),
            ("file /run/netns/panel", f"process {everything['panel'].pid}"): ("panel", ["panel"], "host", "cat"),
            (f"process {everything['anonymous'].pid}",): ("cat", [], "host", "cat"),
            (f"process {everything['rootless'].pid}",): ("cat", [], "other", "cat"),
            (f"file {SANDBOX}", f"process {everything['container']}"):
                (CONTAINER[:12], [], "host", CONTAINER[:12]),
        }
        assert {found: (netns["label"], netns["names"], netns["owner"], netns["resident"])
                for found, netns in listed.items() if found != ("nsid only",)} == expected
        hidden = listed[("nsid only",)]
        assert (hidden["owner"], hidden["resident"]) == ("unknown", f"nsid-{hidden['nsid']}")
        assert len(listed) == len(namespaces()) == len(expected) + 1
        assert all(netns["read"] for netns in namespaces())
        assert agent.status()["discovery"]["complete"] and agent.status()["skipped_files"] == []
        # Numbers are what the kernel says as well.
        numbers = {line.split()[1] for line in run("ip", "netns", "list-id").splitlines()}
        assert {str(netns["nsid"]) for netns in namespaces()} - {"None"} == numbers
        out = json.loads(run(agent.CTL, "-j", "netns"))
        assert out["namespaces"] == namespaces()


# What iproute2 makes of them, and not what a test thinks that they look like.
OTHERS = {
    "fou0": ("remote 203.0.113.21 local 192.0.2.10 encap fou encap-sport auto encap-dport 5555", "encapsulation"),
    "gue0": ("remote 203.0.113.22 local 192.0.2.10 encap gue encap-sport auto encap-dport 5556", "encapsulation"),
    "mpls0": ("remote 203.0.113.23 local 192.0.2.10 mode mplsip", "not-ipip"),
    "any0": ("remote 203.0.113.24 local 192.0.2.10 mode any", None),
    "flow0": ("external", "external"),
    "plain0": ("remote 203.0.113.25 local 192.0.2.10", None),
}


def test_tunnels_of_other_kinds_are_told_and_left_alone():
    run("modprobe", "-a", "fou", "mpls_router")
    with following() as running:
        run("ip", "netns", "add", "odd")
        for name, (words, _reason) in OTHERS.items():
            run("ip", "-n", "odd", "link", "add", name, "type", "ipip", *words.split())
        wait_for(lambda: len([t for t in agent.status()["tunnels"] if t["netns"] == "odd" and t["ifname"] != "tunl0"]) == len(OTHERS),
                 "all of them are seen")
        agent.resync()
        told = {t["ifname"]: (t["state"], t["reason"]) for t in agent.status()["tunnels"] if t["netns"] == "odd"}
        for name, (_words, reason) in OTHERS.items():
            assert told[name] == (("skipped", reason) if reason else ("mapped", None)), name
        assert {remote for remote, _source in agent.map_now()} == {"203.0.113.24", "203.0.113.25"}
        assert running
        run("ip", "netns", "del", "odd")


def test_nothing_is_held_alive(tmp_path):
    """Before and after the agent knew it: the namespace ends with its process, and so do its rows."""
    with following() as running:
        for n in range(3):
            remote = f"203.0.113.{20 + n}"
            with Process("unshare", "--net", remote=remote) as process:
                # The neighbour on the host is what rings.
                process.ip(f"link add inside type veth peer name outside netns {os.getpid()}")
                running.remotes.wait(remote, agent.model_a(remote))
                wait_for(lambda: found_as(f"process {process.pid}"), "the process in the status")
                process.end()
                wait_for(lambda: not os.path.exists("/sys/class/net/outside"), "the end of the namespace")
                running.remotes.wait(remote, None)
                wait_for(lambda: not found_as(f"process {process.pid}"), "the process out of the status")
        with container(f"{tmp_path}/bundle", "203.0.113.30") as pid:
            run("nsenter", f"--net=/proc/{pid}/ns/net", "ip", "link", "add", "inside", "type", "veth", "peer",
                "name", "outside", "netns", str(os.getpid()))
            running.remotes.wait("203.0.113.30", agent.model_a("203.0.113.30"))
        wait_for(lambda: not os.path.exists("/sys/class/net/outside"), "the end of the namespace")
        running.remotes.wait("203.0.113.30", None)


def test_a_link_whose_process_ended_leads_nowhere():
    with Process("unshare", "--net", *AS_USER, remote="203.0.113.2") as process:
        os.symlink(f"/proc/{process.pid}/ns/net", "/run/netns/panel")
        try:
            with following() as running:
                running.remotes.wait("203.0.113.2", agent.model_a("203.0.113.2"))
                process.end()
                running.process.send_signal(signal.SIGHUP)
                running.remotes.wait("203.0.113.2", None)
                wait_for(lambda: agent.status()["skipped_files"] ==
                         [{"path": "/run/netns/panel", "reason": "it leads nowhere"}], "the link to be skipped")
        finally:
            os.unlink("/run/netns/panel")


@pytest.fixture
def door():
    """A directory, and a link in /run/netns to a namespace behind it."""
    path = "/tmp/door"
    os.mkdir(path)
    run("ip", "netns", "add", "game")
    run("ip", "-n", "game", "link", "add", "tun0", "type", "ipip", "remote", "203.0.113.1", "local", LOCAL)
    bind("/run/netns/game", f"{path}/ns")
    os.symlink(f"{path}/ns", "/run/netns/behind")
    run("ip", "netns", "delete", "game")
    yield path
    os.unlink("/run/netns/behind")
    unbind(f"{path}/ns")
    agent.detach()


def test_unknown_is_not_absent(door):
    """A file behind a closed door: nobody can tell, so its row stays until the door is open again."""
    with agent.Agent("--resync-interval", "1", command=COMMAND) as running, agent.Remotes() as remotes:
        remotes.wait("203.0.113.1", agent.model_a("203.0.113.1"))
        os.chown(door, USER, USER)
        os.chmod(door, 0o700)
        running.process.send_signal(signal.SIGHUP)
        wait_for(lambda: [file["path"] for file in agent.status()["skipped_files"]] == ["/run/netns/behind"],
                 "the closed door")
        (netns,) = [netns for netns in namespaces() if netns["names"] == ["behind"]]
        assert (netns["owner"], remotes.get("203.0.113.1")) == ("host", agent.model_a("203.0.113.1"))
        running.kill()
        # A new agent remembers nothing, and takes nothing away.
        with agent.Agent("--resync-interval", "1", command=COMMAND):
            wait_for(lambda: agent.status()["discovery"]["unresolved_files"] == 1, "the unknown")
            assert not agent.status()["discovery"]["complete"]
            assert remotes.get("203.0.113.1") == agent.model_a("203.0.113.1")
            os.chmod(door, 0o755)
            wait_for(lambda: agent.status()["discovery"]["complete"], "the open door")
            run("nsenter", f"--net={door}/ns", "ip", "link", "delete", "tun0")
            remotes.wait("203.0.113.1", None)


def test_a_namespace_in_the_making():
    """A placeholder is looked at a few times more and then left alone; the mount over it rings."""
    path = "/run/netns/half"
    with open(path, "wb"):
        pass
    os.chmod(path, 0)
    try:
        with following():
            assert [file["path"] for file in agent.status()["skipped_files"]] == [path]
            assert agent.status()["agent"]["problems"] == []
            # The last of the pauses between looks is half as long.
            wait_for(lambda: agent.quiet_for(1.7), "the end of looking", 20)
            run("unshare", f"--net={path}", "true")
            wait_for(lambda: found_as(f"file {path}"), "the namespace")
            assert agent.status()["skipped_files"] == []
            unbind(path)
            wait_for(lambda: not found_as(f"file {path}"), "the end of the namespace")
    finally:
        run("umount", path, check=False)
        run("rm", "-f", path)


def test_a_number_in_oneself():
    """Somebody gives the agent's namespace a number in itself, which its own events then carry."""
    run("ip", "netns", "attach", "self", str(os.getpid()))
    with following() as running:
        run("ip", "netns", "set", "self", "auto")
        run("ip", "netns", "add", "other")  # rings for the list
        try:
            wait_for(lambda: found_as("file /run/netns/other"), "the other")
            run("ip", "link", "add", "tun9", "type", "ipip", "remote", "203.0.113.9", "local", "192.0.2.10")
            running.remotes.wait("203.0.113.9", agent.model_a("203.0.113.9"))
            wait_for(lambda: ["self"] == [tunnel["netns"] for tunnel in agent.status()["tunnels"]
                                          if tunnel["ifname"] == "tun9"], "the tunnel in the status")
            run("ip", "link", "delete", "tun9")
            running.remotes.wait("203.0.113.9", None)
        finally:
            run("ip", "link", "delete", "tun9", check=False)
            run("ip", "netns", "delete", "other")
            run("ip", "netns", "delete", "self")


def flap(netns, times):
    """An interface goes up and down, each with an event to whoever listens."""
    with open(f"/run/netns/{netns}", "rb") as file, \
            kernel.socket_in(file.fileno(), socket.AF_INET, socket.SOCK_DGRAM) as sock:
        requests = [struct.pack("16sH14x", b"lo", flags) for flags in (1, 0)]  # IFF_UP
        for _ in range(times):
            for request in requests:
                fcntl.ioctl(sock, 0x8914, request)  # SIOCSIFFLAGS


def test_lost_events():
    """The agent stands still while more happens than its socket can hold. Then it reads everything anew."""
    for n in range(3):
        run("ip", "netns", "add", f"g{n}")
    run("ip", "-n", "g0", "link", "add", "tun0", "type", "ipip", "remote", "203.0.113.50", "local", LOCAL)
    try:
        with following() as running:
            running.remotes.wait("203.0.113.50", agent.model_a("203.0.113.50"))
            running.process.send_signal(signal.SIGSTOP)
            flap("g1", 5000)
            run("ip", "-n", "g0", "link", "delete", "tun0")
            run("ip", "-n", "g2", "link", "add", "tun0", "type", "ipip", "remote", "203.0.113.51", "local", LOCAL)
            running.process.send_signal(signal.SIGCONT)
            running.remotes.wait("203.0.113.51", agent.model_a("203.0.113.51"))
            running.remotes.wait("203.0.113.50", None)
            with open(running.log.name, encoding="utf-8") as file:
                assert "the kernel dropped netlink events" in file.read()
    finally:
        for n in range(3):
            run("ip", "netns", "delete", f"g{n}")
