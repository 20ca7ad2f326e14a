# SPDX-License-Identifier: MIT
"""status, netns and tunnels: with an agent and without, true and false files, narrow and wide, hostile names."""

import copy
import json
import re
import signal
import time

import pytest

from sandbox import CTL, PINS, n_possible_cpus

HOSTILE = "\033]0;evil\a\033[31mred\x9b2J\u202egnp.exe\x7f\n"
ESCAPED = r"\x1b]0;evil\x07\x1b[31mred\xc2\x9b2J\xe2\x80\xaegnp.exe\x7f\x0a"
COMMANDS = ["status", "netns", "tunnels"]


@pytest.fixture
def running(sandbox):
    """A sandbox in which something holds the agent's lock."""
    holder = sandbox.hold_lock()
    yield sandbox
    holder.stdin.close()
    holder.wait(30)
    holder.stdout.close()


def well(status):
    """The document of an agent that has no problem."""
    status["agent"].update(state="ok", problems=[])
    return status


def assert_printable(text):
    assert re.fullmatch(r"[\x20-\x7e\n]*", text), repr(text)


# The real agent.


def test_of_the_real_agent(sandbox, fits):
    sandbox.start_agent()
    # What its own set-up still rings for makes another pass.
    deadline = time.monotonic() + 30
    while True:
        before = sandbox.read_status()
        status, document = sandbox.ctl_json("status")
        in_file = sandbox.read_status()
        if status == 0 and before == in_file:
            break
        assert time.monotonic() < deadline
    assert fits("status", document)["view"]["agent_running"] is True
    assert document["view"]["counters"] == "live"
    assert (document["agent"]["state"], document["agent"]["problems"]) == ("ok", [])
    assert [interface["name"] for interface in document["interfaces"]] == ["wan"]
    del document["view"]
    assert list(document) == list(in_file) and document == in_file

    done = sandbox.ctl("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"Agent +running, pid \d+, version \S+, up \d+s, synced \d+s ago\nState +ok\n", done.stdout)
    assert re.search(r"^Interfaces +wan: attached \((tcx|clsact), program \d+\)$", done.stdout, re.M)
    assert "(live, from the pinned maps)" in done.stdout

    status, document = sandbox.ctl_json("tunnels")
    assert status == 0
    assert fits("ctl-tunnels", document)["tunnels"] == []
    assert sandbox.ctl("tunnels").returncode == 0

    status, document = sandbox.ctl_json("netns")
    assert status == 0
    (alone,) = fits("ctl-netns", document)["namespaces"]
    assert alone["found"] == ["the agent's own"], "nothing of the machine is seen here"
    assert document["discovery"]["complete"] is True
    assert sandbox.ctl("netns").returncode == 0


def test_of_a_killed_agent(sandbox, fits):
    """The lock goes with the process; everything that can still be had is shown."""
    sandbox.start_agent()
    sandbox.stop_agent(signal.SIGKILL)
    status, document = sandbox.ctl_json("status")
    assert status == 3
    fits("status", document)
    assert (document["agent"]["state"], document["view"]["agent_running"]) == ("stopped", False)
    assert document["view"]["counters"] == "live"

    done = sandbox.ctl("status")
    assert done.returncode == 3
    assert re.match(r"Agent +not running, last status \d+s ago; what is attached goes on forwarding\n", done.stdout)
    assert "wan: attached" in done.stdout and "(live, from the pinned maps)" in done.stdout
    assert done.stderr == ("ipipdirectctl: the agent is not running\n"
                           "hint: start it: systemctl start ipipdirect\n")

    done = sandbox.ctl("tunnels")
    assert done.returncode == 3 and done.stdout.startswith("NETNS")
    assert "the agent is not running: this is what it saw" in done.stderr
    assert sandbox.ctl_json("tunnels")[0] == 3


def test_after_detach(sandbox, fits):
    sandbox.once()
    (before,) = fits("status", sandbox.ctl_json("status")[1])["interfaces"]
    assert before["attachment"] != "none" and before["program_id"] and not before["error"], "it goes on without an agent"
    sandbox.do(CTL, "detach")
    code, document = sandbox.ctl_json("status")
    assert code == 3 and fits("status", document)["interfaces"] == [
        {**before, "attachment": "none", "program_id": None, "next_hop": None, "error": "detached since"}]
    done = sandbox.ctl("status")
    assert done.returncode == 3
    assert "nothing is attached" in done.stdout and "wan: detached since" in done.stdout
    assert "of the status file" in done.stdout
    done = sandbox.ctl("-br", "status")
    assert done.returncode == 3 and done.stdout.startswith("stopped  0/1 attached  ")


def test_after_detach_gave_the_feature_back(sandbox):
    sandbox.do("ethtool", "-K", "wan", "tx-ipxip4-segmentation", "on")
    sandbox.write("/run/guard.json", '{"offload_guard": "on"}')
    sandbox.once("--config", "/run/guard.json")
    assert "tx-ipxip4-segmentation turned" in sandbox.ctl("status").stdout
    assert sandbox.ctl_json("status")[1]["interfaces"][0]["offload_guard"]["active"] is True
    assert "turned tx-ipxip4-segmentation on again on wan" in sandbox.do(CTL, "detach")
    assert "tx-ipxip4" not in sandbox.ctl("status").stdout
    assert sandbox.ctl_json("status")[1]["interfaces"][0]["offload_guard"]["active"] is False


@pytest.mark.parametrize("nobody", [False, True], ids=["root", "nobody"])
def test_of_a_dead_agent_whose_interface_is_another_now(sandbox, nobody):
    """Its pin is still there, and means nothing."""
    sandbox.start_agent()
    sandbox.stop_agent(signal.SIGKILL)
    ask = sandbox.ctl_as_nobody if nobody else sandbox.ctl
    sandbox.do("chmod", "-R", "a+rX", "/run/ipipdirect", PINS)
    assert "wan: attached" in ask("status").stdout
    sandbox.do("ip", "link", "del", "wan")
    sandbox.do("ip", "link", "add", "wan", "type", "veth", "peer", "name", "gateway")
    done = ask("status")
    assert done.returncode == 3
    assert "nothing is attached" in done.stdout and "wan: detached since" in done.stdout
    assert ask("-br", "status").stdout.startswith("stopped  0/1 attached  ")
    (interface,) = json.loads(ask("-j", "status").stdout)["interfaces"]
    assert (interface["attachment"], interface["error"]) == ("none", "detached since")
    assert 'ipipdirect_interface_attached{interface="wan"} 0' in ask("metrics").stdout


def test_of_a_dead_agent_that_could_not_write_its_status(sandbox):
    """The former one's file names a program that was replaced in place."""
    sandbox.start_agent()
    sandbox.stop_agent(signal.SIGKILL)
    former = sandbox.read_status()
    sandbox.start_agent()
    sandbox.stop_agent(signal.SIGKILL)
    assert sandbox.read_status()["interfaces"][0]["program_id"] != former["interfaces"][0]["program_id"]
    sandbox.write_status(former)
    assert "what is attached goes on forwarding" in sandbox.ctl("status").stdout
    assert 'ipipdirect_interface_attached{interface="wan"} 1' in sandbox.ctl("metrics").stdout
    # What a filter is on can only be told from the agent's namespace.
    former["interfaces"][0]["attachment"] = "clsact"
    sandbox.write_status(former)
    sandbox.do("ip", "netns", "add", "game1")
    done = sandbox.run("nsenter", "--net=/run/netns/game1", CTL, "metrics")
    assert "ipipdirect_interface_attached{" not in done.stdout and "ipipdirect_agent_up 0" in done.stdout


def test_of_an_agent_that_hangs(sandbox, fits, is_error):
    sandbox.start_agent("--resync-interval", "1")
    sandbox.agent.send_signal(signal.SIGSTOP)
    assert sandbox.ctl("status").returncode == 0
    sandbox.do("touch", "-d", "-20 seconds", "/run/ipipdirect/status.json")
    done = sandbox.ctl("status")
    assert done.returncode == 4 and re.search(r"^State +stale: this is how it was 2\ds ago, see", done.stdout, re.M)
    done = sandbox.ctl("-br", "status")
    assert done.returncode == 4 and done.stdout.startswith("stale  1/1 attached  ")
    code, document = sandbox.ctl_json("status")
    assert (code, fits("status", document)["agent"]["state"]) == (4, "stale")
    assert "ipipdirect_agent_degraded 1" in sandbox.ctl("metrics").stdout
    status, document = sandbox.ctl_json("resync")
    assert status == 3
    is_error(document, "timeout")
    sandbox.agent.send_signal(signal.SIGCONT)


def test_of_a_dead_agent_without_a_file_shows_the_pins(sandbox, is_error):
    sandbox.once()
    sandbox.do("rm", "/run/ipipdirect/status.json")
    sandbox.add_row("203.0.113.10", "203.0.113.10", slot=1)
    sandbox.count(1, packets=5, size=5000)
    done = sandbox.ctl("status")
    assert done.returncode == 3
    assert re.search(r"^Interfaces +wan: attached", done.stdout, re.M)
    assert re.search(r"^Map +1 remotes, 0 inner sources; room for 16384 of each$", done.stdout, re.M)
    assert re.search(rf"^Packets +{5 * n_possible_cpus()}  direct", done.stdout, re.M)
    assert "has left no /run/ipipdirect/status.json" in done.stderr
    status, document = sandbox.ctl_json("status")
    assert status == 3
    is_error(document, "agent-unreachable")


@pytest.mark.parametrize("command", COMMANDS)
def test_where_nothing_ever_was(sandbox, is_error, command):
    done = sandbox.ctl(command)
    assert done.returncode == 3 and "is not running" in done.stderr
    status, document = sandbox.ctl_json(command)
    assert status == 3
    is_error(document, "agent-unreachable")


# What the file says.


def test_problems_are_exit_status_4(running, status, fits):
    running.write_status(status)
    code, document = running.ctl_json("status")
    assert code == 4
    assert fits("status", document)["agent"]["state"] == "degraded"
    assert document["view"]["counters"] == "file", "there are no maps"
    done = running.ctl("status")
    assert (done.returncode, done.stderr) == (4, "")
    for problem in status["agent"]["problems"]:
        assert f"! {problem}\n" in done.stdout


def test_no_problem_is_exit_status_0(running, status):
    running.write_status(well(status))
    assert running.ctl("status").returncode == 0
    assert running.ctl_json("status")[0] == 0


def test_tunnels_are_a_list_and_conflicts_no_failure(running, status, fits):
    running.write_status(status)
    code, document = running.ctl_json("tunnels")
    assert code == 0
    assert fits("ctl-tunnels", document)["tunnels"] == status["tunnels"]
    done = running.ctl("tunnels")
    assert (done.returncode, done.stderr) == (0, "")
    words = [line.split() for line in done.stdout.splitlines()]
    assert ["minecraft", "tun0", "up", "198.18.0.2", "203.0.113.10", "203.0.113.10", "direct", "auto:remote"] in words
    assert ["198.51.100.21"] in words, "a second address has a line of its own"
    assert ["csgo", "tun0", "up", "198.18.0.2", "192.0.2.1", "198.51.100.30", "shadow", "auto:tunnel-address"] in words
    assert ["rust", "fou0", "up", "198.18.0.2", "203.0.113.40", "-", "skipped", "encapsulation"] in words
    assert done.stdout.endswith(
        "conflict: copy-of-csgo tun0: another namespace held its game server IP first (csgo tun0)\n")


def test_namespaces_are_a_list(running, status, fits):
    host, minecraft = status["namespaces"][:2]
    host["found"].append("file /run/docker/netns/default")
    minecraft.update(names=["docker", "minecraft"], resident="minecraft.service",
                     found=["file /run/docker/netns/docker", "file /run/netns/minecraft", "process 77"])
    status["discovery"].update(more_namespaces=3, more_skipped_files=5)
    running.write_status(status)
    code, document = running.ctl_json("netns")
    assert code == 0
    fits("ctl-netns", document)
    for key in ("namespaces", "skipped_files", "discovery"):
        assert document[key] == status[key]
    done = running.ctl("netns")
    assert done.returncode == 0
    lines = [re.split(" {2,}", line.strip()) for line in done.stdout.splitlines()]
    assert lines[0] == ["NAME", "RESIDENT", "NSID", "OWNER", "TUNNELS", "STATE", "FOUND"]
    assert lines[1:6] == [
        ["host", "-", "-", "host", "1", "ok", "the agent's own"], ["file /run/docker/netns/default"],
        ["minecraft", "minecraft.service", "1", "host", "1", "ok", "file /run/docker/netns/docker"],
        ["file /run/netns/minecraft"], ["process 77"]]
    assert ["broken.service", "broken.service", "7", "other", "0", "Permission denied", "process 1234"] in lines
    assert done.stdout.endswith("skipped: /run/netns/notes.txt: not a network namespace\n")
    assert done.stderr == ("ipipdirectctl: 3 more namespaces are not looked at\n"
                           "ipipdirectctl: 5 more files were skipped\n")


def test_namespaces_of_an_agent_that_did_not_say_where(running, status):
    """Within a version fields are added: a file of an older agent has fewer."""
    del status["discovery"]
    for netns in status["namespaces"]:
        for key in ("found", "id", "owner", "resident", "tunnels", "skipped"):
            del netns[key]
    running.write_status(status)
    assert running.ctl("netns").returncode == 0
    code, document = running.ctl_json("netns")
    assert (code, document["discovery"]) == (0, None)


def test_tunnels_are_counted_by_state(running, status):
    """But for the module's own device, of which each namespace has one."""
    assert [tunnel["ifname"] for tunnel in status["tunnels"] if tunnel["reason"] == "fallback-device"] == ["tunl0"]
    running.write_status(status)
    assert re.search(r"^Tunnels +7 in 8 namespaces: 3 direct, 1 shadow, 1 in conflict, 2 skipped$",
                     running.ctl("status").stdout, re.M)


def test_modes_set_by_hand_are_shown(running, status):
    running.write_status(status)
    assert re.search(r"^Set by hand minecraft tun0: direct, until a reload$", running.ctl("status").stdout, re.M)
    status["mode_overrides"] = [{"netns": f"{HOSTILE}{i}", "ifname": "tun0", "mode": "tunnel", "until_reload": False}
                                for i in range(9)]
    running.write_status(status)
    lines = running.ctl("status").stdout.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("Set by hand "))
    assert lines[first + 3] == f"            {ESCAPED}3 tun0: tunnel" and not lines[first + 5].startswith(" ")
    assert lines[first + 4] == "            and 5 more: ipipdirectctl -j status"
    status["mode_overrides"] = []
    running.write_status(status)
    assert "Set by hand" not in running.ctl("status").stdout


