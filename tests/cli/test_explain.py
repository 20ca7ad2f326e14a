# SPDX-License-Identifier: MIT
"""explain: each step, against real maps and a real attachment; the words that find a tunnel, and those that do not."""

import contextlib
import json
import re
import signal

import pytest

from sandbox import CTL, PINS, Sandbox
from schemas import EXAMPLES, load


def furnish(sandbox):
    """A host on which direct return works, with the tunnels of the example. Returns the status."""
    sandbox.do("sysctl", "-qw", "net.ipv4.ip_forward=1")
    sandbox.once()
    sandbox.add_row("203.0.113.10", "203.0.113.10", slot=1)
    sandbox.add_row("192.0.2.1", None, slot=2, flags=1)
    sandbox.add_row("192.0.2.1", "198.51.100.20", slot=3, inner_source="198.51.100.20")
    sandbox.add_row("192.0.2.1", "198.51.100.21", slot=4, inner_source="198.51.100.21")
    sandbox.add_row("192.0.2.1", "198.51.100.30", slot=5, inner_source="198.51.100.30", mode=1)
    real, status = sandbox.read_status(), load(EXAMPLES / "status.json")
    status["interfaces"] = real["interfaces"]
    status["agent"] = real["agent"]
    # A guest's tunnel with the remote of minecraft's would make it two.
    status["tunnels"] = [tunnel for tunnel in status["tunnels"] if tunnel["netns"] != "unshared"]
    sandbox.write_status(status)
    return status


@pytest.fixture
def host(sandbox):
    """One of its own, for a test that changes it."""
    furnish(sandbox)
    return sandbox


@pytest.fixture(name="shared", scope="module")
def fixture_shared():
    sandbox = Sandbox()
    yield sandbox, furnish(sandbox)
    sandbox.close()


@pytest.fixture
def same(shared):
    """The same for all tests that change but the status and the counters."""
    sandbox, status = shared
    sandbox.write_status(status)
    sandbox.count(1)
    return sandbox


def explain(host, fits, *words):
    """(exit status, document) and the steps by name."""
    code, document = host.ctl_json("explain", *words)
    fits("ctl-explain", document)
    assert document["direct"] == (code == 0) == all(step["result"] != "fail" for step in document["steps"])
    steps = {}
    for step in document["steps"]:
        steps.setdefault(step["step"], []).append(step)
    return code, document, steps


def only(steps, name):
    assert len(steps[name]) == 1
    return steps[name][0]


def test_a_tunnel_that_works(same, fits):
    code, document, steps = explain(same, fits, "minecraft")
    assert (code, document["tunnel"]) == (0, {"netns": "minecraft", "ifname": "tun0"})
    assert list(steps) == ["agent", "namespace", "device", "rule", "address", "mode", "row", "route",
                           "attached", "forwarding", "next-hop", "packets"]
    assert only(steps, "agent")["result"] == "warn" and "systemctl" in only(steps, "agent")["remedy"]
    assert {only(steps, name)["result"] for name in ("device", "address", "mode", "row", "route", "attached",
                                                     "forwarding")} == {"ok"}
    assert "tun0 in namespace minecraft, up" in only(steps, "device")["text"]
    assert "auto:remote" in only(steps, "address")["text"]
    assert only(steps, "route")["text"] == "the remote 203.0.113.10 is reached by wan"
    done = same.ctl("explain", "minecraft")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\nDirect return works for it, but see \"agent\".\n")


@pytest.mark.parametrize("words", [["203.0.113.10"], ["minecraft"], ["minecraft", "tun0"]], ids=str)
def test_words_that_find_it(same, fits, words):
    assert explain(same, fits, *words)[1]["tunnel"]["netns"] == "minecraft"


@pytest.mark.parametrize("word, netns", [("198.51.100.21", "valheim"), ("spare0", "rust"), ("203.0.113.41", "rust"),
                                         ("tunl0", "host")])
def test_other_words(same, fits, word, netns):
    assert explain(same, fits, word)[1]["tunnel"]["netns"] == netns


def test_a_name_of_a_namespace_that_is_not_its_label(same, fits):
    document = same.read_status()
    document["namespaces"][1]["names"] += ["mc-alias"]
    same.write_status(document)
    assert explain(same, fits, "mc-alias")[1]["tunnel"]["netns"] == "minecraft"


