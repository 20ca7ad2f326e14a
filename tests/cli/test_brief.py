# SPDX-License-Identifier: MIT
"""-br and --no-legend: one short line an object, and tables without titles."""

import json
import re

import pytest

from sandbox import ctl_outside


@pytest.fixture(name="host", scope="module")
def fixture_host():
    """Made once: nothing here changes it."""
    from sandbox import Sandbox  # pylint: disable=import-outside-toplevel
    from schemas import EXAMPLES, load  # pylint: disable=import-outside-toplevel
    sandbox = Sandbox()
    sandbox.once()
    sandbox.add_rows()
    sandbox.count(3, kept={2: 40, 11: 2})
    real, document = sandbox.read_status(), load(EXAMPLES / "status.json")
    document.update(interfaces=real["interfaces"])
    document["agent"] = real["agent"]
    sandbox.write_status(document)
    holder = sandbox.hold_lock()
    yield sandbox
    holder.stdin.close()
    holder.wait(30)
    holder.stdout.close()
    sandbox.close()


def rows(host, *args, **env):
    return [re.split(r"\s{2,}", line.strip()) for line in host.ctl(*args, env=env).stdout.splitlines()]


def test_status(host):
    assert rows(host, "-br", "status") == [
        ["ok", "1/1 attached", "4 of 8 tunnels mapped", "7 rows", "0 direct", "42 kept"]]


def test_netns(host):
    lines = rows(host, "-br", "netns")
    assert lines[0] == ["host", "host", "1", "ok"]
    assert ["broken.service", "other", "0", "Permission denied"] in lines


def test_tunnels(host):
    assert rows(host, "-br", "tunnels") == [
        ["minecraft", "tun0", "direct", "203.0.113.10", "203.0.113.10"],
        ["valheim", "tun0", "direct", "192.0.2.1", "198.51.100.20,198.51.100.21"],
        ["csgo", "tun0", "shadow", "192.0.2.1", "198.51.100.30"],
        ["copy-of-csgo", "tun0", "conflict", "192.0.2.2", "198.51.100.30"],
        ["rust", "fou0", "skipped", "203.0.113.40", "-"],
        ["rust", "spare0", "direct", "203.0.113.41", "203.0.113.41"],
        ["unshared", "tun0", "skipped", "203.0.113.10", "-"]]


def test_map(host):
    assert rows(host, "-br", "map", "dump") == [
        ["192.0.2.1", "-", "-", "shared"], ["203.0.113.10", "-", "203.0.113.10", "direct"],
        ["192.0.2.1", "198.51.100.30", "198.51.100.30", "shadow"]]
    assert rows(host, "map", "get", "-br", "203.0.113.10") == [["203.0.113.10", "-", "203.0.113.10", "direct"]]


def test_stats(host):
    assert rows(host, "stats", "-br") == [
        ["192.0.2.1", "-", "0", "0", "0", "0"], ["203.0.113.10", "-", "0", "0", "0", "0"],
        ["192.0.2.1", "198.51.100.30", "0", "0", "40", "2"]]
    assert rows(host, "stats", "-br", "203.0.113.10") == [["203.0.113.10", "-", "0", "0", "0", "0"]]


def test_explain(host):
    (line,) = rows(host, "-br", "explain", "csgo")
    assert line[:2] == ["csgo tun0", "tunnel"] and line[2].startswith("mode: shadow: ")
    host.do("sysctl", "-qw", "net.ipv4.ip_forward=1")
    assert rows(host, "-br", "explain", "minecraft") == [["minecraft tun0", "direct"]]


def test_doctor(host):
    def timeless(text):
        return re.sub(r"\w+ ago", "", text)
    checks = json.loads(timeless(host.ctl("-j", "doctor").stdout))["checks"]
    lines = [re.split(r"\s{2,}", timeless(line)) for line in host.ctl("-br", "doctor").stdout.splitlines()]
    assert lines == [[check["result"], check["name"], check["text"]] for check in checks]
    assert max(map(len, host.ctl("-br", "doctor", env={"COLUMNS": "80"}).stdout.splitlines())) == 80


@pytest.mark.parametrize("command", [["netns"], ["tunnels"], ["map", "dump"], ["stats"], ["top", "-n1", "-d0.1"]],
                         ids=" ".join)
def test_no_legend_leaves_out_the_titles_only(host, command):
    def normal(words):
        return re.sub(r"\d\d:\d\d:\d\d", "", host.ctl(*words).stdout)
    full = [line.split() for line in normal(command).splitlines()]
    (title,) = [line for line in full if {"REMOTE", "NSID"} & set(line)]
    full.remove(title)
    assert [line.split() for line in normal([*command, "--no-legend"]).splitlines()] == full


@pytest.mark.parametrize("command", [["tunnels"], ["map", "dump"], ["stats"], ["explain", "csgo"]], ids=" ".join)
def test_json_is_the_same(host, command):
    def stable(*options):
        text = host.ctl("-j", *options, *command).stdout
        return re.sub(r'"(time|file_age)":[^,}]*|\w+ ago', "", text)
    assert stable("-br", "--no-legend") == stable() != ""


def test_spellings():
    for word in ("-br", "--brief", "--br"):
        assert ctl_outside(word, "version").returncode == 0
    done = ctl_outside("version", "--", "-br")
    assert done.returncode == 1 and "'-br'" in done.stderr
