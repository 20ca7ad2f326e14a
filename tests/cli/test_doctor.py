# SPDX-License-Identifier: MIT
"""doctor: each check, well and ill, on a host that is made so."""

import json
import os
import re
import subprocess
import time

import pytest

from control import wait_for
from sandbox import AGENT, CTL, PINS

NAMES = ["kernel", "bpf-jit", "bpffs", "pins", "agent", "status", "problems", "clock", "config", "attached", "hook-order", "next-hop",
         "forwarding", "source-address", "offloads", "mtu", "nat", "namespaces", "trust", "conflicts", "tunnel-kinds",
         "map-room", "packets"]


@pytest.fixture
def host(sandbox):
    """A host on which all is well, and a real agent."""
    sandbox.do("sysctl", "-qw", "net.ipv4.ip_forward=1")
    sandbox.start_agent()
    return sandbox


@pytest.fixture
def still(sandbox):
    """The same with an agent that does not write any more: something holds its lock."""
    sandbox.do("sysctl", "-qw", "net.ipv4.ip_forward=1")
    sandbox.once()
    holder = sandbox.hold_lock()
    yield sandbox
    holder.stdin.close()
    holder.wait(30)
    holder.stdout.close()


def change(sandbox, **parts):
    document = sandbox.read_status()
    for key, value in parts.items():
        if isinstance(value, dict):
            document[key].update(value)
        else:
            document[key] = value
    sandbox.write_status(document)
    return document


def examine(sandbox, fits, *command, exit_status=None):
    """{name: [checks]}"""
    done = sandbox.run(*command, CTL, "-j", "doctor")
    document = fits("ctl-doctor", json.loads(done.stdout))
    results = {check["result"] for check in document["checks"]}
    assert document["healthy"] == (not results & {"warn", "fail"}) == (done.returncode == 0)
    assert done.returncode in (0, 4) and done.stderr == ""
    assert exit_status in (None, done.returncode)
    found = {}
    for check in document["checks"]:
        found.setdefault(check["name"], []).append(check)
    assert list(found) == NAMES
    return found


def only(checks, name):
    assert len(checks[name]) == 1
    return checks[name][0]["result"], checks[name][0]["text"], checks[name][0]["remedy"]


def test_a_host_that_is_well(host, fits):
    checks = examine(host, fits, exit_status=0)
    results = {name: only(checks, name)[0] for name in NAMES}
    # The sandbox is a network namespace: the sysctl of the JIT is not in it.
    assert results.pop("bpf-jit") == ("ok" if host.exists("/proc/sys/net/core/bpf_jit_enable") else "unknown")
    assert results.pop("source-address") == "note" and "provider" in only(checks, "source-address")[1]
    assert results.pop("trust") in ("ok", "unknown"), "by what the status says"
    assert set(results.values()) == {"ok"}, results
    assert only(checks, "hook-order")[1].startswith("wan: ours is the only ")


def test_nobody_may_look(host, fits):
    """What cannot be looked at is unknown, and no reason for alarm."""
    host.do("chmod", "750", "/run/ipipdirect")
    checks = examine(host, fits, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    for name in ("pins", "agent", "status", "attached", "map-room", "packets", "conflicts", "nat"):
        assert only(checks, name)[0] == "unknown", name
    assert only(checks, "pins")[2] == "run as root or as a member of group ipipdirect"


def test_where_nothing_ever_was(sandbox, fits):
    checks = examine(sandbox, fits, exit_status=4)
    assert [only(checks, name)[0] for name in ("pins", "agent", "status")] == ["fail"] * 3
    assert {only(checks, name)[0] for name in ("attached", "offloads", "conflicts", "config")} == {"unknown"}


def test_a_killed_agent(host, fits):
    host.stop_agent(9)
    checks = examine(host, fits, exit_status=4)
    assert only(checks, "agent")[0] == "fail" and "systemctl start" in only(checks, "agent")[2]
    assert only(checks, "attached")[0] == "ok", "the pins stay"
    assert only(checks, "next-hop")[0] == "note"


def test_hidden_bpffs(host, fits):
    host.do("ip", "netns", "add", "game1")
    checks = examine(host, fits, "ip", "netns", "exec", "game1", exit_status=4)
    assert only(checks, "bpffs")[0] == "fail" and "nsenter" in only(checks, "bpffs")[2]
    assert "not the agent's network namespace" in only(checks, "attached")[1]


def test_a_stale_status(still, fits):
    old = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))
    change(still, agent={"synced_at": old})
    result, text, _remedy = only(examine(still, fits, exit_status=4), "status")
    assert result == "warn" and "everything read 1h0m ago" in text and "every 30s" in text
    change(still, agent={"resync_interval": 3000})
    assert only(examine(still, fits), "status")[0] == "ok"
    still.do("touch", "-d", "1 day ago", "/run/ipipdirect/status.json")
    assert "written 1d0h ago" in only(examine(still, fits, exit_status=4), "status")[1]
    change(still, agent={"synced_at": None})
    assert "not read everything yet" in only(examine(still, fits, exit_status=4), "status")[1]


