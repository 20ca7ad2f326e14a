# SPDX-License-Identifier: MIT
"""The service unit under a real systemd: the agent lives within its limits, and sees what comes and goes.

Runs in the VM. systemd is process 1 of a pid namespace, with the unit as it was built and nothing besides; only the
path of the program is another.
"""

import contextlib
import json
import os
import pathlib
import pwd
import re
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/vm"))

import kernel
from drop_in import drop_in

BUILD_DIR = os.environ["BUILD_DIR"]
SYSTEMD = "/lib/systemd/systemd"
UNIT = "ipipdirect.service"
STATUS = pathlib.Path("/run/ipipdirect/status.json")
CONFIG = pathlib.Path("/etc/ipipdirect/config.json")
PINS = pathlib.Path("/sys/fs/bpf/ipipdirect")
USER = "ipipdirect"
RECOVERS = float(os.environ.get("IPIPDIRECT_RECOVERS", "30"))  # seconds, as in tests/vm/faults.py
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
    text, n = re.subn(r"^(Exec\w+=\+?)\S+/ipipdirectd(?= |$)", rf"\1{PROGRAM}", text, flags=re.M)
    assert n == 2
    (place / UNIT).write_text(text, encoding="utf-8")
    # Five starts in ten seconds is what a unit that says nothing may make; the VM is too slow for so many.
    manager = pathlib.Path("/run/systemd/system.conf.d/test.conf")
    manager.parent.mkdir(parents=True)
    manager.write_text("[Manager]\nDefaultStartLimitIntervalSec=60s\n", encoding="utf-8")
    run("install", f"{BUILD_DIR}/agent/ipipdirectd", PROGRAM)


def children(pid):
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()


class System:
    def __init__(self):
        run("systemd-sysusers", ROOT / "tools/ipipdirect.sysusers")
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
    assert system.show("RestartUSec") == "1s", "what a start that fails has of the five seconds"


def fields_of(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)


