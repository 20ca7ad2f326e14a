# SPDX-License-Identifier: MIT
"""The service unit under a real systemd: the agent lives within its limits, and sees what comes and goes.

Runs in the VM. systemd is process 1 of a pid namespace, with the unit as it was built and nothing besides; only the
path of the program is another.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

BUILD_DIR = os.environ["BUILD_DIR"]
SYSTEMD = "/lib/systemd/systemd"
UNIT = "ipipdirect.service"
STATUS = pathlib.Path("/run/ipipdirect/status.json")
# /tmp may be another one to the service, and build directories are.
PROGRAM = "/usr/local/sbin/ipipdirectd"

START = """
set -e
mount --make-rshared /
mount -t proc proc /proc
exec env -i container=test SYSTEMD_UNIT_PATH=/run/test-units PATH="$PATH" \
	%s --system --unit=test.target --log-target=console --show-status=no
""" % SYSTEMD

# A namespace without a file of its own. The process has the number that systemd's /proc knows it by.
PANEL = """
ip link add tun0 type ipip local 198.18.0.2 remote 203.0.113.6
mkdir -p /run/netns
ln -s /proc/$$/ns/net /run/netns/panel
echo made
exec cat
"""

pytestmark = pytest.mark.skipif(not os.path.exists(SYSTEMD), reason="systemd is not installed")


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_for(what, condition, seconds=30):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)
    return value


def write_units():
    """systemd and the service, without the rest of the machine."""
    place = pathlib.Path("/run/test-units")
    place.mkdir()
    for name in ("sysinit", "basic", "network", "shutdown"):
        (place / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n", encoding="utf-8")
    (place / "test.target").write_text(f"[Unit]\nWants={UNIT}\n", encoding="utf-8")
    text = pathlib.Path(BUILD_DIR, "tools", UNIT).read_text(encoding="utf-8")
    text, n = re.subn(r"^ExecStart=\S+$", f"ExecStart={PROGRAM}", text, flags=re.M)
    assert n == 1
    (place / UNIT).write_text(text, encoding="utf-8")
    run("install", f"{BUILD_DIR}/agent/ipipdirectd", PROGRAM)


def children(pid):
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()


class System:
    def __init__(self):
        write_units()
        run("modprobe", "ipip")
        for line in ("link add wan type veth peer name gateway", "addr add 198.18.0.2/24 dev wan",
                     "link set wan up", "link set gateway up", "route add default via 198.18.0.1"):
            run("ip", *line.split())
        self.outer = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount",
                                       "sh", "-c", START], stdin=subprocess.DEVNULL)
        self.pid = wait_for("process 1", lambda: children(self.outer.pid))[0]

    def enter(self, *command):
        return ["nsenter", "-t", self.pid, "-p", "-m", *command]

    def ip(self, *args):
        """As the host that systemd takes this for: mounts of `ip netns` are made there."""
        run(*self.enter("ip", *args))

    def systemctl(self, *args, check=True):
        done = subprocess.run(self.enter("systemctl", *args), capture_output=True, text=True, timeout=60,
                              check=False)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip()

    def is_active(self):
        return self.systemctl("is-active", UNIT, check=False) == "active"

    def show(self, name):
        return self.systemctl("show", "--value", "-p", name, UNIT)

    def agent_pid(self):
        """As this pid namespace, the outer one, numbers it."""
        procs = pathlib.Path("/sys/fs/cgroup" + self.show("ControlGroup"), "cgroup.procs")
        return int(procs.read_text(encoding="ascii").split()[0])

    def close(self):
        self.outer.kill()
        self.outer.wait(30)


@pytest.fixture(scope="module")
def system():
    it = System()
    try:
        wait_for("the service", it.is_active, 60)
        yield it
    finally:
        it.close()


def remotes():
    """{netns: remote} of the tunnels in the map."""
    try:
        status = json.loads(STATUS.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {t["netns"]: t["remote"] for t in status["tunnels"] if t["state"] == "mapped"}


def test_it_is_attached_and_well(system):
    status = json.loads(STATUS.read_text(encoding="utf-8"))
    assert status["agent"]["problems"] == []
    assert [i["name"] for i in status["interfaces"]] == ["wan"]
    assert system.show("StatusText")


def test_it_has_the_rights_of_the_unit_and_no_others(system):
    text = pathlib.Path(f"/proc/{system.agent_pid()}/status").read_text(encoding="ascii")
    fields = dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)
    wanted = sum(1 << bit for bit in (11, 12, 19, 38, 39))  # broadcast, admin, ptrace, perfmon, bpf
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == wanted
    assert fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2"


def test_it_sees_the_mounts_that_the_host_sees(system):
    pid = system.agent_pid()
    assert os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink(f"/proc/{system.pid}/ns/mnt")


def test_namespaces_come_and_go(system):
    """Mounts of `ip netns` reach the service, and the service keeps no namespace alive."""
    assert system.is_active()
    system.ip("netns", "add", "game1")
    system.ip("link", "add", "tell", "type", "veth", "peer", "name", "tale", "netns", "game1")
    system.ip("-n", "game1", "link", "add", "tun0", "type", "ipip", "local", "198.18.0.2", "remote", "203.0.113.5")
    wait_for("the tunnel", lambda: remotes() == {"game1": "203.0.113.5"})
    system.ip("netns", "del", "game1")
    wait_for("the end of the tunnel", lambda: remotes() == {})
    wait_for("the end of the namespace", lambda: not os.path.exists("/sys/class/net/tell"))


def test_a_link_to_a_namespace_of_a_process_with_more_rights(system):
    """CAP_SYS_PTRACE: as hosting panels make them."""
    assert system.is_active()
    holder = subprocess.Popen(system.enter("unshare", "--net", "sh", "-ec", PANEL),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "made\n"
        system.systemctl("reload", UNIT)  # a link rings no bell
        wait_for("the tunnel", lambda: remotes() == {"panel": "203.0.113.6"})
    finally:
        holder.stdin.close()
        holder.wait(30)
        os.unlink("/run/netns/panel")
    system.systemctl("reload", UNIT)
    wait_for("the end of the tunnel", lambda: remotes() == {})


def test_reload_keeps_the_process(system):
    before = system.agent_pid()
    system.systemctl("reload", UNIT)
    wait_for("the service", system.is_active)
    assert system.agent_pid() == before


def test_killed_it_comes_back_and_adopts_what_is_there(system):
    before = system.agent_pid()
    os.kill(before, signal.SIGKILL)
    wait_for("a new process", lambda: system.show("NRestarts") == "1" and system.is_active())
    assert system.agent_pid() != before
    assert json.loads(STATUS.read_text(encoding="utf-8"))["agent"]["problems"] == []


def test_stopped_it_leaves_status_and_pins(system):
    system.systemctl("stop", UNIT)
    assert STATUS.exists()
    pins = os.listdir("/sys/fs/bpf/ipipdirect")
    assert "v1" in pins and any(name.startswith(("link_", "prog_")) for name in pins)
    assert STATUS.stat().st_mode & 0o7777 == 0o640