def test_a_broken_status(still, fits):
    still.write("/run/ipipdirect/status.json", "{")
    result, text, _remedy = only(examine(still, fits, exit_status=4), "status")
    assert result == "fail" and "line 1" in text


def test_a_clock_that_was_set_back(still, fits):
    ahead = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    change(still, agent={"synced_at": ahead})
    assert only(examine(still, fits, exit_status=4), "clock")[0] == "warn"


@pytest.mark.parametrize("agent", [
    {"problems": ["configuration refused, the former one holds: mode: nonsense"]},
    {"config_error": {"line": 3, "column": 1, "place": "mode", "message": "nonsense"}},
], ids=str)
def test_a_refused_configuration(still, fits, agent):
    change(still, agent=agent)
    result, text, _remedy = only(examine(still, fits, exit_status=4), "config")
    assert result == "warn" and "mode: nonsense" in text


def test_a_program_that_is_gone(still, fits):
    pins = still.do("ls", PINS).split()
    for pin in pins:
        if pin.startswith(("link_", "prog_")):
            still.do("rm", f"{PINS}/{pin}")
    checks = examine(still, fits, exit_status=4)
    assert only(checks, "attached")[0] == "fail" and "wan: not attached" in only(checks, "attached")[1]


def test_no_interface(still, fits):
    change(still, interfaces=[])
    assert only(examine(still, fits, exit_status=4), "attached")[0] == "fail"


def test_filters_of_others_come_after_tcx(still, fits):
    if not still.exists(f"{PINS}/link_{still.ifindex()}"):
        pytest.skip("this kernel has no TCX")
    program = still.ctl_json("status")[1]["interfaces"][0]["program_id"]
    still.do("bpftool", "prog", "pin", "id", str(program), "/sys/fs/bpf/somebody")
    still.do("tc", "qdisc", "add", "dev", "wan", "clsact")
    still.do("tc", "filter", "add", "dev", "wan", "egress", "prio", "3", "bpf", "direct-action",
             "object-pinned", "/sys/fs/bpf/somebody")
    result, text, _remedy = only(examine(still, fits, exit_status=0), "hook-order")
    assert result == "note" and "1 clsact filter comes after it" in text


@pytest.mark.parametrize("priority, result, words", [(3, "warn", "priority 3 is before ours"),
                                                     (9, "note", "priority 9 after it")])
def test_filters_of_others_beside_clsact(still, fits, priority, result, words):
    """As on kernels before 6.6: the filters are those of this kernel, the status is made to say so."""
    program = still.ctl_json("status")[1]["interfaces"][0]["program_id"]
    still.do("tc", "qdisc", "add", "dev", "wan", "clsact")
    still.do("bpftool", "prog", "pin", "id", str(program), "/sys/fs/bpf/ours")
    still.do("bpftool", "prog", "load", foreign_program(still), "/sys/fs/bpf/foreign", "type", "tc")
    for prio, handle, pin in ((7, 0x69706970, "ours"), (priority, 1, "foreign")):
        still.do("tc", "filter", "add", "dev", "wan", "egress", "prio", str(prio), "handle", hex(handle), "bpf",
                 "direct-action", "object-pinned", f"/sys/fs/bpf/{pin}")
    document = still.read_status()
    document["interfaces"][0]["attachment"] = "clsact"
    still.write_status(document)
    checks = examine(still, fits)
    assert only(checks, "hook-order")[0] == result and words in only(checks, "hook-order")[1]


