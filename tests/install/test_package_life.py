# SPDX-License-Identifier: MIT
"""Runs in the VM, beside a systemd of its own (under-systemd): one package's life, in order, with three tunnels and traffic."""

import contextlib
import json
import os
import pathlib
import pwd
import signal
import subprocess
import sys

import pytest

if "PACKAGE" not in os.environ:
    pytest.skip("test_package.py runs it, in the VM", allow_module_level=True)

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/vm"))

import topology
import traffic
from drop_in import drop_in

PACKAGE, NEWER = os.environ["PACKAGE"], os.environ["NEWER"]
UNIT = "ipipdirect.service"
PINS = pathlib.Path("/sys/fs/bpf/ipipdirect")
RUN_DIR = pathlib.Path("/run/ipipdirect")
ETC = pathlib.Path("/etc/ipipdirect")
PER_SECOND = 50


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}"
    return done.stdout


def dpkg(*args):
    # Man pages are indexed for minutes by an emulated processor.
    return run("dpkg", "--no-triggers", *args)


def systemctl(*args):
    return run("systemctl", *args)


def show(name):
    return systemctl("show", "--value", "-p", name, UNIT).strip()


def is_active():
    return show("ActiveState") == "active"


def status():
    try:
        return json.loads((RUN_DIR / "status.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def is_mapped(world):
    document = status()
    mapped = {t["netns"] for t in document["tunnels"] if t["state"] == "mapped"} if document else set()
    return mapped == {server.netns for server in world.servers.values()}


def way(world):
    return traffic.way_of_an_answer(world, world.servers[1])


def egress_programs():
    """What hangs on the default interface, of whomever: filters, and links by their pins."""
    filters = run("tc", "filter", "show", "dev", "eth0", "egress") if "clsact" in run("tc", "qdisc", "show", "dev", "eth0") else ""
    return filters.strip()


def processes_of(uid):
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            if path.stat().st_uid == uid:
                found.append(path.name)
    return found


@pytest.fixture(scope="module")
def world():
    pathlib.Path("/usr/sbin/policy-rc.d").unlink(missing_ok=True)  # in this machine's memory only
    with traffic.three_servers() as made:
        yield made


def test_install_starts_it(world):
    assert way(world) == "tunnel"
    dpkg("-i", PACKAGE)
    assert is_active() and show("UnitFileState") == "enabled"
    topology.wait_for(lambda: is_mapped(world), "the tunnel in the map", 30)
    assert way(world) == "direct"
    account = pwd.getpwnam("ipipdirect")
    assert pathlib.Path("/proc", show("MainPID")).stat().st_uid == account.pw_uid
    assert json.loads(run("ipipdirectctl", "-j", "status"))["agent"]["state"] == "ok"


def test_reload_takes_the_configuration(world):
    (ETC / "config.json").write_text('{ "mode": "shadow" }\n', encoding="utf-8")
    systemctl("reload", UNIT)
    topology.wait_for(lambda: way(world) == "tunnel", "shadow", 30)
    (ETC / "config.json").write_text("{}\n", encoding="utf-8")
    run("ipipdirectctl", "reload")
    topology.wait_for(lambda: way(world) == "direct", "direct", 30)


CONFIG_REFUSED = "e4a97c31d0b84f6f9c25a8d3b6f07e14"  # ipipdirectd(8)


def journal(*matches):
    out = run("journalctl", "--quiet", "--output", "json", "--unit", UNIT, *matches)
    return [json.loads(line) for line in out.splitlines()]


def test_the_journal_has_what_it_says_with_fields(world):
    """journald's own: what it was told comes back by what one may look for."""
    systemctl("start", "systemd-journald.service")
    systemctl("restart", UNIT)
    (ETC / "config.json").write_text('{ "mode": "sideways" }\n', encoding="utf-8")
    systemctl("reload", UNIT)
    topology.wait_for(lambda: journal(f"MESSAGE_ID={CONFIG_REFUSED}"), "the refusal in the journal", 30)
    (entry,) = journal(f"MESSAGE_ID={CONFIG_REFUSED}")
    assert "mode: expected" in entry["MESSAGE"] and entry["PRIORITY"] == "3"
    assert (entry["_SYSTEMD_UNIT"], entry["SYSLOG_IDENTIFIER"]) == (UNIT, "ipipdirectd")
    assert entry["_PID"] == show("MainPID") and entry["CODE_FUNC"]
    row = topology.wait_for(lambda: journal(f"IPIPDIRECT_REMOTE={world.servers[1].remote}"), "its row in the journal", 30)[0]
    assert row["IPIPDIRECT_NETNS"] == world.servers[1].netns
    (ETC / "config.json").write_text("{}\n", encoding="utf-8")
    systemctl("reload", UNIT)


@contextlib.contextmanager
def another_agent_unnoticed(world):
    """What is done makes it another process, and no reply is lost, doubled or sent over the POP."""
    process = show("MainPID")
    with traffic.Unharmed(world, PER_SECOND) as replies:
        yield int(process)
        replies.more(1)
    assert is_active() and show("MainPID") != process


WHY = pathlib.Path("/run/why")  # the service last ended, in systemd's words


@pytest.fixture
def short_watchdog():
    with drop_in(systemctl, UNIT, "WatchdogSec=5", f"ExecStopPost=+/bin/sh -c 'echo $SERVICE_RESULT >{WHY}'"):
        systemctl("restart", UNIT)
        yield
    systemctl("restart", UNIT)


def test_hung_for_longer_than_the_watchdog(world, short_watchdog):
    restarts = int(show("NRestarts"))
    with another_agent_unnoticed(world) as process:
        os.kill(process, signal.SIGSTOP)
        topology.wait_for(lambda: int(show("NRestarts")) > restarts and is_active(), "a new process", 60)
    assert show("WatchdogUSec") == "5s" and int(show("NRestarts")) == restarts + 1
    assert WHY.read_text(encoding="ascii") == "watchdog\n"


def upgrade_under_traffic(world, package):
    with another_agent_unnoticed(world):
        dpkg("-i", package)


def test_upgrade_under_traffic(world):
    upgrade_under_traffic(world, NEWER)
    assert run("dpkg-query", "-W", "-f", "${Version}", "ipipdirect").endswith("+newer")
    assert (ETC / "config.json").read_text(encoding="utf-8") == "{}\n"


def test_downgrade_under_traffic(world):
    upgrade_under_traffic(world, PACKAGE)


def test_remove_stops_it_and_gives_the_tunnels_their_packets_back(world):
    said = dpkg("-r", "ipipdirect")
    assert not is_active() and not processes_of(pwd.getpwnam("ipipdirect").pw_uid)
    assert not PINS.exists() and "eth0" in said
    assert way(world) == "tunnel"
    assert (ETC / "config.json").exists()
    assert not pathlib.Path("/usr/sbin/ipipdirectd").exists()


def test_install_after_remove(world):
    dpkg("-i", PACKAGE)
    assert is_active()
    topology.wait_for(lambda: is_mapped(world), "the tunnel in the map", 30)
    assert way(world) == "direct"


def test_purge_leaves_nothing(world):
    dpkg("-P", "ipipdirect")
    assert way(world) == "tunnel"
    assert not is_active() and not processes_of(pwd.getpwnam("ipipdirect").pw_uid)
    assert [path for path in (PINS, RUN_DIR, ETC) if path.exists()] == []
    assert egress_programs() == ""
    left = [path for top in ("/etc", "/lib/systemd", "/usr/lib/systemd", "/usr/lib/sysusers.d", "/usr/sbin", "/usr/bin", "/var/lib/systemd", "/usr/share/man", "/usr/share/doc")
            for path in pathlib.Path(top).rglob("*ipipdirect*")]
    assert left == []
    assert subprocess.run(["dpkg-query", "-W", "ipipdirect"], capture_output=True, check=False).returncode == 1
