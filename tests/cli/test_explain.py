# SPDX-License-Identifier: MIT
"""explain: each step, against real maps and a real attachment; the words that find a tunnel, and those that do not."""

import contextlib
import json
import re
import signal

import pytest

from sandbox import CTL, FLAG_PRIVATE_SOURCE, PINS, Sandbox
from schemas import EXAMPLES, load


def furnish(sandbox):
    """A host on which direct return works, with the tunnels of the example. Returns the status."""
    sandbox.do("sysctl", "-qw", "net.ipv4.ip_forward=1")
    sandbox.once()
    sandbox.add_row("203.0.113.10", "203.0.113.10", slot=1, flags=FLAG_PRIVATE_SOURCE)
    sandbox.add_row("192.0.2.1", None, slot=2, flags=1)
    sandbox.add_row("192.0.2.1", "198.51.100.20", slot=3, inner_source="198.51.100.20")
    sandbox.add_row("192.0.2.1", "198.51.100.21", slot=4, inner_source="198.51.100.21")
    sandbox.add_row("192.0.2.1", "198.51.100.30", slot=5, inner_source="198.51.100.30", mode=1)
    real, status = sandbox.read_status(), load(EXAMPLES / "status.json")
    status["interfaces"] = real["interfaces"]
    status["agent"] = real["agent"]
    (own,) = [netns for netns in real["namespaces"] if netns["nsid"] is None]
    (example,) = [netns for netns in status["namespaces"] if netns["nsid"] is None]
    example["inode"] = own["inode"]
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


STAY = 'Its packets stay on the tunnel: see "state".'
PARTLY = 'Packets that have a row go direct, the rest stay on the tunnel: see "state".'
ANYWAY = 'Its packets go direct all the same, by the row of its remote: see "state".'


def explain(host, fits, *words):
    """(exit status, document) and the steps by name."""
    code, document = host.ctl_json("explain", *words)
    fits("ctl-explain", document)
    assert document["direct"] == (code == 0) == all(step["result"] != "fail" for step in document["steps"])
    assert (document["still_direct"] is None) == document["direct"]
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
    (["copy-of-csgo"], "address-claimed", "tun0 in namespace csgo"), (["fou0"], "encapsulation", "")], ids=str)
def test_a_tunnel_that_is_not_served(same, fits, words, reason, rival):
    code, _document, steps = explain(same, fits, *words)
    assert code == 4
    assert only(steps, "state")["result"] == "fail" and f"({reason})" in only(steps, "state")["text"]
    assert rival in only(steps, "state")["text"]
    assert "row" not in steps
    assert same.ctl("explain", *words).stdout.endswith(f"{STAY}\n")


def find_tunnel(document, netns):
    (tunnel,) = [tunnel for tunnel in document["tunnels"] if tunnel["netns"] == netns]
    return tunnel


def row_texts(steps):
    return [(step["result"], re.sub("; so it is in the pinned map$", "", step["text"])) for step in steps["row"]]


OF_MINECRAFT = "remote 203.0.113.10 gets source 203.0.113.10 where the inner source is private, mode direct"
SHARED = "remote 192.0.2.1 is shared, the inner source decides"
OF_VALHEIM = [f"remote 192.0.2.1 and inner source 198.51.100.{i} gets source 198.51.100.{i}, mode direct" for i in (20, 21)]


@pytest.mark.parametrize("netns, changes, rows", [
    ("minecraft", {}, [OF_MINECRAFT]),
    ("valheim", {}, [SHARED, *OF_VALHEIM]),
    ("valheim", {"game_server_ips": ["198.51.100.21"]}, [SHARED, OF_VALHEIM[1]]),
    ("valheim", {"game_server_ips": ["198.51.100.20"], "game_server_ip_source": "explicit"}, [SHARED, OF_VALHEIM[0]]),
], ids=["by-remote", "by-inner-source", "by-one-of-two", "explicit"])
def test_one_row_for_two_tunnels_of_a_namespace(same, fits, netns, changes, rows):
    """The row names but the first of them, and the packets of the other go direct by it."""
    document = same.read_status()
    document["tunnels"].append({**find_tunnel(document, netns), "ifname": "tun1", **changes})
    same.write_status(document)
    code, _document, steps = explain(same, fits, netns, "tun1")
    assert (code, row_texts(steps)) == (0, [("ok", row) for row in rows])