def foreign_program(sandbox):
    """A program of somebody else."""
    sandbox.write("/run/foreign.c", 'int f(void *s) { return -1; }\n')
    sandbox.do("clang", "-O2", "-target", "bpf", "-c", "/run/foreign.c", "-o", "/run/foreign.o")
    sandbox.do("llvm-objcopy", "--rename-section", ".text=tc", "/run/foreign.o")
    return "/run/foreign.o"


def test_routes_that_take_a_lookup(still, fits):
    document = still.read_status()
    document["interfaces"][0]["next_hop"] = "routing-rules"
    still.write_status(document)
    result, text, _remedy = only(examine(still, fits), "next-hop")
    assert result == "note" and "because there are routing rules" in text


def test_forwarding_that_is_off(still, fits):
    still.do("sysctl", "-qw", "net.ipv4.ip_forward=0")
    result, text, remedy = only(examine(still, fits, exit_status=4), "forwarding")
    assert result == "warn" and text.startswith("wan: ") and "ip_forward=1" in remedy
    assert "packets that cannot take the shortcut to the default gateway stay" in text
    document = still.read_status()
    document["interfaces"][0]["next_hop"] = "routing-rules"
    still.write_status(document)
    result, text, _remedy = only(examine(still, fits, exit_status=4), "forwarding")
    assert result == "fail" and "it: packets stay" in text


def test_an_offload_that_somebody_turned_on(still, fits):
    still.do("ethtool", "-K", "wan", "tx-ipxip4-segmentation", "on")
    result, _text, remedy = only(examine(still, fits, exit_status=4), "offloads")
    assert result == "fail" and remedy == "ethtool -K wan tx-ipxip4-segmentation off"


@pytest.mark.parametrize("reason", ["fixed-on", "failed"])
def test_an_offload_that_cannot_be_turned_off(still, fits, reason):
    document = still.read_status()
    document["interfaces"][0]["offload_guard"] = {"policy": "auto", "active": False, "reason": reason}
    still.write_status(document)
    assert only(examine(still, fits, exit_status=4), "offloads")[0] == "fail"


def tunnel(status, netns, **changes):
    return {**status["tunnels"][1], "netns": netns, **changes}


NSID = 70007  # not one of those that the kernel gives


def test_a_tunnel_with_too_large_an_mtu(still, fits, status):
    """Any device does: it is asked by the namespace's id, without being entered. The remedy helps, however one gets in."""
    still.do("ip", "netns", "add", "game1")
    still.do("ip", "netns", "set", "game1", str(NSID))
    still.do("ip", "-n", "game1", "link", "add", "tun0", "mtu", "1480", "type", "veth")
    ifindex = json.loads(still.do("ip", "-n", "game1", "-j", "link", "show", "tun0"))[0]["ifindex"]
    namespaces = still.read_status()["namespaces"]
    namespaces.append({**namespaces[0], "label": "docker-0123456789ab", "names": [], "nsid": NSID, "inode": 1})
    with still.start("ip", "netns", "exec", "game1", "sh", "-c", "echo there; exec cat",
                     stdin=subprocess.PIPE, stdout=subprocess.PIPE) as resident:
        assert resident.stdout.readline() == b"there\n"
        pid = still.pid_inside(resident)
        for found, command in (("file /run/netns/game1", "ip -n game1"),
                               (f"process {pid}", f"nsenter --net=/proc/{pid}/ns/net ip")):
            namespaces[-1]["found"] = [found]
            change(still, namespaces=namespaces, tunnels=[tunnel(status, "docker-0123456789ab", ifindex=ifindex)])
            assert only(examine(still, fits), "mtu") == ("ok", "no tunnel has more than 1480", None)
            still.do("ip", "-n", "game1", "link", "set", "tun0", "mtu", "1481")
            result, text, remedy = only(examine(still, fits, exit_status=4), "mtu")
            assert result == "warn" and "docker-0123456789ab tun0 with 1481" in text
            assert remedy == f"{command} link set tun0 mtu 1480"
            still.do(*remedy.split())
            assert only(examine(still, fits), "mtu")[0] == "ok"
        resident.stdin.close()
    still.do("ip", "netns", "del", "game1")
    wait_for(lambda: only(examine(still, fits), "mtu")[0] == "unknown")  # the kernel takes it apart in a worker