def test_only_reasons_that_occurred_are_shown(running, status):
    running.write_status(status)
    output = running.ctl("status").stdout
    assert re.search(r"^ +7  kept: no-entry$", output, re.M) and re.search(r"^ +21  kept: no-next-hop$", output, re.M)
    assert "outer-options" not in output and "write-failed" not in output
    status["entries"][0]["counters"]["kept"]["write-failed"] = 3
    running.write_status(status)
    assert re.search(r"^ +3  dropped: write-failed$", running.ctl("status").stdout, re.M)


def test_live_counters_are_merged(sandbox, status, fits):
    """The rows of the file are those of the maps: the document tells what is counted now."""
    sandbox.once()
    document = sandbox.read_status()
    document["entries"] = [entry for entry in status["entries"]
                           if entry["remote"] == "192.0.2.1" and not entry["inner_source"]
                           or entry["inner_source"] == "198.51.100.30"]
    assert len(document["entries"]) == 2
    sandbox.add_row("192.0.2.1", None, slot=1, flags=1)
    sandbox.write_status(document)
    assert sandbox.ctl_json("status")[1]["view"]["counters"] == "file", "a row is missing"
    sandbox.add_row("192.0.2.1", "198.51.100.30", slot=2, inner_source="198.51.100.30")
    sandbox.count(0, kept={0: 9})
    sandbox.count(2, packets=10, size=1000, kept={11: 4})
    merged = fits("status", sandbox.ctl_json("status")[1])
    assert merged["view"]["counters"] == "live"
    assert merged["map"]["no_entry_packets"] == 9
    entry = next(entry for entry in merged["entries"] if entry["inner_source"])
    assert entry["counters"]["direct_packets"] == 10 * n_possible_cpus()
    assert entry["counters"]["kept"]["no-next-hop"] == 4
    assert entry["tunnel"], "the rest is that of the file"
    output = sandbox.ctl("status").stdout
    assert re.search(rf"^Packets +{10 * n_possible_cpus()}  direct", output, re.M)
    assert re.search(r"^ +9  kept: no-entry$", output, re.M)


