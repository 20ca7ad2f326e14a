# SPDX-License-Identifier: MIT
"""map dump and map get, on maps that the real agent pinned. No agent runs here."""

import ipaddress
import json
import re

import pytest

import sandbox as sandbox_module
from sandbox import PINS


@pytest.fixture
def maps(sandbox):
    """Pinned maps, empty."""
    sandbox.once()
    return sandbox


@pytest.fixture
def rows(maps):
    """A row for private sources, a drained one, and a shared remote with two sources."""
    maps.add_row("203.0.113.10", "203.0.113.10", slot=1, flags=sandbox_module.FLAG_PRIVATE_SOURCE)
    maps.add_row("203.0.113.9", "198.51.100.9", slot=2, mode=2)
    maps.add_row("192.0.2.1", None, slot=3, flags=1)
    maps.add_row("192.0.2.1", "198.51.100.20", slot=4, inner_source="198.51.100.20")
    maps.add_row("192.0.2.1", "198.51.100.21", slot=5, inner_source="10.0.0.5", mode=1)
    maps.count(0, kept={0: 7})
    maps.count(1, packets=100, size=150000, kept={11: 3, 4: 2, 14: 1})
    maps.count(5, kept={2: 40})
    return maps


def table(text):
    """The rows of a table as {title: cell}."""
    title, *lines = text.splitlines()
    starts = [match.start() for match in re.finditer(r"(?:^|(?<=  ))\S", title)]
    right = {"SLOT", "DIRECT", "BYTES", "KEPT"}
    names = re.split(r"\s{2,}", title.strip())
    assert len(starts) == len(names)
    result = []
    for line in lines:
        cells = re.split(r"\s{2,}", line.strip())
        assert len(cells) == len(names), line
        result.append(dict(zip(names, cells)))
        for name, start in zip(names, starts):
            if name not in right:
                assert line[start] != " " and (start == 0 or line[start - 1] == " "), "not aligned"
    return result


def test_no_rows_is_fine(maps, fits):
    done = maps.ctl("map", "dump")
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)
    status, document = maps.ctl_json("map", "dump")
    assert status == 0
    assert fits("ctl-map", document)["entries"] == []
    assert document["max_rows"] == 16384


def test_dump(rows):
    done = rows.ctl("map", "dump")
    assert (done.returncode, done.stderr) == (0, "")
    cpus = sandbox_module.n_possible_cpus()
    found = table(done.stdout)
    assert [(row["REMOTE"], row["INNER SOURCE"]) for row in found] == [
        ("192.0.2.1", "-"), ("203.0.113.9", "-"), ("203.0.113.10", "-"),
        ("192.0.2.1", "10.0.0.5"), ("192.0.2.1", "198.51.100.20")]
    assert found[0] == {"REMOTE": "192.0.2.1", "INNER SOURCE": "-", "GAME SERVER IP": "(shared)", "MODE": "-",
                        "FLAGS": "shared", "SLOT": "3", "DIRECT": "0", "BYTES": "0", "KEPT": "0"}
    assert found[1]["MODE"] == "tunnel"
    assert found[2] == {"REMOTE": "203.0.113.10", "INNER SOURCE": "-", "GAME SERVER IP": "203.0.113.10",
                        "MODE": "direct", "FLAGS": "private-source", "SLOT": "1", "DIRECT": str(100 * cpus),
                        "BYTES": str(150000 * cpus), "KEPT": "5"}
    assert (found[3]["MODE"], found[3]["KEPT"]) == ("shadow", "40")


