# SPDX-License-Identifier: MIT
"""What somebody planted where the agent reads and writes: it reads nothing that is no namespace, waits for
nothing, and writes through no link."""

import json
import re

import pytest

from sandbox import AGENT, FILTERED

RUN = "/run/ipipdirect"
VICTIM = "/run/victim"
# What it writes in each pass, and what when an operator says something.
WRITTEN = ["status.json", ".status.json.new", "offloads.json", ".offloads.json.new", "held.json", ".held.json.new", "lock", "agent.lock"]
SAID = ["modes.json", ".modes.json.new", "placement.json", ".placement.json.new"]
MODES = {"version": 1, "overrides": [{"netns": "g1", "ifname": "tun0", "mode": "tunnel", "until_reload": True}]}
PLACEMENT = {"version": 1, "detached": False, "interfaces": []}


@pytest.fixture
def victim(sandbox):
    """The sandbox with a file that nobody may touch; judged at the end."""
    sandbox.write(VICTIM, "precious")
    sandbox.do("chmod", "0604", VICTIM)
    look = ("stat", "--format=%a %s %Y %Z %i", VICTIM)
    before = sandbox.do(*look)
    sandbox.do("install", "-d", "-m", "0755", RUN)
    # Something to write down: a feature that the agent turns off.
    sandbox.do("ethtool", "-K", "wan", "tx-ipxip4-segmentation", "on")
    sandbox.write("/run/guard.json", '{"offload_guard": "on"}')
    yield sandbox
    assert sandbox.do(*look) == before
    assert sandbox.do("cat", VICTIM) == "precious"


def pass_once(sandbox):
    return sandbox.run("timeout", "20", *FILTERED, "--once", "--config", "/run/guard.json")


def plant(sandbox, name, how):
    path = f"{RUN}/{name}"
    sandbox.do("rm", "-f", path)
    if how == "fifo":
        sandbox.do("mkfifo", path)
    else:
        sandbox.do("ln", "-s", VICTIM if how == "link" else "/run/elsewhere", path)
    return path


def assert_files(sandbox, *names):
    assert not sandbox.exists("/run/elsewhere"), "made through a link"
    for name in names:
        assert sandbox.do("stat", "--format=%F %a", f"{RUN}/{name}") == "regular file 640\n"
    return [json.loads(sandbox.do("cat", f"{RUN}/{name}")) for name in names]


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("how", ["link", "dangling", "fifo"])
def test_files_of_the_run_directory(victim, name, how):
    path = plant(victim, name, how)
    done = pass_once(victim)
    assert not victim.exists("/run/elsewhere"), "made through a link"
    if name in ("lock", "agent.lock") and how != "fifo":
        assert done.returncode == 2 and f"cannot open /run/ipipdirect/{name}" in done.stderr
        assert victim.do("readlink", path)
        return
    if name == "offloads.json" and how == "fifo":
        # What was turned off before it cannot know, so it turns off nothing, and does not attach.
        assert done.returncode == 4 and "cannot read offloads.json" in done.stderr
        assert "on" in victim.do("sh", "-c", "ethtool -k wan | grep tx-ipxip4-segmentation")
        return
    assert done.returncode == 0, done.stderr
    assert_files(victim, "status.json", "offloads.json", "held.json")


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("how", ["link", "dangling", "fifo"])
def test_files_of_what_operators_say(victim, name, how):
    """A mode that lasts until a reload has one written, and a detach the other."""
    victim.write(f"{RUN}/modes.json", json.dumps(MODES))
    victim.start_agent("--config", "/run/guard.json")
    plant(victim, name, how)
    for command in ("reload", "detach"):
        assert victim.ctl(command).returncode in (0, 4)
    modes, placement = assert_files(victim, "modes.json", "placement.json")
    assert (modes["overrides"], placement["detached"]) == ([], True)


@pytest.mark.parametrize("name, text, told", [
    ("modes.json", MODES, "cannot read the modes"),
    ("placement.json", PLACEMENT, "cannot read placement.json"),
])
def test_what_operators_said_is_not_waited_for(victim, name, text, told):
    victim.write(f"{RUN}/{name}", json.dumps(text))
    assert told not in pass_once(victim).stderr
    plant(victim, name, "fifo")
    done = pass_once(victim)
    assert told in done.stderr and done.returncode in (0, 4)


def test_a_run_directory_that_is_a_link(victim):
    victim.do("rmdir", RUN)
    victim.do("install", "-d", "-m", "0755", "/run/other")
    victim.do("ln", "-s", "/run/other", RUN)
    done = pass_once(victim)
    assert done.returncode == 2 and "cannot use the directory /run/ipipdirect" in done.stderr
    assert victim.do("ls", "-A", "/run/other") == ""


def test_a_run_directory_of_everybody(victim):
    victim.do("chmod", "0777", RUN)
    done = pass_once(victim)
    assert done.returncode == 2 and "cannot use the directory /run/ipipdirect" in done.stderr
    assert victim.do("ls", "-A", RUN) == ""


# name in /run/netns: (how it is made, why it is skipped)
PLANTED = {
    "self": ("ln -s self self", "a loop of symbolic links"),
    "ping": ("ln -s pong ping; ln -s ping pong", "a loop of symbolic links"),
    "fifo": ("mkfifo fifo", "no namespace, not even a file"),
    "to-fifo": ("mkfifo /run/fifo; ln -s /run/fifo to-fifo", "no namespace, not even a file"),
    "zero": ("ln -s /dev/zero zero", "no namespace, not even a file"),
    "terminal": ("ln -s /dev/ptmx terminal", "no namespace, not even a file"),
    "node": ("mknod node c 1 5", "no namespace, not even a file"),
    "directory": ("ln -s / directory", "no namespace, not even a file"),
    "shadow": ("ln -s /etc/shadow shadow", "a plain file, no namespace"),
    "memory": ("ln -s /proc/1/mem memory", "a plain file, no namespace"),
    "mount": ("ln -s /proc/self/ns/mnt mount", ""),
    "user": ("touch user; mount --bind /proc/self/ns/user user", ""),
    "nowhere": ("ln -s /run/nowhere nowhere", ""),
}


def test_places_that_are_no_namespaces(sandbox):
    sandbox.do("mkdir", "/run/netns")
    for command, _reason in PLANTED.values():
        sandbox.do("sh", "-ec", f"cd /run/netns; {command}")
    sandbox.do("ip", "netns", "add", "good")
    sandbox.do("timeout", "60", "strace", "-f", "-qq", "-e", "trace=open,openat,openat2", "-o", "/run/trace",
               AGENT, "--once")
    document = sandbox.read_status()
    reasons = {file["path"].removeprefix("/run/netns/"): file["reason"] for file in document["skipped_files"]
               if file["path"].startswith("/run/netns/")}
    assert set(reasons) == set(PLANTED) | {"pong"}
    for name, (_command, reason) in PLANTED.items():
        assert reasons[name].startswith(reason) and reasons[name], (name, reasons[name])
    assert any("good" in netns["names"] for netns in document["namespaces"])
    # Looked at, not opened: opening a device may do something, and a plain file is nobody's business.
    trace = sandbox.do("cat", "/run/trace")
    for name in set(PLANTED) - {"mount", "user"}:
        opened = re.findall(rf'openat\(\d+, "{name}", (\S+)[,)]', trace)
        assert opened and all("O_PATH" in flags for flags in opened), (name, opened)
    assert not re.search(r'"(/etc/shadow|/dev/zero|/dev/ptmx|/run/fifo|/proc/1/mem)"', trace)
