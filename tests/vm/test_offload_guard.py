# SPDX-License-Identifier: MIT
"""The guard against devices that segment IPIP by themselves: what it turns off, it gives back, and nothing else."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time

import pytest

import agent
import ethtool
import topology
import traffic

CONFIG = "/tmp/guard.json"
STATE = "/run/ipipdirect/offloads.json"
LOG = "/tmp/guard.log"

# BPF_F_ADJ_ROOM_DECAP_IPXIP4. The agent tries; that it tries well is seen here.
KERNEL_CLEARS = tuple(int(n) for n in os.uname().release.split(".")[:2]) >= (7, 1)


@pytest.fixture(scope="module")
def world():
    with topology.World("A") as made:
        yield made


@pytest.fixture
def device(world):
    """The default interface with the feature on, as drivers come; afterwards nothing of ours is left."""
    with contextlib.closing(ethtool.Device("eth0")) as opened:
        opened.set({ethtool.IPXIP4: True})
        with contextlib.suppress(FileNotFoundError):
            os.unlink(LOG)
        yield opened
    agent.detach()
    assert not os.path.exists(STATE)


def running(policy, *options):
    write({"offload_guard": policy} if policy else {})
    return agent.Agent("--config", CONFIG, *options, log=LOG)


def once(policy, *options):
    """One pass; what it says on stderr."""
    write({"offload_guard": policy} if policy else {})
    done = subprocess.run([*agent.FILTERED, "--once", "--config", CONFIG, *options], text=True, check=False,
                          stderr=subprocess.PIPE)
    assert done.returncode in (0, 4), done.stderr
    return done.stderr


def write(config):
    with open(CONFIG, "w", encoding="utf-8") as file:
        json.dump(config, file)


def log_lines(words):
    with open(LOG, encoding="utf-8") as file:
        return [line for line in file if words in line]


def guard(name="eth0"):
    (interface,) = [i for i in agent.status()["interfaces"] if i["name"] == name]
    return interface["offload_guard"]


def is_on(device):
    return device.is_on(ethtool.IPXIP4)


def expect_auto(device):
    reason = "kernel-clears" if KERNEL_CLEARS else "turned-off"
    assert guard() == {"policy": "auto", "active": not KERNEL_CLEARS, "reason": reason}
    assert is_on(device) == KERNEL_CLEARS


def reload(running_agent, policy):
    """Another policy. Passes are no sign of it: a feature that changes rings a bell of its own."""
    write({"offload_guard": policy})
    running_agent.process.send_signal(signal.SIGHUP)
    topology.wait_for(lambda: guard()["policy"] == policy, "a pass after SIGHUP")


def test_auto_is_the_default(device):
    with running(None):
        expect_auto(device)
    expect_auto(device)  # its end gives nothing back: the program is still there
    agent.detach()
    assert is_on(device)


def test_on(device):
    with running("on"):
        assert guard() == {"policy": "on", "active": True, "reason": "turned-off"}
        assert not is_on(device)
    agent.detach()
    assert is_on(device)


def test_off(device):
    with running("off"):
        assert guard() == {"policy": "off", "active": False, "reason": "policy-off"}
        assert is_on(device)


@pytest.mark.parametrize("policy", ["auto", "on", "off"])
def test_what_the_user_turned_off_stays_off(device, policy):
    device.set({ethtool.IPXIP4: False})
    with running(policy):
        expected = {"off": "policy-off", "auto": "kernel-clears" if KERNEL_CLEARS else "already-off"}
        assert guard() == {"policy": policy, "active": False, "reason": expected.get(policy, "already-off")}
    agent.detach()
    assert not is_on(device)


def strace(*options):
    return subprocess.run(["strace", "-qq", *options, agent.AGENT, "--once", "--config", CONFIG], check=False,
                          stderr=subprocess.DEVNULL).returncode


def traced(calls):
    """The system calls of one pass."""
    assert strace("-o", "/tmp/guard.strace", "-e", f"trace={calls}") == 0
    with open("/tmp/guard.strace", encoding="utf-8", errors="replace") as file:
        return file.read().split("\n")[:-1]


def test_it_is_off_before_the_program_is_there(device):
    """Of 3 events in their order: remembered, turned off, attached."""
    write({"offload_guard": "on"})
    lines = traced("renameat,ioctl,bpf,sendmsg,sendto")
    remembered = next(i for i, line in enumerate(lines) if "offloads.json" in line and "renameat" in line)
    last_change = max(i for i, line in enumerate(lines) if "SIOCETHTOOL" in line)
    attached = next(i for i, line in enumerate(lines) if "BPF_LINK_CREATE" in line and "= -1" not in line
                    or "RTM_NEWTFILTER" in line)
    assert remembered < last_change < attached
    assert not is_on(device)


def test_a_restart_keeps_it_and_detach_gives_it_back(device):
    with running("on"):
        pass
    with running("on"):
        assert guard()["active"] and not is_on(device)
    assert len(log_lines("turned tx-ipxip4-segmentation off")) == 1, "said once, not by each agent"
    agent.detach()
    assert is_on(device)


def test_an_agent_that_was_killed(device):
    first = running("on")
    first.kill()
    assert not is_on(device)
    with running("on"):
        assert guard() == {"policy": "on", "active": True, "reason": "turned-off"}
    agent.detach()
    assert is_on(device)


@pytest.mark.parametrize("was_on", [True, False], ids=["on before", "off before"])
def test_killed_at_any_instant(device, was_on):
    """As it enters each of the system calls that matter, from the first look at the device on. Whatever was done by
    then: detach, without an agent, leaves the feature as the user had it."""
    calls = "ioctl,write,renameat,unlinkat"
    write({"offload_guard": "on"})
    device.set({ethtool.IPXIP4: was_on})
    lines = traced(calls)
    agent.detach()
    first = next(i for i, line in enumerate(lines) if "SIOCETHTOOL" in line)
    was_seen_off = False
    for i, line in enumerate(lines[first:], first):
        call = line.split("(")[0]
        number = sum(other.startswith(call + "(") for other in lines[:i + 1])  # strace counts each call apart
        status = strace("-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={number}")
        assert status == -signal.SIGKILL, f"not killed at {line}"
        was_seen_off |= not is_on(device)
        agent.detach()
        assert is_on(device) == was_on, f"killed at {line}"
        assert not os.path.exists(STATE)
    assert was_seen_off


def test_killed_after_remembering(device):
    """The one instant at which the file says more than was done."""
    once("on")
    device.set({ethtool.IPXIP4: True})  # as if it had not been turned off yet
    agent.detach()
    assert is_on(device)
    once("on")
    device.set({ethtool.IPXIP4: True})
    once("on")
    assert not is_on(device)
    agent.detach()
    assert is_on(device)


def test_turned_on_again_by_somebody(device):
    """The next full pass corrects it and says so."""
    with running("on", "--resync-interval", "1"):
        assert not is_on(device)
        device.set({ethtool.IPXIP4: True})
        topology.wait_for(lambda: not is_on(device), "turned off again")
        topology.wait_for(lambda: log_lines("somebody turned"), "a line in the log")
        passes = agent.status()["agent"]["passes"]
        topology.wait_for(lambda: agent.status()["agent"]["passes"] > passes + 1, "two more passes")
        assert len(log_lines("somebody turned")) == 1
        assert guard()["active"]
    agent.detach()
    assert is_on(device)


def test_a_new_policy_by_reload(device, world):
    with running("on") as it:
        program = agent.status()["interfaces"][0]["program_id"]
        assert not is_on(device)
        reload(it, "off")
        assert is_on(device) and guard()["reason"] == "policy-off"
        assert not os.path.exists(STATE)
        reload(it, "on")
        assert not is_on(device) and guard()["reason"] == "turned-off"
        assert agent.status()["interfaces"][0]["program_id"] == program, "it was attached anew"
        assert traffic.way_of_a_reply(world, world.servers[1]) == "direct"


def test_an_interface_that_is_left(device):
    with contextlib.closing(ethtool.Device("v1")) as other:
        assert is_on(other)
        once("on", "--interface", "eth0", "--interface", "v1")
        assert not is_on(device) and not is_on(other)
        once("on", "--interface", "v1")
        assert is_on(device) and not is_on(other)
        assert guard("v1")["active"]
        agent.detach()
        assert is_on(device) and is_on(other)


class Watcher(threading.Thread):
    """When the agent says that it has left an interface, and when the device has its feature."""

    def __init__(self, device):
        super().__init__(daemon=True)
        self.device, self.left_at, self.on_at = device, None, None
        self.log = open(LOG, encoding="utf-8")
        self.log.seek(0, os.SEEK_END)

    def run(self):
        while not self.on_at:
            on = is_on(self.device)
            if "detached from interface" in self.log.read():
                self.left_at = time.monotonic()
            if on:
                self.on_at = time.monotonic()
            time.sleep(0.01)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        self.log.close()


def test_what_waits_in_the_queue_of_an_interface_that_is_left(device):
    """The device would cut it wrongly: it gets the feature back a second after the program went."""
    with contextlib.closing(ethtool.Device("v1")) as other:
        with running("on", "--interface", "eth0"):
            assert not is_on(device)
        with contextlib.ExitStack() as stack:
            watcher = stack.enter_context(Watcher(device))
            stack.enter_context(running("on", "--interface", "v1"))
            assert guard("v1")["active"] and "direct" not in topology.run("tc", "filter", "show", "dev", "eth0", "egress")
            topology.wait_for(lambda: is_on(device), "it is given back")
            watcher.join(30)
        assert 0.9 < watcher.on_at - watcher.left_at < 5
        agent.detach()
        assert is_on(other)


def test_an_interface_that_is_gone(device):
    topology.run("ip", "link", "add", "gone", "type", "veth", "peer", "name", "gone2")
    once("on", "--interface", "eth0", "--interface", "gone")
    topology.run("ip", "link", "delete", "gone")
    once("on", "--interface", "eth0")
    with open(STATE, encoding="utf-8") as file:
        assert [record["ifname"] for record in json.load(file)["turned_off"]] == ["eth0"]


def test_an_interface_without_the_feature(device):
    topology.run("modprobe", "tun")
    topology.run("ip", "tuntap", "add", "tun9", "mode", "tun")
    topology.run("ip", "link", "set", "tun9", "up")
    try:
        once("on", "--interface", "tun9")
        (interface,) = agent.status()["interfaces"]
        assert interface["attachment"] != "none" and interface["error"] is None
        assert interface["offload_guard"] == {"policy": "on", "active": False, "reason": "no-feature"}
        assert is_on(device)
    finally:
        topology.run("ip", "link", "delete", "tun9")


def test_a_device_that_cannot_be_made_safe_is_left_to_the_tunnel(device):
    """ipvlan has it fixed, and leaves the segments to the device below."""
    topology.run("ip", "link", "add", "ipv9", "link", "eth0", "type", "ipvlan")
    try:
        log = once("auto", "--interface", "ipv9")
        (interface,) = agent.status()["interfaces"]
        if KERNEL_CLEARS:
            assert interface["attachment"] != "none"
            assert interface["offload_guard"]["reason"] == "kernel-clears"
        else:
            assert interface["attachment"] == "none" and "cannot be turned off" in interface["error"]
            assert interface["offload_guard"]["reason"] == "fixed-on"
            assert "cannot attach to ipv9" in log
            assert agent.status()["agent"]["state"] == "degraded"
        once("off", "--interface", "ipv9")  # the user knows better
        assert agent.status()["interfaces"][0]["attachment"] != "none"
        once("auto", "--interface", "ipv9")  # and what is there goes when he does no more
        assert (agent.status()["interfaces"][0]["attachment"] != "none") == KERNEL_CLEARS
        pins = os.listdir(agent.PINS)
        assert any(pin.startswith(("link_", "prog_")) for pin in pins) == KERNEL_CLEARS
    finally:
        topology.run("ip", "link", "delete", "ipv9")


def test_dry_run_says_it_and_does_not_do_it(device):
    write({"offload_guard": "on"})
    out = topology.run(agent.AGENT, "--dry-run", "--config", CONFIG)
    assert "turn tx-ipxip4-segmentation off on eth0\n" in out
    assert is_on(device)


def test_a_broken_file_is_no_reason_to_stop(device):
    once("on")
    with open(STATE, "w", encoding="utf-8") as file:
        file.write("{")
    with running("on"):
        # Whose doing it was is forgotten, and what is off does no harm.
        assert guard() == {"policy": "on", "active": False, "reason": "already-off"}
    os.unlink(STATE)


def test_detach_says_what_it_gives_back(device):
    once("on")
    out = subprocess.run([agent.CTL, "-j", "detach"], check=True, stdout=subprocess.PIPE).stdout
    document = json.loads(out)
    assert [item["name"] for item in document["restored"]] == ["eth0"]
    assert is_on(device)