def test_dump_as_json(rows, fits):
    status, document = rows.ctl_json("map", "dump")
    assert status == 0
    fits("ctl-map", document)
    cpus = sandbox_module.n_possible_cpus()
    assert document["no_entry_packets"] == 7
    plain = document["entries"][2]
    assert plain["counters"]["direct_packets"] == 100 * cpus
    assert plain["counters"]["direct_bytes"] == 150000 * cpus
    assert {k: v for k, v in plain["counters"]["kept"].items() if v} == {
        "no-next-hop": 3, "outer-options": 2, "write-failed": 1}
    assert [(e["remote"], e["inner_source"], e["game_server_ip"], e["shared"], e["mode"], e["slot"], e["flags"])
            for e in document["entries"]] == [
        ("192.0.2.1", None, None, True, "direct", 3, 1),
        ("203.0.113.9", None, "198.51.100.9", False, "tunnel", 2, 0),
        ("203.0.113.10", None, "203.0.113.10", False, "direct", 1, 256),
        ("192.0.2.1", "10.0.0.5", "198.51.100.21", False, "shadow", 5, 0),
        ("192.0.2.1", "198.51.100.20", "198.51.100.20", False, "direct", 4, 0)]
    assert [e["remote"] for e in document["entries"] if e["private_source"]] == ["203.0.113.10"]


def test_dump_fits_80_columns_and_uses_more(rows):
    rows.add_row("255.255.255.254", "255.255.255.254", slot=6)
    rows.add_row("255.255.255.253", None, slot=7, flags=1)
    rows.add_row("255.255.255.253", "255.255.255.252", slot=8, inner_source="255.255.255.251")
    rows.count(8, packets=123456789, size=12345678901)
    narrow = rows.ctl("map", "dump", env={"COLUMNS": "80"}).stdout
    assert max(map(len, narrow.splitlines())) <= 80
    assert {"REMOTE", "INNER SOURCE", "GAME SERVER IP", "MODE", "DIRECT", "KEPT"} <= set(table(narrow)[0])
    wide = rows.ctl("map", "dump", env={"COLUMNS": "200"}).stdout
    assert "FLAGS" in wide and "SLOT" in wide and "BYTES" in wide
    assert wide == rows.ctl("map", "dump").stdout, "a pipe has no width"


def test_dump_of_many_rows_is_complete_and_sorted(maps):
    remotes = [str(ipaddress.ip_address("203.0.112.0") + i) for i in range(1, 1000)]
    batch = "".join(
        f"map update pinned {PINS}/v1/remotes key {' '.join(map(str, ipaddress.ip_address(remote).packed))}"
        f" value 198 51 100 1 {slot % 256} {slot // 256} 0 0 0 0 0 0 0 0 0 0\n"
        for slot, remote in enumerate(remotes, 1))
    maps.write("/run/batch", batch)
    maps.do("bpftool", "batch", "file", "/run/batch")
    _status, document = maps.ctl_json("map", "dump")
    assert [(e["remote"], e["slot"]) for e in document["entries"]] == [
        (remote, slot) for slot, remote in enumerate(remotes, 1)]


def test_numbers_that_this_version_does_not_know_are_shown(maps, fits):
    maps.add_row("203.0.113.10", "203.0.113.10", slot=1, mode=9, flags=6)
    row = table(maps.ctl("map", "dump").stdout)[0]
    assert (row["MODE"], row["FLAGS"]) == ("?", "0x6")
    document = fits("ctl-map", maps.ctl_json("map", "dump")[1])
    assert (document["entries"][0]["mode"], document["entries"][0]["flags"]) == ("?", 6)


def test_get(rows):
    done = rows.ctl("map", "get", "203.0.113.10")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(maxsplit=1)[0] for line in done.stdout.splitlines()] == [
        "remote", "inner", "game", "mode", "flags", "slot", "direct", "kept", "3", "dropped"]
    assert re.search(r"^kept +2 outer-options\n +3 no-next-hop\ndropped +1 write-failed$", done.stdout, re.M)


def test_get_as_json(rows, fits):
    status, document = rows.ctl_json("map", "get", "203.0.113.10")
    assert status == 0
    assert [e["remote"] for e in fits("ctl-map", document)["entries"]] == ["203.0.113.10"]
    assert document["entries"] == [rows.ctl_json("map", "dump")[1]["entries"][2]]


