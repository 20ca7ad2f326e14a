# SPDX-License-Identifier: MIT
"""attach, and detach beside a running agent: it leaves the hook, and stays off until it is told."""

import json
import re
import signal
import time

import pytest

from sandbox import AGENT, PINS

FILE = "/run/ipipdirect/placement.json"
FEATURE = "tx-ipxip4-segmentation"


@pytest.fixture
def agent(sandbox):
    sandbox.start_agent()
    return sandbox


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "too long"
        time.sleep(0.05)


def is_called_detached(place):
    done = place.ctl("status")
    called = "! detached by an operator" in done.stdout
    assert done.returncode == (4 if called else 0)
    return called


def attached(place):
    return [item["name"] for item in place.ctl_json("status")[1]["interfaces"] if item["attachment"] != "none"]


def test_there_and_back(agent, fits):
    assert agent.is_attached()
    index = agent.ifindex()
    done = agent.ctl("detach")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (f"detached from wan (interface index {index})\n"
                           "the agent stays off until 'ipipdirectctl attach'\n")
    assert not agent.is_attached()
    assert agent.exists(f"{PINS}/v1/remotes"), "for the time after"
    # A full pass leaves it so.
    assert agent.ctl("resync").returncode in (0, 4)
    assert not agent.is_attached()

    done = agent.ctl("attach")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"attached to wan \((tcx|clsact), program \d+\)\n", done.stdout)
    assert agent.is_attached() and not agent.exists(FILE)
    assert not is_called_detached(agent)

    status, document = agent.ctl_json("detach")
    assert (status, fits("ctl-detach", document)) == (0, {
        "schema_version": 1, "detached": [{"ifindex": index, "name": "wan"}], "restored": [], "pins_removed": False,
        "agent": "stays-off"})
    status, document = agent.ctl_json("attach")
    assert status == 0 and fits("ctl-attach", document)["complete"]
    assert [(item["name"], item["ifindex"], item["error"]) for item in document["interfaces"]] == [("wan", index, None)]


def test_twice_is_no_error(agent):
    assert agent.ctl("detach").returncode == 0
    done = agent.ctl("detach")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "nothing was attached\nthe agent stays off until 'ipipdirectctl attach'\n"
    assert agent.ctl("attach").stdout == agent.ctl("attach").stdout != ""


def test_everybody_says_so(agent, fits):
    assert agent.ctl("detach").returncode == 0
    done = agent.ctl("status")
    assert done.returncode == 4 and "! detached by an operator" in done.stdout and "'ipipdirectctl attach'" in done.stdout
    document = fits("status", agent.ctl_json("status")[1])
    assert document["agent"]["placement"] == {"detached": True, "interfaces": []}
    assert document["agent"]["state"] == "degraded"
    assert document["interfaces"] == []
    (check,) = [check for check in agent.ctl_json("doctor")[1]["checks"] if check["name"] == "attached"]
    assert (check["result"], check["remedy"]) == ("warn", "ipipdirectctl attach") and "operator" in check["text"]
    # The answers of a tunnel there might be: its remote is the gateway's own address.
    document["tunnels"] = [{
        "netns": "game1", "ifname": "tun0", "ifindex": 3, "up": True, "local": "198.18.0.2", "remote": "198.18.0.1",
        "state": "mapped", "reason": None, "reason_text": None, "rival": None, "mode": "direct", "mode_source": "default",
        "game_server_ips": ["198.18.0.1"], "game_server_ip_source": "auto:remote", "server_ports": [], "exempt": [],
        "rule": None}]
    agent.stop_agent(signal.SIGKILL)
    agent.write_status(document)
    holder = agent.hold_lock()
    document = agent.ctl_json("explain", "198.18.0.1")[1]
    (step,) = [step for step in fits("ctl-explain", document)["steps"] if step["step"] == "attached"]
    assert step["result"] == "fail" and "ipipdirectctl attach" in step["remedy"] and not document["direct"]
    holder.stdin.close()
    holder.wait(30)
    holder.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_it_outlives_the_agent(agent, number):
    assert agent.ctl("detach").returncode == 0
    agent.stop_agent(number)
    agent.start_agent()
    assert not agent.is_attached()
    assert is_called_detached(agent)
    assert agent.ctl("attach").returncode == 0
    agent.stop_agent(number)
    agent.start_agent()
    assert agent.is_attached() and not is_called_detached(agent)


def test_a_dry_run_says_where_it_would_attach_or_why_not(sandbox):
    def lines(*options):
        return sandbox.run(AGENT, "--dry-run", *options).stdout.splitlines()

    assert lines() == ["attach to wan"]
    assert lines("--interface", "nosuch") == ["cannot attach to nosuch: there is no such interface"]
    sandbox.do("ip", "route", "del", "default")
    assert lines() == ["no interface to attach to: the main routing table has no default route, and 'interfaces' names none"]
    sandbox.do("ip", "route", "add", "default", "via", "198.18.0.1", "table", "100")
    assert lines()[0].startswith("no interface to attach to: the main "), "only that one is looked at"
    sandbox.start_agent()
    assert sandbox.read_status()["agent"]["problems"] == lines()