def test_rules_that_rewrite_sources(host, fits):
    host.do("nft", "add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; "
            "add rule ip nat post oifname wan masquerade")
    result, text, remedy = only(examine(host, fits, exit_status=0), "nat")
    assert result == "note" and text.startswith("1 rule rewrites") and "ip nat, chain post" in text
    rule = re.fullmatch("leave out tunnel packets: '(.*)' before them", remedy).group(1)
    host.do("nft", f"insert rule ip nat post {rule}")
    assert "ip protocol 4 return" in host.do("nft", "--numeric", "list", "chain", "ip", "nat", "post")


@pytest.mark.parametrize("rule", [
    "POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",  # as Docker has it
    "POSTROUTING -o wan -j SNAT --to-source 198.18.0.2",
    "POSTROUTING -s 10.0.0.0/24 -j NETMAP --to 198.18.0.0/24",
])
def test_rules_of_iptables_that_rewrite_sources(host, fits, rule):
    host.do("iptables-nft", "-t", "nat", "-A", "PREROUTING", "-p", "udp", "-j", "DNAT", "--to-destination", "10.0.0.2")
    host.do("iptables-nft", "-t", "mangle", "-A", "POSTROUTING", "-m", "comment", "--comment", "x", "-j", "MARK", "--set-mark", "1")
    assert only(examine(host, fits, exit_status=0), "nat")[0] == "ok"
    host.do("iptables-nft", "-t", "nat", "-A", *rule.split())
    result, text, remedy = only(examine(host, fits, exit_status=0), "nat")
    assert result == "note" and text.startswith("1 rule rewrites") and "ip nat, chain POSTROUTING" in text
    command = re.fullmatch("leave out tunnel packets: 'iptables (.*)'", remedy).group(1)
    host.do("iptables-nft", *command.split())
    rules = host.do("nft", "--numeric", "list", "chain", "ip", "nat", "POSTROUTING").split("\t\t")
    assert rules[2].startswith("meta l4proto 4 counter ") and "return" in rules[2], "the first rule"


def test_nft_that_is_not_there(host, fits):
    for path in ("/usr/sbin", "/sbin"):
        if os.path.exists(f"{path}/nft"):
            host.do("mount", "--bind", "/dev/null", f"{path}/nft")
    assert only(examine(host, fits), "nat")[0] == "unknown"


def test_namespaces_and_tunnels_that_want_somebody(still, fits, status):
    namespaces = still.read_status()["namespaces"] + [status["namespaces"][-1]]
    change(still, namespaces=namespaces, tunnels=status["tunnels"])
    checks = examine(still, fits, exit_status=4)
    assert only(checks, "namespaces")[:2] == (
        "warn", f"1 of {len(namespaces)} could not be read, the first is broken.service: what was read before holds")
    assert only(checks, "conflicts")[0] == "warn" and "copy-of-csgo tun0" in only(checks, "conflicts")[1]
    assert only(checks, "tunnel-kinds")[0] == "note" and "FOU" in only(checks, "tunnel-kinds")[1]


RIGHTS = "-all,+net_admin,+net_broadcast,+bpf,+perfmon"