def test_a_row_of_another_with_the_same_address_is_not_its(same, fits):
    """Its own are known, so those of the other are not."""
    document = same.read_status()
    tunnel = find_tunnel(document, "valheim")
    tunnel.update(game_server_ips=["198.51.100.20"], game_server_ip_source="explicit")
    document["tunnels"].append({**tunnel, "ifname": "tun1"})
    mine, other = [entry for entry in document["entries"] if entry["inner_source"] in ("198.51.100.20", "198.51.100.21")]
    other.update(game_server_ip="198.51.100.20", tunnel={"netns": "valheim", "ifname": "tun1"})
    assert mine["tunnel"]["ifname"] == "tun0"
    same.write_status(document)
    code, _document, steps = explain(same, fits, "valheim", "tun0")
    assert (code, row_texts(steps)) == (0, [("ok", SHARED), ("ok", OF_VALHEIM[0])])


def in_conflict(same, mode="direct"):
    """One of valheim's two addresses was refused, and the other has its row."""
    document = same.read_status()
    find_tunnel(document, "valheim").update(state="conflict", reason="address-claimed", reason_text="somebody has it", mode=mode)
    document["entries"] = [{**entry, "mode": mode} if entry["inner_source"] == "198.51.100.20" else entry
                           for entry in document["entries"] if entry["inner_source"] != "198.51.100.21"]
    same.write_status(document)


def test_a_conflict_about_one_of_two_addresses(same, fits):
    in_conflict(same)
    code, document, steps = explain(same, fits, "valheim")
    assert (code, document["still_direct"]) == (4, "some")
    assert row_texts(steps) == [("ok", SHARED), ("ok", OF_VALHEIM[0]), (
        "info", "no row is for inner source 198.51.100.21: such packets stay on the tunnel")]
    assert only(steps, "state")["result"] == "fail" and only(steps, "attached")["result"] == "ok"
    assert same.ctl("explain", "valheim").stdout.endswith(f"{PARTLY}\n")
    assert same.ctl("-br", "explain", "valheim").stdout.split()[:3] == ["valheim", "tun0", "partly"]


@pytest.mark.parametrize("cause", ["shadow", "route"])
def test_a_conflict_whose_rows_send_nothing(host, fits, cause):
    in_conflict(host, "shadow" if cause == "shadow" else "direct")
    if cause == "shadow":
        host.add_row("192.0.2.1", "198.51.100.20", slot=3, inner_source="198.51.100.20", mode=1)
    else:
        host.do("ip", "route", "del", "default")
    code, document, steps = explain(host, fits, "valheim")
    assert (code, document["still_direct"]) == (4, "none") and len(steps["row"]) == 3
    assert host.ctl("explain", "valheim").stdout.endswith(f"{STAY}\n")


def skipped(same, reason, remote):
    document = same.read_status()
    document["tunnels"].append({**find_tunnel(document, "copy-of-csgo"), "netns": "unshared", "state": "skipped", "remote": remote,
                                "reason": reason, "reason_text": "-", "rival": None, "game_server_ips": [],
                                "game_server_ip_source": "none"})
    same.write_status(document)


@pytest.mark.parametrize("reason, remote, row, still", [
    ("untrusted", "203.0.113.10", ("warn", f"{OF_MINECRAFT}; it was made for another tunnel and decides about what is sent to that "
                                           "remote"), "all"),
    ("untrusted", "192.0.2.1", ("info", f"{SHARED}, also where it is another tunnel's"), "some"),
    ("untrusted", "203.0.113.77", None, "none"),
    ("too-many-tunnels", "192.0.2.1", ("info", f"{SHARED}, also where it is another tunnel's"), "some"),
    ("not-allowed", "192.0.2.1", None, "none"),
    ("encapsulation", "203.0.113.10", None, "none"),
    ("external", None, ("info", "each packet chooses its remote: where that has a row, the row decides"), "some"),
], ids=str)
def test_a_skipped_tunnel_and_the_rows_of_others(same, fits, reason, remote, row, still):
    """The program asks a packet for its remote and inner source, and not for its tunnel."""
    skipped(same, reason, remote)
    code, document, steps = explain(same, fits, "unshared")
    assert (code, document["still_direct"], row_texts(steps) if "row" in steps else [None]) == (4, still, [row])
    assert same.ctl("explain", "unshared").stdout.endswith({"all": ANYWAY, "some": PARTLY, "none": STAY}[still] + "\n")
    assert same.ctl("-br", "explain", "unshared").stdout.split()[2] == {"all": "direct", "some": "partly", "none": "tunnel"}[still]


def test_a_skipped_tunnel_below_a_row_that_keeps_packets(host, fits):
    host.add_row("203.0.113.10", "203.0.113.10", slot=1, mode=2)
    skipped(host, "untrusted", "203.0.113.10")
    code, document, steps = explain(host, fits, "unshared")
    assert (code, document["still_direct"]) == (4, "none") and "mode tunnel; it was made" in only(steps, "row")["text"]