def test_it_has_the_rights_of_the_unit_and_no_others(system):
    fields = fields_of(system.agent_pid())
    wanted = sum(1 << bit for bit in (11, 12, 38, 39))  # broadcast, admin, perfmon, bpf
    assert [int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")] == [wanted] * 3
    assert [int(fields[name], 16) for name in ("CapInh", "CapAmb")] == [0, 0]
    assert fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2"


def test_it_is_a_user_of_its_own(system):
    fields, account = fields_of(system.agent_pid()), pwd.getpwnam(USER)
    assert fields["Uid"].split("\t") == [str(account.pw_uid)] * 4
    assert fields["Gid"].split("\t") == [str(account.pw_gid)] * 4
    assert fields["Groups"].split() in ([], [str(account.pw_gid)])


def test_what_it_leaves_is_its_own_and_its_groups_to_read(system):
    for path, mode in [(PINS, 0o750), (PINS / "v1", 0o750), (PINS / "v1/remotes", 0o640), (STATUS, 0o640)]:
        assert (path.owner(), path.group(), path.stat().st_mode & 0o7777) == (USER, USER, mode), path
    assert pathlib.Path("/sys/fs/bpf").stat().st_mode & 0o7777 == 0o1701  # systemd and the VM mount it 0700; the kernel adds the sticky bit


def test_what_it_says_to_the_journal_is_bounded(system):
    assert (system.show("LogRateLimitIntervalUSec"), system.show("LogRateLimitBurst")) == ("30s", "2000")


def mounts(pid):
    """{place: options}; of several in one place the uppermost."""
    text = pathlib.Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8")
    return {line.split()[4]: line.split()[5].split(",") for line in text.splitlines()}


def test_it_writes_nowhere_else(system):
    """What the unit asks for is in force, not left out by systemd as something that this kernel lacks."""
    pid = system.agent_pid()
    assert os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink(f"/proc/{system.pid}/ns/mnt")
    there = mounts(pid)
    for place in ("/", "/sys", "/sys/fs/cgroup", "/proc/sys"):
        assert "ro" in there[place], place
    for place in ("/sys/fs/bpf", "/run/ipipdirect", "/tmp"):
        assert "rw" in there[place], place
    assert not [place for place in there if place.startswith("/sys/fs/bpf/")]
    assert {"/home", "/root", "/dev"} <= set(there)
    assert not os.path.exists(f"/proc/{pid}/root/dev/kmsg")
    for name in ("ipc", "uts"):
        assert os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/{system.pid}/ns/{name}")


def test_it_keeps_no_descriptor_of_a_namespace(system):
    pid = system.agent_pid()
    wait_for("no descriptor of a namespace",
             lambda: not [text for text in kernel.descriptors(pid) if text.startswith(("net:", "mnt:", "user:"))])


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


def test_a_namespace_that_was_there_before_the_service_is_let_go(system):
    """Its mount was copied when the service got a mount namespace of its own."""
    system.ip("netns", "add", "game2")
    system.ip("link", "add", "tell", "type", "veth", "peer", "name", "tale", "netns", "game2")
    system.ip("-n", "game2", "link", "add", "tun0", "type", "ipip", "local", "198.18.0.2", "remote", "203.0.113.7")
    system.systemctl("restart", UNIT)
    wait_for("the tunnel", lambda: remotes() == {"game2": "203.0.113.7"})
    assert "/run/netns/game2" in mounts(system.agent_pid())
    system.ip("netns", "del", "game2")
    wait_for("the end of the tunnel", lambda: remotes() == {})
    wait_for("the end of the namespace", lambda: not os.path.exists("/sys/class/net/tell"))
    assert "/run/netns/game2" not in mounts(system.agent_pid())


def test_a_link_to_a_namespace_of_a_process_with_more_rights(system):
    """As hosting panels make them. The agent may not open it, and asks for it by pid."""
    assert system.is_active()
    holder = subprocess.Popen(system.enter("unshare", "--net", "sh", "-ec", PANEL),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "made\n"
        wait_for("the tunnel", lambda: remotes() == {"panel": "203.0.113.6"})
    finally:
        holder.stdin.close()
        holder.wait(30)
        os.unlink("/run/netns/panel")
    wait_for("the end of the tunnel", lambda: remotes() == {})


def test_reload_keeps_the_process(system):
    before = system.agent_pid()
    system.systemctl("reload", UNIT)
    wait_for("the service", system.is_active)
    assert system.agent_pid() == before


def agent_says():
    return json.loads(STATUS.read_text(encoding="utf-8"))["agent"]


def modes():
    return {t["netns"]: t["mode"] for t in json.loads(STATUS.read_text(encoding="utf-8"))["tunnels"] if t["state"] == "mapped"}


def test_a_bad_configuration_changes_nothing(system):
    """systemd only sends a signal: its reload succeeds, and the status says what became of it."""
    before = system.agent_pid()
    system.ip("netns", "add", "game3")
    system.ip("-n", "game3", "link", "add", "tun0", "type", "ipip", "local", "198.18.0.2", "remote", "203.0.113.8")
    CONFIG.parent.mkdir(exist_ok=True)
    CONFIG.write_text('{"mode": "shadow"}\n', encoding="utf-8")
    system.systemctl("reload", UNIT)
    wait_for("the policy", lambda: modes() == {"game3": "shadow"})

    CONFIG.write_text('{\n  "max_entries": 64,\n  "mode": "sideways"\n}\n', encoding="utf-8")
    system.systemctl("reload", UNIT)
    error = wait_for("the error", lambda: agent_says()["config_error"])
    assert (error["file"], error["line"], error["place"]) == (str(CONFIG), 3, "mode")
    assert system.is_active() and system.agent_pid() == before
    assert modes() == {"game3": "shadow"} and json.loads(STATUS.read_text(encoding="utf-8"))["map"]["max_rows"] == 16384
    done = subprocess.run(system.enter(f"{BUILD_DIR}/tools/ipipdirectctl", "reload"), capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode != 0 and "mode: expected " in done.stderr and system.agent_pid() == before

    CONFIG.write_text('{"mode": "tunnel"}\n', encoding="utf-8")
    system.systemctl("reload", UNIT)
    wait_for("the mended policy", lambda: modes() == {"game3": "tunnel"})
    assert agent_says()["config_error"] is None and agent_says()["problems"] == []
    assert system.is_active() and system.agent_pid() == before
    CONFIG.unlink()
    system.ip("netns", "del", "game3")
    system.systemctl("reload", UNIT)
    wait_for("the end of the tunnel", lambda: remotes() == {})


def test_killed_it_comes_back_and_adopts_what_is_there(system):
    before = system.agent_pid()
    os.kill(before, signal.SIGKILL)
    wait_for("a new process", lambda: system.show("NRestarts") == "1" and system.is_active())
    assert system.agent_pid() != before
    assert json.loads(STATUS.read_text(encoding="utf-8"))["agent"]["problems"] == []


def test_hung_it_is_ended_and_started_anew(system):
    before, restarts = system.agent_pid(), int(system.show("NRestarts"))
    os.kill(before, signal.SIGSTOP)
    wait_for("a new process", lambda: int(system.show("NRestarts")) == restarts + 1 and system.is_active(), 90)
    assert system.agent_pid() != before


@contextlib.contextmanager
def bad_configuration(_system):
    CONFIG.parent.mkdir(exist_ok=True)
    CONFIG.write_text('{"mode": "sideways"}\n', encoding="utf-8")
    try:
        yield
    finally:
        CONFIG.unlink()


@contextlib.contextmanager
def no_bpffs(system):
    """Even --prepare fails: something else is mounted there."""
    run(*system.enter("mount", "-t", "tmpfs", "none", "/sys/fs/bpf"))
    try:
        yield
    finally:
        run(*system.enter("umount", "/sys/fs/bpf"))


def problems():
    return json.loads(STATUS.read_text(encoding="utf-8"))["agent"]["problems"]


@pytest.mark.parametrize("fault", [bad_configuration, no_bpffs])
def test_a_start_that_fails_is_tried_again_however_often(system, fault):
    """Left to itself systemd gives up after five, and nobody keeps the rows of what is attached true."""
    system.systemctl("stop", UNIT)
    with fault(system):
        system.systemctl("start", UNIT, check=False)
        restarts, begin = int(system.show("NRestarts")), time.monotonic()
        wait_for("more starts", lambda: int(system.show("NRestarts")) >= restarts + 7, 90)
        assert time.monotonic() > begin + 7, "it gives the machine a rest"
        assert system.show("ActiveState") == "activating"
    end = time.monotonic()
    wait_for("the service", system.is_active, RECOVERS)
    print(f"{fault.__name__}: {time.monotonic() - end:.1f} s")
    assert agent_says()["problems"] == []


def refused_calls():
    """What the kernel says of system calls that killed: audit record 1326."""
    lines = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if "type=1326" in line]


@pytest.fixture
def deadly(system):
    """The filter of system calls kills, so that a call it refuses cannot pass unnoticed."""
    with drop_in(system.systemctl, UNIT, "SystemCallErrorNumber=kill", "Restart=no"):
        system.systemctl("restart", UNIT, check=False)
        assert system.is_active(), refused_calls()
        yield system
    system.systemctl("reset-failed", UNIT, check=False)
    system.systemctl("restart", UNIT)
    wait_for("the service", system.is_active)


def test_it_asks_for_no_system_call_that_the_unit_forbids(deadly):
    """At its start, while tunnels come and go, at a reload and a resync, as modes change, and at its end."""
    ctl = deadly.enter(f"{BUILD_DIR}/tools/ipipdirectctl")
    for n in range(3):
        deadly.ip("netns", "add", f"call{n}")
        deadly.ip("-n", f"call{n}", "link", "add", "tun0", "type", "ipip", "local", "198.18.0.2", "remote", f"203.0.113.{20 + n}")
    wait_for("the tunnels", lambda: len(remotes()) == 3)
    run(*ctl, "mode", "call0", "tun0", "tunnel")
    run(*ctl, "mode", "call0", "tun0", "direct")
    deadly.systemctl("reload", UNIT)
    run(*ctl, "resync")
    run(*ctl, "status")
    for n in range(3):
        deadly.ip("netns", "del", f"call{n}")
    wait_for("the end of the tunnels", lambda: remotes() == {})
    deadly.systemctl("stop", UNIT)
    assert (deadly.show("Result"), deadly.show("ExecMainCode"), deadly.show("ExecMainStatus")) == ("success", "1", "0")


def test_stopped_it_leaves_status_and_pins(system):
    system.systemctl("stop", UNIT)
    assert STATUS.exists()
    pins = os.listdir(PINS)
    assert "v1" in pins and any(name.startswith(("link_", "prog_")) for name in pins)
    assert STATUS.stat().st_mode & 0o7777 == 0o640


def test_root_may_run_it_in_between(system):
    """A unit without User=, or an agent by hand: it takes over, and the service does so again."""
    assert not system.is_active()
    before = json.loads(STATUS.read_text(encoding="utf-8"))["map"]
    done = subprocess.run(system.enter(PROGRAM, "--once"), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, STATUS.owner(), (PINS / "v1/remotes").owner()) == (0, "root", "root"), done.stderr
    system.systemctl("start", UNIT)
    assert (STATUS.owner(), (PINS / "v1/remotes").owner()) == (USER, USER)
    assert json.loads(STATUS.read_text(encoding="utf-8"))["map"] == before


def test_root_detaches_everything(system):
    system.systemctl("stop", UNIT)
    done = subprocess.run(system.enter(f"{BUILD_DIR}/tools/ipipdirectctl", "detach"), capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 0 and not PINS.exists(), done.stderr
    system.systemctl("start", UNIT)
    assert PINS.owner() == USER


def test_a_bpffs_that_goes_and_comes(system):
    """What the host unmounts is unmounted for the service as well, so it knows, and does not go on with a file system of its own. The
    last of these tests: the others see the one that is gone."""
    pid = system.agent_pid()
    mounted = [line.split() for line in pathlib.Path(f"/proc/{system.pid}/mountinfo").read_text(encoding="utf-8").splitlines()
               if line.split()[4] == "/sys/fs/bpf"]
    for _ in mounted:
        run(*system.enter("umount", "/sys/fs/bpf"))
    try:
        wait_for("it is told", lambda: problems() != [])
        assert "/sys/fs/bpf" not in mounts(pid)
    finally:
        run(*system.enter("mount", "-t", "bpf", "bpf", "/sys/fs/bpf"))
    system.systemctl("restart", UNIT)
    wait_for("all is well", lambda: problems() == [] and system.is_active())
    done = subprocess.run(system.enter(f"{BUILD_DIR}/tools/ipipdirectctl", "map", "dump"), capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stderr