def test_get_of_a_shared_remote_shows_all_its_sources(rows, fits):
    done = rows.ctl("map", "get", "192.0.2.1")
    assert done.returncode == 0
    assert done.stdout.count("remote ") == 3 and "the inner source decides" in done.stdout
    document = fits("ctl-map", rows.ctl_json("map", "get", "192.0.2.1")[1])
    assert [e["inner_source"] for e in document["entries"]] == [None, "10.0.0.5", "198.51.100.20"]


def test_get_of_an_inner_source(rows, fits):
    document = fits("ctl-map", rows.ctl_json("map", "get", "192.0.2.1", "10.0.0.5")[1])
    assert [e["game_server_ip"] for e in document["entries"]] == ["198.51.100.21"]
    assert "198.51.100.21" in rows.ctl("map", "get", "192.0.2.1", "10.0.0.5").stdout


@pytest.mark.parametrize("args, hint", [
    (["203.0.113.99"], "map dump"),
    (["203.0.113.99", "10.0.0.5"], "map dump"),
    (["192.0.2.1", "10.0.0.6"], "map get 192.0.2.1"),
    (["203.0.113.10", "10.0.0.5"], "not shared, its row serves private inner sources"),
    (["203.0.113.9", "10.0.0.5"], "not shared, its row serves every inner source"),
], ids=str)
def test_get_of_what_is_not_there(rows, is_error, args, hint):
    done = rows.ctl("map", "get", *args)
    assert (done.returncode, done.stdout) == (2, "")
    message, hint_line = done.stderr.splitlines()
    assert message.startswith("ipipdirectctl: no row for remote " + args[0])
    assert hint_line.startswith("hint: ") and hint in hint_line
    status, document = rows.ctl_json("map", "get", *args)
    assert status == 2
    is_error(document, "not-found")


@pytest.mark.parametrize("command", [["map", "dump"], ["map", "get", "203.0.113.10"]], ids=" ".join)
class TestNoMaps:
    """Each cause has its own hint."""

    def fails(self, sandbox, is_error, command, code, hint, prefix=()):
        done = sandbox.run(*prefix, sandbox_module.CTL, *command)
        assert (done.returncode, done.stdout) == (2, "")
        assert hint in done.stderr
        done = sandbox.run(*prefix, sandbox_module.CTL, "-j", *command)
        assert (done.returncode, done.stderr) == (2, "")
        is_error(json.loads(done.stdout), code)

    def test_agent_never_ran(self, sandbox, is_error, command):
        self.fails(sandbox, is_error, command, "no-pins", "systemctl start")

    def test_hidden_by_ip_netns_exec(self, maps, is_error, command):
        maps.do("ip", "netns", "add", "game1")
        self.fails(maps, is_error, command, "no-bpffs", "nsenter --net=", ["ip", "netns", "exec", "game1"])
        # … and the hint is right
        assert maps.run("nsenter", "--net=/run/netns/game1", sandbox_module.CTL, "map", "dump").returncode == 0

    def test_one_map_is_missing(self, maps, is_error, command):
        maps.do("rm", f"{PINS}/v1/kept")
        self.fails(maps, is_error, command, "no-pins", "systemctl start")

    def test_a_map_of_another_layout(self, maps, is_error, command):
        maps.do("rm", f"{PINS}/v1/sources")
        maps.do("bpftool", "map", "create", f"{PINS}/v1/sources", "type", "hash", "key", "8", "value", "12",
                "entries", "16384", "name", "sources")
        self.fails(maps, is_error, command, "pins-invalid", "version")

    def test_no_permission(self, maps, is_error, command):
        done = maps.ctl_as_nobody(*command)
        assert (done.returncode, done.stdout) == (2, "")
        assert "run as root or as a member of group ipipdirect" in done.stderr
        is_error(json.loads(maps.ctl_as_nobody("-j", *command).stdout), "permission")