def test_hidden_processes(sandbox, fits):
    """With a user of its own it does not see the processes of others: what has a file is found, the rest is said."""
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--inh-caps", RIGHTS,
              "--ambient-caps", RIGHTS, "--bounding-set", RIGHTS, "/run/ipipdirectd", "--once"]
    sandbox.do("sh", "-c", "mkdir -p /run/netns /run/ipipdirect && ip netns add game1")
    sandbox.do("sh", "-c", "unshare --net sleep 600 >/dev/null 2>&1 & ln -s /proc/$!/ns/net /run/netns/panel")
    sandbox.do("cp", AGENT, "/run/ipipdirectd")  # build directories may be closed to that user
    sandbox.do("chown", "65534:65534", "/run/ipipdirect", "/sys/fs/bpf")
    for option, is_hidden in ("hidepid=2", True), ("hidepid=1", True), ("hidepid=2,gid=65534", False), ("hidepid=0", False):
        sandbox.do("mount", "-t", "proc", "-o", option, "proc", "/proc")
        # As to the exit status: this user may see other files than root.
        sandbox.run(*nobody)
        document = sandbox.read_status()
        said = [file["reason"] for file in document["skipped_files"] if file["path"] == "/proc"]
        assert len(said) == is_hidden and all("hidepid" in reason for reason in said), option
        assert any("game1" in netns["names"] for netns in document["namespaces"])
        # What leads to a hidden process cannot be read, and never will: nobody waits for it.
        assert any("panel" in netns["names"] for netns in document["namespaces"]) == (not is_hidden), option
        assert any(file["path"] == "/run/netns/panel" for file in document["skipped_files"]) == is_hidden
        assert not [problem for problem in document["agent"]["problems"] if "namespace" in problem], option
        assert ("hidepid" in sandbox.run(CTL, "netns").stdout) == is_hidden
        if is_hidden and all(netns["read"] for netns in document["namespaces"]):
            result, text, remedy = only(examine(sandbox, fits), "namespaces")
            assert (result, "hides processes" in text, "remount" in remedy) == ("warn", True, True)
        sandbox.do("umount", "/proc")


def test_tunnels_of_others(still, fits, status):
    namespaces = still.read_status()["namespaces"]
    for netns in namespaces:
        netns["owner"] = "host"
    change(still, namespaces=namespaces)
    assert only(examine(still, fits), "trust")[0] == "ok"
    namespaces.append({**namespaces[0], "label": "rootless", "nsid": 9, "inode": 1, "owner": "other"})
    change(still, namespaces=namespaces, tunnels=[tunnel(status, "rootless", state="skipped", reason="untrusted")])
    result, text, _remedy = only(examine(still, fits, exit_status=4), "trust")
    assert (result, text) == ("warn", "1 tunnel in namespaces that nobody vouches for; the first is rootless tun0"), "whose they are"


def test_maps_that_fill(sandbox, fits):
    sandbox.write("/run/config.json", '{"max_entries": 16}')
    sandbox.once("--config", "/run/config.json")
    for i in range(12):
        sandbox.add_row(f"203.0.113.{i + 1}", "203.0.113.1", slot=i + 1)
    assert only(examine(sandbox, fits), "map-room")[:2] == ("ok", "12 remotes and 0 inner sources, room for 16 of each")
    sandbox.add_row("203.0.113.13", "203.0.113.1", slot=13)
    result, text, remedy = only(examine(sandbox, fits, exit_status=4), "map-room")
    assert (result, text) == ("warn", "nearly full: 13 remotes and 0 inner sources, room for 16 of each")
    assert remedy == "raise max_entries, then 'ipipdirectctl reload'"
    document = sandbox.read_status()
    document["map"]["no_room"] = [{"remote": "203.0.113.99", "inner_source": None}]
    sandbox.write_status(document)
    result, _text, full_remedy = only(examine(sandbox, fits, exit_status=4), "map-room")
    assert (result, full_remedy) == ("fail", remedy)


def test_what_the_counters_say(host, fits):
    host.count(0, kept={0: 7, 2: 5, 15: 5})
    assert only(examine(host, fits, exit_status=0), "packets")[:2] == (
        "note", "7 stayed as no-entry: their remote has no row")
    host.count(0, kept={0: 7, 14: 1})
    checks = examine(host, fits, exit_status=4)
    assert [check["result"] for check in checks["packets"]] == ["note", "warn"]


@pytest.mark.parametrize("columns", [80, 200])
def test_fits_the_terminal(still, status, columns):
    change(still, tunnels=status["tunnels"])
    code, output = still.ctl_on_terminal("doctor", columns=columns, env={"NO_COLOR": "1"})
    lines = output.decode("ascii").replace("\r", "").split("\n")
    assert code == 4 and b"\033" not in output
    assert max(map(len, lines)) <= columns
    assert all(re.match(r"(ok|note|warn|fail|unknown) {2,}[a-z-]+ {2,}\S| {20,}\S|$", line) for line in lines)
    _code, output = still.ctl_on_terminal("doctor", columns=columns)
    assert b"\033[33mwarn" in output