def test_a_start_while_detached_takes_off_what_hangs_there(sandbox):
    sandbox.once()
    assert sandbox.is_attached()
    sandbox.write(FILE, '{"version": 1, "detached": true, "interfaces": []}')
    assert "attach to" not in sandbox.run(AGENT, "--dry-run").stdout
    sandbox.start_agent()
    assert not sandbox.is_attached()


def test_one_more_interface(agent, fits):
    status, document = agent.ctl_json("attach", "gateway")
    assert status == 0
    assert sorted(item["name"] for item in fits("ctl-attach", document)["interfaces"]) == ["gateway", "wan"]
    assert agent.is_attached() and agent.is_attached("gateway")
    document = fits("status", agent.ctl_json("status")[1])
    assert document["agent"]["placement"] == {"detached": False, "interfaces": ["gateway"]}
    agent.stop_agent()
    agent.start_agent()
    assert sorted(attached(agent)) == ["gateway", "wan"]
    # Without a name: as configured.
    assert agent.ctl("attach").returncode == 0
    assert attached(agent) == ["wan"] and not agent.is_attached("gateway")


def test_one_interface_alone_after_a_detach(agent):
    assert agent.ctl("detach").returncode == 0
    assert agent.ctl("attach", "gateway").returncode == 0
    assert agent.is_attached("gateway") and not agent.is_attached()
    done = agent.ctl("status")
    assert done.returncode == 4 and "packets of other interfaces stay" in " ".join(done.stdout.split())
    assert agent.ctl("detach").stdout.startswith("detached from gateway ")
    assert not agent.is_attached("gateway")


def test_an_interface_that_goes_is_reported_and_taken_again(agent):
    assert agent.ctl("attach", "gateway").returncode == 0
    assert agent.ctl("attach", "wan").returncode == 0, "there already"
    agent.do("ip", "link", "set", "gateway", "name", "other")
    wait_for(lambda: "gateway: not attached: there is no such interface" in agent.ctl("status").stdout)
    assert agent.ctl("attach", "wan").returncode == 4
    agent.do("ip", "link", "set", "other", "name", "gateway")
    wait_for(lambda: sorted(attached(agent)) == ["gateway", "wan"])


@pytest.mark.parametrize("name", ["nothing", "x" * 16, "x" * 300, "", b"\xff\xfe"], ids=ascii)
def test_an_interface_that_is_not_there(agent, is_error, name):
    status, document = agent.ctl_json("attach", name)
    assert status == 2
    is_error(document, "not-found")
    assert not agent.exists(FILE) and agent.is_attached()


def test_too_many_interfaces(agent, is_error):
    for number in range(17):
        if number % 2 == 0:
            agent.do("ip", "link", "add", f"many{number}", "type", "veth", "peer", "name", f"many{number + 1}")
        status, document = agent.ctl_json("attach", f"many{number}")
        assert status == (0 if number < 16 else 2)
    is_error(document, "failed")
    assert agent.ctl("detach").returncode == 0
    assert not agent.is_attached("wan") and not agent.is_attached("many0")


def test_without_an_agent(sandbox, is_error):
    status, document = sandbox.ctl_json("attach")
    assert status == 3
    is_error(document, "agent-unreachable")


def test_what_the_guard_turned_off_is_given_back(sandbox, fits):
    sandbox.do("ethtool", "-K", "wan", FEATURE, "on")
    sandbox.write("/run/guard.json", '{"offload_guard": "on"}')
    sandbox.start_agent("--config", "/run/guard.json")
    assert f"{FEATURE}: off" in sandbox.do("ethtool", "-k", "wan")
    _status, document = sandbox.ctl_json("detach")
    assert fits("ctl-detach", document)["restored"] == [{"ifindex": sandbox.ifindex(), "name": "wan"}]
    assert f"{FEATURE}: on" in sandbox.do("ethtool", "-k", "wan")
    assert sandbox.ctl("attach").returncode == 0
    assert f"{FEATURE}: off" in sandbox.do("ethtool", "-k", "wan")
    assert f"turned {FEATURE} on again on wan\n" in sandbox.ctl("detach").stdout


def test_force_removes_the_pins_too_and_attach_makes_them_anew(agent, fits):
    agent.add_row("203.0.113.10", "203.0.113.10", slot=1)
    done = agent.ctl("detach", "--force")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (f"detached from wan (interface index {agent.ifindex()})\n"
                           f"removed the pinned maps below {PINS}\n"
                           "the agent stays off until 'ipipdirectctl attach'\n")
    assert agent.do("ls", PINS) == "", "an agent of its own user could not make the directory"
    assert not agent.is_attached()
    assert agent.ctl("resync").returncode in (0, 4) and not agent.is_attached()

    assert agent.ctl("attach").returncode == 0
    assert agent.is_attached() and agent.exists(f"{PINS}/v1/remotes")
    assert not is_called_detached(agent) and agent.ctl("map", "dump").returncode == 0
    status, document = agent.ctl_json("detach", "--force")
    assert (status, fits("ctl-detach", document)["agent"], document["pins_removed"]) == (0, "stays-off", True)
    agent.stop_agent()
    assert agent.ctl("detach").returncode == 0
    assert not agent.exists(PINS)