def test_maps_that_may_not_be_read_leave_the_counters_of_the_file(running, status):
    running.do("mkdir", "-m", "700", PINS)
    running.write_status(well(status))
    running.do("chmod", "644", "/run/ipipdirect/status.json", "/run/ipipdirect/lock")
    done = running.ctl_as_nobody("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert "28000  direct" in done.stdout and "(of the status file, " in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_may_not_be_read(running, status, is_error, command):
    running.write_status(status)
    running.do("chmod", "640", "/run/ipipdirect/status.json", "/run/ipipdirect/lock")
    done = running.ctl_as_nobody(command)
    assert done.returncode == 2
    assert "run as root or as a member of group ipipdirect" in done.stderr
    done = running.ctl_as_nobody("-j", command)
    is_error(json.loads(done.stdout), "permission")


def test_an_agent_that_has_not_written_yet(running, is_error):
    code, document = running.ctl_json("status")
    assert code == 2
    is_error(document, "no-status")
    assert "has not written its status yet" in running.ctl("status").stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_status_file_option_asks_nobody(sandbox, status, command):
    sandbox.write("/run/elsewhere.json", json.dumps(well(status)))
    done = sandbox.ctl(command, "--status-file", "/run/elsewhere.json")
    assert (done.returncode, done.stderr) == (0, "")
    code, document = sandbox.ctl_json("--status-file=/run/elsewhere.json", command)
    assert (code, document["view"]["agent_running"]) == (0, None)


@pytest.mark.parametrize("command", COMMANDS)
def test_status_file_that_is_not_there(sandbox, is_error, command):
    code, document = sandbox.ctl_json(command, "--status-file", "/run/nothing")
    assert code == 2
    is_error(document, "not-found")


# What comes from outside.


def hostile(document):
    for tunnel in document["tunnels"]:
        tunnel["netns"] = tunnel["ifname"] = HOSTILE
        if tunnel["rival"]:
            tunnel["rival"] = {"netns": HOSTILE, "ifname": HOSTILE}
    for netns in document["namespaces"]:
        netns.update(label=HOSTILE, names=[HOSTILE], found=[HOSTILE, HOSTILE], resident=HOSTILE, error=HOSTILE)
    for file in document["skipped_files"]:
        file.update(path=HOSTILE, reason=HOSTILE)
    for interface in document["interfaces"]:
        interface["name"] = HOSTILE
    document["agent"]["problems"] = [HOSTILE]
    return document


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", ["", "80", "200"])
def test_hostile_names_do_nothing(running, status, command, columns):
    running.write_status(hostile(status))
    done = running.ctl(command, env={"COLUMNS": columns} if columns else {})
    assert_printable(done.stdout + done.stderr)
    if not columns:
        assert ESCAPED in done.stdout
    code, output = running.ctl_on_terminal(command, env={"NO_COLOR": "1"})
    assert code == done.returncode and b"\033" not in output
    for option in ("-j", "-p"):
        done = running.ctl(command, option)
        assert_printable(done.stdout)
        assert HOSTILE in strings(json.loads(done.stdout)), "a program gets the name as it is"


def strings(value):
    """All of a document."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", "{}", '{"schema_version": 1}', '{"schema_version": "1"}', '{"schema_version": 1} x',
    '{"schema_version": 1, "schema_version": 1}', "[" * 100000, '{"schema_version": 1, "agent": [], "map": []}',
], ids=lambda text: text[:40])
def test_a_file_that_is_no_status(running, is_error, text):
    running.write("/run/ipipdirect/status.json", text)
    for command in COMMANDS:
        code, document = running.ctl_json(command)
        assert code == 2
        is_error(document, "status-invalid")


def test_a_status_of_another_version(running, status, is_error):
    status["schema_version"] = 2
    running.write_status(status)
    code, document = running.ctl_json("status")
    assert code == 2
    is_error(document, "status-invalid")
    assert "schema version 2" in document["error"]["message"]


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, path + (key,))


def replaced(document, path, value):
    document = copy.deepcopy(document)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


def test_values_of_the_wrong_type_break_nothing(sandbox, status):
    """Each place of a small document, one at a time: an error or a table, never a crash."""
    for name in ("tunnels", "entries", "interfaces", "namespaces", "skipped_files"):
        status[name] = status[name][4:5] or status[name][:1]
    texts = [json.dumps(replaced(status, path, value))
             for path in places(status) if path for value in (None, -1, "x", [], {})]
    sandbox.write("/run/wrong.json", json.dumps(texts))
    # A process each: the commands take turns.
    done = sandbox.run("/usr/bin/python3", "-c", f"""
import json, subprocess
commands = (["status"], ["netns"], ["tunnels"], ["status", "-j"])
for number, text in enumerate(json.load(open("/run/wrong.json"))):
    with open("/run/wrong", "w") as file:
        file.write(text)
    command = ["{CTL}", *commands[number % 4], "--status-file", "/run/wrong"]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode in (0, 2, 4), (command, text, done)
""", timeout=300)
    assert done.returncode == 0, done.stderr


def test_a_fifo_does_not_hang(running):
    running.do("mkfifo", "/run/ipipdirect/status.json")
    assert running.ctl("status", timeout=10).returncode == 2


# Looks.


@pytest.mark.parametrize("command", COMMANDS)
def test_fits_80_columns(running, status, command):
    for netns in status["namespaces"]:
        netns.update(label="cni-0123abcd-4567-89ab-cdef-0123456789ab", resident="docker-0123456789ab",
                     found=["file /run/netns/cni-0123abcd-4567-89ab-cdef-0123456789ab"])
    for tunnel in status["tunnels"]:
        tunnel["netns"] = "cni-0123abcd-4567-89ab-cdef-0123456789ab"
        tunnel["remote"] = "255.255.255.255"
        tunnel["game_server_ips"] = ["255.255.255.255"]
    status["agent"]["pid"] = 4194303
    running.write_status(status)
    lines = running.ctl(command, env={"COLUMNS": "80"}).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    wide = running.ctl(command, env={"COLUMNS": "200"}).stdout
    assert "~" not in wide
    if command == "tunnels":
        assert "cni-0123abc~" in "\n".join(lines) and "cni-0123abcd-4567-89ab-cdef-0123456789ab" in wide
        assert "LOCAL" not in lines[0] and "LOCAL" in wide


@pytest.mark.parametrize("columns", [80, 200])
def test_asks_the_terminal_for_its_width(running, status, columns):
    running.write_status(status)
    _code, output = running.ctl_on_terminal("tunnels", columns=columns)
    assert (b"LOCAL" in output) == (columns == 200)


def test_colour_only_on_a_terminal(running, status):
    running.write_status(status)
    assert b"\033[" in running.ctl_on_terminal("status")[1]
    assert b"\033" not in running.ctl_on_terminal("status", env={"NO_COLOR": "1"})[1]
    assert b"\033[" in running.ctl_on_terminal("status", env={"NO_COLOR": ""})[1]
    assert b"\033" not in running.ctl_on_terminal("status", env={"TERM": "dumb"})[1]
    assert b"\033" not in running.ctl_on_terminal("status", "-p")[1]
    assert "\033" not in running.ctl("status").stdout