def test_hostile_names_do_nothing(still, status):
    change(still, tunnels=[tunnel(status, "\033]0;evil\a", ifname="\u202e\n", state="conflict")])
    done = still.ctl("doctor")
    assert re.fullmatch(r"[\x20-\x7e\n]*", done.stdout) and r"\x1b]0;evil\x07" in done.stdout


@pytest.mark.parametrize("netns, ifname", [
    ("game1", "tun0"), ("a b", "t;reboot"), ("$(reboot)", "`id`"), ("it's", r"back\slash"), ("\033[31m\n", "\u202e"), ("", "*"),
], ids=repr)
def test_a_remedy_can_be_pasted(still, fits, status, netns, ifname):
    """Whatever the names are, a shell makes of it the words that were meant, and nothing else."""
    change(still, tunnels=[tunnel(status, netns, ifname=ifname, state="conflict")])
    remedy = only(examine(still, fits, exit_status=4), "conflicts")[2]
    words = still.do("bash", "-c", f"printf '%s\\0' {remedy}").split("\0")[:-1]
    assert words == ["ipipdirectctl", "explain", netns, ifname]
    if re.fullmatch(r"\w+", netns):
        assert remedy == f"ipipdirectctl explain {netns} {ifname}"


def test_whatever_makes_the_status_degraded(still, fits):
    """Each problem of the agent's is told, once: by the check that looks at it, or by the one for all others."""
    others = ["the last pass failed, the map may be wrong: Invalid argument; it is tried again",
              "3 tunnels left to the tunnel path: whose the public address is cannot be told; set game_server_ip",
              "a namespace file cannot be opened\x1b[2J"]
    with_checks = ["2 tunnels in conflict, wholly or partly on the tunnel path", "not attached to 1 of 1 interfaces",
                   "1 namespace could not be read", "map full: no room for 3 rows, their packets stay on the tunnel",
                   "detached by an operator: all packets stay on the tunnel until 'ipipdirectctl attach'"]
    change(still, agent={"state": "degraded", "problems": with_checks + others})
    problems = examine(still, fits, exit_status=4)["problems"]
    assert [(check["result"], check["text"]) for check in problems] == [("warn", text) for text in others]
    assert all("journalctl" in check["remedy"] for check in problems)
    assert "\x1b" not in still.ctl("doctor").stdout
    change(still, agent={"state": "degraded", "problems": with_checks})
    assert only(examine(still, fits), "problems")[0] == "ok"


def test_problems_of_an_agent_that_ended(host, fits):
    host.stop_agent(9)
    change(host, agent={"problems": ["the last pass failed, the map may be wrong: Invalid argument; it is tried again"]})
    assert only(examine(host, fits, exit_status=4), "problems")[0] == "unknown"


@pytest.mark.parametrize("reason, text, remedy", [
    ("encapsulation", "use FOU or GUE", "plain IPIP"),
    ("external", "in external mode", "fixed remote"),
    ("no-remote", "have no fixed remote", "ip tunnel change"),
    ("not-ipip", "carry MPLS", "mode ipip"),
    ("remote-forbidden", "no POP's", "unicast"),
    ("no-public-address", "no public address", "game_server_ip"),
    ("not-allowed", "not allowed", "allowed_game_server_ips"),
])
def test_tunnels_of_another_kind(still, fits, status, reason, text, remedy):
    """They are noted, and no reason to call anybody."""
    of_this_kind = tunnel(status, "game1", state="skipped", reason=reason)
    change(still, tunnels=[of_this_kind])
    result, said, advice = only(examine(still, fits), "tunnel-kinds")
    assert result == "note" and said.startswith("1 tunnel cannot be served") and text in said and remedy in advice
    change(still, tunnels=[of_this_kind, {**of_this_kind, "ifname": "tun9"}])
    assert only(examine(still, fits), "tunnel-kinds")[1].startswith("2 tunnels cannot be served")