def test_the_modules_own_device_in_each_namespace_is_not_meant(same, fits):
    document = same.read_status()
    (fallback,) = [tunnel for tunnel in document["tunnels"] if tunnel["ifname"] == "tunl0"]
    document["tunnels"] += [{**fallback, "netns": "minecraft"}]
    same.write_status(document)
    assert explain(same, fits, "minecraft")[1]["tunnel"]["ifname"] == "tun0"
    assert explain(same, fits, "minecraft", "tunl0")[1]["tunnel"]["ifname"] == "tunl0"


@pytest.mark.parametrize("word, listed", [
    ("tun0", ["minecraft tun0", "valheim tun0", "csgo tun0", "copy-of-csgo tun0"]),
    ("192.0.2.1", ["valheim tun0", "csgo tun0"]),
    ("rust", ["rust fou0", "rust spare0"])])
def test_ambiguous_words_list_the_candidates(same, is_error, word, listed):
    done = same.ctl("explain", word)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"'{word}' means {len(listed)} tunnels: {'; '.join(listed)}\n" in done.stderr
    assert "explain NETNS IFNAME" in done.stderr
    code, document = same.ctl_json("explain", word)
    assert code == 2
    is_error(document, "ambiguous-word")


@pytest.mark.parametrize("words", [["nobody"], ["9.9.9.9"], ["minecraft0", "tun0"], [""], ["\033[31m"]], ids=str)
def test_unknown_words_say_what_is_known(same, is_error, words):
    done = same.ctl("explain", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "known are host tunl0; minecraft tun0; " in done.stderr and "\033" not in done.stderr
    code, document = same.ctl_json("explain", *words)
    assert code == 2
    is_error(document, "not-found")


def test_a_shared_remote(same, fits):
    code, _document, steps = explain(same, fits, "valheim")
    assert code == 0
    assert [re.sub(";.*", "", step["text"]) for step in steps["row"]] == [
        "remote 192.0.2.1 is shared, the inner source decides",
        "remote 192.0.2.1 and inner source 198.51.100.20 gets source 198.51.100.20, mode direct",
        "remote 192.0.2.1 and inner source 198.51.100.21 gets source 198.51.100.21, mode direct"]


def test_a_policy_that_keeps_packets(same, fits):
    code, _document, steps = explain(same, fits, "csgo")
    assert code == 4
    assert only(steps, "mode")["result"] == "fail" and only(steps, "mode")["text"].startswith("shadow: ")
    assert only(steps, "mode")["remedy"] == "set mode direct for it in the configuration, and reload"
    assert "7777, 27015-27020" in only(steps, "ports")["text"]
    assert "a2s-info, a2s-players" in only(steps, "exempt")["text"]
    assert only(steps, "ports")["result"] == "info"


@pytest.mark.parametrize("mode, code", [("direct", 0), ("shadow", 4), ("tunnel", 4)])
def test_a_mode_that_was_set_by_hand(same, fits, mode, code):
    """Nothing in the configuration would change it."""
    document = same.read_status()
    (tunnel,) = [tunnel for tunnel in document["tunnels"] if tunnel["netns"] == "csgo"]
    tunnel.update(mode=mode, mode_source="override")
    (entry,) = [entry for entry in document["entries"] if entry["inner_source"] == "198.51.100.30"]
    entry["mode"] = mode
    same.write_status(document)
    same.add_row("192.0.2.1", "198.51.100.30", slot=5, inner_source="198.51.100.30",
                 mode=("direct", "shadow", "tunnel").index(mode))
    got, _document, steps = explain(same, fits, "csgo")
    same.add_row("192.0.2.1", "198.51.100.30", slot=5, inner_source="198.51.100.30", mode=1)
    assert got == code and only(steps, "mode")["text"].startswith(f"{mode}, set by hand: ")
    assert only(steps, "mode")["remedy"] == (None if code == 0 else "ipipdirectctl mode csgo tun0 default")


@pytest.mark.parametrize("words, reason, rival", [
    (["copy-of-csgo"], "address-claimed", "tun0 in namespace csgo"), (["fou0"], "encapsulation", ""),
    (["tunl0"], "fallback-device", "")], ids=str)
def test_a_tunnel_that_is_not_served(same, fits, words, reason, rival):
    code, _document, steps = explain(same, fits, *words)
    assert code == 4
    assert only(steps, "state")["result"] == "fail" and f"({reason})" in only(steps, "state")["text"]
    assert rival in only(steps, "state")["text"]
    assert "row" not in steps
    assert same.ctl("explain", *words).stdout.endswith('Its packets stay on the tunnel: see "state".\n')


def test_a_namespace_without_a_tunnel(same, fits):
    code, document, steps = explain(same, fits, "broken.service")
    assert (code, document["tunnel"]) == (4, None)
    assert only(steps, "namespace")["result"] == "warn" and "Permission denied" in only(steps, "namespace")["text"]
    assert "could not be read" in only(steps, "device")["text"]


PLACES = [
    (["the agent's own", "file /run/netns/named"], "ip"),
    (["file /run/docker/netns/0123", "file /run/netns/named", "process 4711"], "ip -n named"),
    (["file /run/docker/netns/0123", "process 4711"], "nsenter --net=/run/docker/netns/0123 ip"),
    (["file /run/netns/deep/named"], "nsenter --net=/run/netns/deep/named ip"),
    (["process 4711"], "nsenter --net=/proc/4711/ns/net ip"),
    (["nsid only"], "in namespace docker-0123456789ab: ip"),
]


@pytest.mark.parametrize("found, ip", PLACES, ids=str)
def test_a_command_finds_the_namespace(same, fits, found, ip):
    """A label need not be a file in /run/netns, and most often is none."""
    document = same.read_status()
    label = "docker-0123456789ab"
    document["namespaces"][1].update(label=label, names=[], found=found)
    document["tunnels"][1].update(netns=label, up=False)
    same.write_status(document)
    _code, _document, steps = explain(same, fits, label)
    assert only(steps, "device")["remedy"] == f"{ip} link set tun0 up"
    del document["tunnels"][1]
    same.write_status(document)
    _code, _document, steps = explain(same, fits, label)
    assert only(steps, "device")["remedy"] == f"look with '{ip} -d link show type ipip'"


def test_a_device_that_is_down(same, fits):
    document = same.read_status()
    document["tunnels"][1]["up"] = False
    same.write_status(document)
    code, _document, steps = explain(same, fits, "minecraft")
    assert code == 0 and only(steps, "device")["result"] == "warn"
    assert only(steps, "device")["remedy"] == "ip -n minecraft link set tun0 up"


def test_a_row_that_is_not_in_the_map(host, fits):
    host.do("bpftool", "map", "delete", "pinned", f"{PINS}/v1/remotes", "key", "203", "0", "113", "10")
    code, _document, steps = explain(host, fits, "minecraft")
    assert code == 4
    assert "the pinned map has no such row" in only(steps, "row")["text"]


def test_a_row_that_says_something_else(host, fits):
    host.add_row("203.0.113.10", "203.0.113.77", slot=1)
    code, _document, steps = explain(host, fits, "minecraft")
    assert code == 4
    assert "in the pinned map remote 203.0.113.10 gets source 203.0.113.77" in only(steps, "row")["text"]


def test_a_mapped_tunnel_without_a_row(same, fits):
    document = same.read_status()
    document["entries"] = []
    same.write_status(document)
    code, _document, steps = explain(same, fits, "minecraft")
    assert code == 4 and "map is full" in only(steps, "row")["text"]
    assert only(steps, "row")["remedy"] == "see the agent's log; if it is full, raise max_entries, then 'ipipdirectctl reload'"


def test_a_program_that_is_gone(host, fits):
    link = f"{PINS}/link_{host.ifindex()}"
    if not host.exists(link):
        pytest.skip("this kernel has no TCX")
    host.do("rm", link)
    code, _document, steps = explain(host, fits, "minecraft")
    assert code == 4
    assert only(steps, "attached")["result"] == "fail" and "not on wan" in only(steps, "attached")["text"]


def test_a_remote_that_leaves_by_another_interface(host, fits):
    host.do("ip", "link", "add", "other", "type", "veth", "peer", "name", "end")
    host.do("ip", "link", "set", "end", "up")
    host.do("ip", "link", "set", "other", "up")
    host.do("ip", "route", "add", "203.0.113.10/32", "dev", "other")
    code, _document, steps = explain(host, fits, "minecraft")
    assert code == 4
    assert "by other" in only(steps, "route")["text"] and "not on other" in only(steps, "attached")["text"]
    assert "interfaces" in only(steps, "attached")["remedy"]


def test_a_remote_without_a_route(host, fits):
    host.do("ip", "route", "del", "default")
    code, _document, steps = explain(host, fits, "minecraft")
    assert code == 4 and only(steps, "route")["result"] == "fail"


def test_forwarding_that_is_off(host, fits):
    """Without an agent nothing takes the shortcut."""
    host.do("sysctl", "-qw", "net.ipv4.ip_forward=0")
    code, _document, steps = explain(host, fits, "minecraft")
    assert code == 4
    assert only(steps, "forwarding")["result"] == "fail" and "ip_forward=1" in only(steps, "forwarding")["remedy"]
    assert 'Its packets stay on the tunnel: see "forwarding".' in host.ctl("explain", "minecraft").stdout
    with contextlib.closing(host.hold_lock().stdin):
        code, _document, steps = explain(host, fits, "minecraft")
        assert code == 0 and only(steps, "forwarding")["result"] == "warn"
        assert 'Direct return works for it, but see "forwarding".' in host.ctl("explain", "minecraft").stdout


@pytest.mark.parametrize("packets, kept, result, words", [
    (0, {}, "info", "0 so far"),
    (500, {}, "ok", "none stayed"),
    (0, {11: 40, 4: 2}, "fail", "42 stayed, mostly (40) as no-next-hop"),
    (1, {5: 4000}, "warn", "outer-fragment"),
    (500, {5: 4}, "ok", "outer-fragment"),
    (0, {15: 40}, "ok", "server-port"),
], ids=str)
def test_what_the_counters_say(same, fits, packets, kept, result, words):
    same.count(1, packets=packets, size=packets * 100, kept=kept)
    code, _document, steps = explain(same, fits, "minecraft")
    assert (only(steps, "packets")["result"], code) == (result, 4 if result == "fail" else 0)
    assert words in only(steps, "packets")["text"]
    assert (only(steps, "packets")["remedy"] is not None) == (result in ("warn", "fail"))


def test_without_a_status_an_address_is_found_in_the_maps(host, fits, is_error):
    host.do("rm", "/run/ipipdirect/status.json")
    code, document, steps = explain(host, fits, "203.0.113.10")
    assert (code, document["tunnel"]) == (0, None)
    assert "says the pinned map" in only(steps, "row")["text"]
    assert only(steps, "attached")["result"] == "ok"
    code, document = host.ctl_json("explain", "minecraft")
    assert code == 3
    is_error(document, "agent-unreachable")


def test_a_running_agent(sandbox, fits, status):
    sandbox.start_agent()
    sandbox.agent.send_signal(signal.SIGSTOP)  # it holds its lock, and writes no other status meanwhile
    document = sandbox.read_status()
    document.update(tunnels=status["tunnels"], namespaces=status["namespaces"], entries=status["entries"])
    sandbox.write_status(document)
    assert only(explain(sandbox, fits, "minecraft")[2], "agent")["result"] == "ok"


def test_a_status_file_from_elsewhere_asks_nobody(sandbox, fits, status):
    sandbox.write("/run/elsewhere.json", json.dumps(status))
    code, _document, steps = explain(sandbox, fits, "minecraft", "--status-file", "/run/elsewhere.json")
    assert code == 0 and "attached" not in steps and "packets" not in steps
    assert only(steps, "row")["result"] == "warn"


def test_who_may_not_read_the_maps_is_told(host, fits):
    host.do("chmod", "644", "/run/ipipdirect/status.json", "/run/ipipdirect/lock")
    host.do("chmod", "755", "/run/ipipdirect")
    done = host.ctl_as_nobody("-j", "explain", "minecraft")
    steps = {step["step"]: step for step in fits("ctl-explain", json.loads(done.stdout))["steps"]}
    assert steps["row"]["result"] == "warn" and "Permission denied" in steps["row"]["text"]
    assert steps["attached"]["result"] == "warn"


@pytest.mark.parametrize("columns", [80, 200])
def test_fits_the_terminal(same, columns):
    for words in (["minecraft"], ["csgo"], ["copy-of-csgo"], ["broken.service"]):
        _code, output = same.ctl_on_terminal("explain", *words, columns=columns, env={"NO_COLOR": "1"})
        assert b"\033" not in output
        assert max(map(len, output.decode("ascii").replace("\r", "").split("\n"))) <= columns
    assert b"\033[32mok" in same.ctl_on_terminal("explain", "minecraft", columns=columns)[1]


def test_hostile_names_do_nothing(same):
    document = same.read_status()
    document["tunnels"][1]["ifname"] = "\033]0;evil\a\u202e"
    document["namespaces"][1]["names"] = ["\033[31m"]
    same.write_status(document)
    done = same.run(CTL, "explain", "minecraft")
    assert re.fullmatch(r"[\x20-\x7e\n]*", done.stdout) and r"\x1b]0;evil\x07" in done.stdout