def test_a_row_for_one_of_two_addresses(same, fits):
    """The map is full, and the agent maps what it can."""
    document = same.read_status()
    document["entries"] = [entry for entry in document["entries"] if entry["inner_source"] != "198.51.100.21"]
    same.write_status(document)
    code, document, steps = explain(same, fits, "valheim")
    assert (code, document["still_direct"]) == (4, "some")
    assert row_texts(steps)[2] == ("fail", "no row was made for 198.51.100.21: the map is full, or writing it failed")


def test_rows_without_the_shared_one_above_them(host, fits):
    """No packet gets to them."""
    document = host.read_status()
    document["entries"] = [entry for entry in document["entries"] if not entry["shared"]]
    host.write_status(document)
    host.do("bpftool", "map", "delete", "pinned", f"{PINS}/v1/remotes", "key", "192", "0", "2", "1")
    code, document, steps = explain(host, fits, "valheim")
    assert (code, document["still_direct"]) == (4, "none")
    assert row_texts(steps) == [("fail", "no row was made for it: the map is full, or writing it failed")]


@pytest.mark.parametrize("changes", [{"game_server_ips": ["203.0.113.11"]}, {"mode": "shadow"}], ids=str)
def test_a_row_that_is_not_what_was_decided(same, fits, changes):
    """While a namespace was never read no row is changed, and packets go by what is there."""
    document = same.read_status()
    find_tunnel(document, "minecraft").update(changes)
    same.write_status(document)
    code, document, steps = explain(same, fits, "minecraft")
    assert (code, document["still_direct"]) == (4, "all")
    assert row_texts(steps) == [("fail", f"{OF_MINECRAFT}, but it is meant otherwise")]


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
    code, document, steps = explain(host, fits, "minecraft")
    assert code == 4
    assert "in the pinned map remote 203.0.113.10 gets source 203.0.113.77" in only(steps, "row")["text"]
    assert document["still_direct"] == "all"


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


def test_a_tunnel_whose_source_leaves_by_another_interface(host, fits):
    """As the kernel routes it: from the address that the tunnel sends from."""
    host.do("ip", "link", "add", "other", "type", "veth", "peer", "name", "end")
    for name in ("end", "other"):
        host.do("ip", "link", "set", name, "up")
    document = host.read_status()
    (tunnel,) = [tunnel for tunnel in document["tunnels"] if tunnel["netns"] == "minecraft"]
    tunnel["local"] = "198.18.0.2"
    host.write_status(document)
    assert explain(host, fits, "minecraft")[0] == 0
    host.do("ip", "route", "add", "default", "dev", "other", "table", "100")
    host.do("ip", "rule", "add", "from", "198.18.0.2", "lookup", "100")
    code, _document, steps = explain(host, fits, "minecraft")
    assert code == 4 and "by other" in only(steps, "route")["text"]
    tunnel["local"] = "10.9.9.9"  # of a namespace behind a veth
    host.write_status(document)
    assert explain(host, fits, "minecraft")[0] == 0


def test_from_another_namespace(host, fits):
    host.do("ip", "netns", "add", "game1")
    done = host.run("nsenter", "--net=/run/netns/game1", CTL, "-j", "explain", "minecraft")
    steps = {step["step"]: step for step in json.loads(done.stdout)["steps"]}
    assert steps["route"]["result"] == "warn" and "another network namespace" in steps["route"]["text"]
    assert "attached" not in steps


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
    assert (only(steps, "packets")["remedy"] is not None) == (result in ("warn", "fail", "info"))


def test_without_a_status_an_address_is_found_in_the_maps(host, fits, is_error):
    host.do("rm", "/run/ipipdirect/status.json")
    code, document, steps = explain(host, fits, "203.0.113.10")
    assert (code, document["tunnel"]) == (0, None)
    assert "says the pinned map" in only(steps, "row")["text"]
    assert "without a status" in only(steps, "attached")["text"] and "ago" not in only(steps, "agent")["text"]
    assert explain(host, fits, "192.0.2.1")[0] == 0, "two of the rows below it send direct"
    host.add_row("192.0.2.9", None, slot=6, flags=1)
    host.add_row("192.0.2.9", "198.51.100.40", slot=7, inner_source="198.51.100.40", mode=2)
    code, _document, steps = explain(host, fits, "192.0.2.9")
    assert code == 4 and "no row of an inner source" in only(steps, "mode")["text"]
    # A remote is meant before a game server IP is.
    host.add_row("192.0.2.8", "203.0.113.9", slot=8, mode=2)
    host.add_row("203.0.113.9", "203.0.113.9", slot=9)
    assert explain(host, fits, "203.0.113.9")[0] == 0
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