@pytest.mark.parametrize("how", ["killed", "by itself"])
def test_one_that_ended_leaves_it_to_the_next(sandbox, fits, how):
    """As the service manager would start it, in a second: nobody is there to be told."""
    if how == "killed":
        sandbox.start_agent()
        sandbox.stop_agent(signal.SIGKILL)
    else:
        # That of its event loop, which is fatal.
        sandbox.start_agent(command=["strace", "-f", "-qq", "-o", "/dev/null", "-e",
                                     "inject=epoll_wait,epoll_pwait,epoll_pwait2:error=EIO:when=5+", AGENT])
        agent, sandbox.agent = sandbox.agent, None
        assert agent.wait(60) == 2
    done = sandbox.ctl("detach")
    assert (done.returncode, done.stderr) == (0, "")
    assert "detached from wan" in done.stdout and "stays off until 'ipipdirectctl attach'" in done.stdout
    assert not sandbox.is_attached() and not sandbox.exists(PINS)
    status, document = sandbox.ctl_json("detach")
    assert (status, fits("ctl-detach", document)["agent"]) == (0, "stays-off")
    sandbox.start_agent()
    assert not sandbox.is_attached() and is_called_detached(sandbox)
    assert sandbox.ctl("attach").returncode == 0
    assert sandbox.is_attached()
    # One that was stopped is another matter: somebody will start it.
    sandbox.stop_agent()
    status, document = sandbox.ctl_json("detach")
    assert (status, document["agent"]) == (0, "not-running")
    sandbox.start_agent()
    assert sandbox.is_attached()


def test_one_interface_under_two_names(agent):
    agent.do("ip", "link", "property", "add", "dev", "wan", "altname", "enp0s3")
    assert agent.ctl("attach", "enp0s3").returncode == 0
    (interface,) = agent.read_status()["interfaces"]
    assert (interface["name"], interface["next_hop"]) == ("wan", "shortcut")
    assert agent.ctl("detach").returncode == 0
    assert not agent.is_attached()
    assert agent.ctl("attach", "enp0s3").returncode == 0
    assert agent.read_status()["agent"]["placement"] == {"detached": True, "interfaces": ["wan"]}
    assert agent.is_attached() and "still attached" not in agent.ctl("status").stdout


def test_an_interface_that_is_configured_twice(sandbox):
    sandbox.do("ip", "link", "property", "add", "dev", "wan", "altname", "enp0s3")
    sandbox.start_agent("--interface", "wan", "--interface", "enp0s3", "--interface", "wan", "--interface", "gone", "--interface", "gone")
    assert [item["name"] for item in sandbox.read_status()["interfaces"]] == ["wan", "gone"]


def test_an_agent_that_cannot_be_told(sandbox, is_error, fits):
    """Its lock is held, and its socket is not there."""
    sandbox.once()
    holder = sandbox.hold_lock()
    status, document = sandbox.ctl_json("detach")
    assert status == 3
    is_error(document, "agent-unreachable")
    assert sandbox.is_attached()
    status, document = sandbox.ctl_json("detach", "--force")
    assert (status, fits("ctl-detach", document)["agent"]) == (4, "unreachable")
    assert not sandbox.is_attached()
    assert "may attach again" in sandbox.ctl("detach", "--force").stderr
    holder.stdin.close()
    holder.wait(30)
    holder.stdout.close()


def test_attach_mends_what_somebody_removed(agent):
    agent.do("rm", "-r", PINS)
    assert agent.ctl("attach").returncode == 0
    assert agent.is_attached() and agent.exists(f"{PINS}/v1/remotes")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2, "detached": false, "interfaces": []}',
                                  '{"version": 1, "detached": 0, "interfaces": []}',
                                  '{"version": 1, "detached": false, "interfaces": [""]}'])
def test_a_file_that_nobody_understands_leaves_packets_on_the_tunnel(sandbox, text):
    sandbox.write(FILE, text)
    sandbox.start_agent()
    assert not sandbox.is_attached()
    assert sandbox.read_status()["agent"]["placement"] == {"detached": True, "interfaces": []}
    assert sandbox.ctl("attach").returncode == 0
    assert sandbox.is_attached() and not sandbox.exists(FILE)


def test_nothing_is_promised_that_cannot_be_kept(agent, is_error):
    """The file cannot be written: nothing changes."""
    agent.do("mkdir", "-p", f"{FILE}/full")
    status, document = agent.ctl_json("detach")
    assert status == 2
    is_error(document, "failed")
    assert agent.is_attached()


def test_only_root_may(agent, is_error):
    agent.do("chmod", "666", "/run/ipipdirect/io.ipipdirect")
    agent.do("chmod", "644", "/run/ipipdirect/lock")
    for command in (["attach"], ["attach", "gateway"], ["detach"]):
        done = agent.ctl_as_nobody("-j", *command)
        assert done.returncode == 2
        is_error(json.loads(done.stdout), "permission")
    assert agent.is_attached() and not agent.exists(FILE)
