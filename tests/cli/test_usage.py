# SPDX-License-Identifier: MIT
"""The command line: help, abbreviations, wrong usage, the form of errors. Touches nothing."""

import json
import subprocess

import pytest

from sandbox import CTL, ctl_outside

COMMANDS = [["status"], ["netns"], ["tunnels"], ["map", "dump"], ["map", "get"], ["stats"], ["top"], ["explain"], ["doctor"],
            ["metrics"], ["events"], ["config", "check"], ["reload"], ["mode"], ["resync"], ["attach"], ["detach"], ["version"]]


def assert_usage(done, *words):
    assert (done.returncode, done.stdout) == (1, "")
    first, hint = done.stderr.splitlines()
    assert first.startswith("ipipdirectctl: ")
    assert hint.startswith("hint: try 'ipipdirectctl ") and hint.endswith("--help'")
    for word in words:
        assert word in first


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["-jh"]])
def test_help_lists_every_command(args):
    done = ctl_outside(*args)
    assert (done.returncode, done.stderr) == (0, "")
    for command in COMMANDS:
        assert f"\n  {' '.join(command)}" in done.stdout
    for option in ("--json", "--pretty", "--brief", "--no-legend", "--help", "--version"):
        assert option in done.stdout


@pytest.mark.parametrize("command", COMMANDS + [["map"], ["config"]], ids=" ".join)
def test_help_of_a_command(command):
    done = ctl_outside(*command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: ipipdirectctl {' '.join(command)} ")
    assert done.stdout == ctl_outside("--help", *command).stdout


@pytest.mark.parametrize("command", [[], *COMMANDS, ["map"], ["config"]], ids=" ".join)
def test_help_fits_80_columns(command):
    for line in ctl_outside(*command, "--help").stdout.splitlines():
        assert len(line) < 80, line


def test_help_names_every_option_that_is_taken():
    assert "--force" in ctl_outside("detach", "-h").stdout
    assert "--status-file" in ctl_outside("status", "-h").stdout
    assert "--status-file" in ctl_outside("tunnels", "-h").stdout
    assert "--status-file" in ctl_outside("netns", "-h").stdout
    assert "--force" not in ctl_outside("status", "-h").stdout


@pytest.mark.parametrize("short, command", [
    (["statu"], "status"), (["stats"], "stats"), (["tu"], "tunnels"), (["to"], "top"), (["n"], "netns"),
    (["map", "d"], "map dump"), (["ma", "g"], "map get"), (["de"], "detach"), (["do"], "doctor"), (["ex"], "explain"),
    (["v"], "version"), (["c", "c"], "config check"), (["rel"], "reload"),
    (["res"], "resync"), (["mo"], "mode"), (["ev"], "events")], ids=str)
def test_abbreviations(short, command):
    assert ctl_outside(*short, "-h").stdout.startswith(f"Usage: ipipdirectctl {command} ")


def test_no_command():
    assert_usage(ctl_outside(), "expected a command", "status", "map")


@pytest.mark.parametrize("args, words", [
    (["nothing"], ["unknown command 'nothing'"]),
    ([""], ["unknown command ''"]),
    (["statuss"], ["unknown command 'statuss'"]),
    (["map"], ["map", "dump", "get"]),
    (["map", "x"], ["'map x'", "dump", "get"]),
    (["map", "get"], ["REMOTE"]),
    (["map", "get", "1.2.3.4", "1.2.3.5", "1.2.3.6"], ["'1.2.3.6'"]),
    (["map", "get", "1.2.3"], ["'1.2.3'", "address"]),
    (["map", "get", "0.0.0.0"], ["'0.0.0.0'"]),
    (["map", "get", "::1"], ["'::1'"]),
    (["map", "get", "1.2.3.4", "game1"], ["'game1'"]),
    (["map", "dump", "1.2.3.4"], ["'1.2.3.4'"]),
    (["config"], ["config", "check"]),
    (["config", "show"], ["'config show'", "check"]),
    (["config", "check", "a", "b"], ["'b'"]),
    (["reload", "x"], ["'x'"]),
    (["reload", "--force"], ["--force"]),
    (["status", "x"], ["'x'"]),
    (["version", "x"], ["'x'"]),
    (["status", "--force"], ["--force"]),
    (["map", "dump", "--status-file", "x"], ["--status-file"]),
    (["stat"], ["'stat' is ambiguous", "status", "stats"]),
    (["d"], ["'d' is ambiguous", "doctor", "detach"]),
    (["m", "d"], ["'m' is ambiguous", "map", "metrics"]),
    (["e"], ["'e' is ambiguous", "explain", "events"]),
    (["re"], ["'re' is ambiguous", "reload", "resync"]),
    (["events", "x"], ["'x'"]),
    (["resync", "x"], ["'x'"]),
    (["resync", "--until-reload"], ["--until-reload"]),
    (["mode", "game1"], ["NETNS IFNAME MODE"]),
    (["mode", "game1", "tun0", "sideways"], ["'sideways'", "direct, shadow, tunnel or default"]),
    (["mode", "game1", "tun0", "direct", "x"], ["'x'"]),
    (["metrics", "x"], ["'x'"]),
    (["metrics", "--textfile"], ["'--textfile' needs an argument"]),
    (["status", "--textfile", "x"], ["--textfile"]),
    (["t"], ["'t' is ambiguous", "tunnels", "top"]),
    (["top", "x"], ["'x'"]),
    (["top", "--sort", "x"], ["--sort", "'x'"]),
    (["top", "--sort", ""], ["--sort", "''"]),
    (["top", "-d", "0"], ["--delay", "'0'"]),
    (["top", "--watch"], ["--watch"]),
    (["status", "--sort", "b"], ["--sort"]),
    (["explain"], ["WORD"]),
    (["doctor", "x"], ["'x'"]),
    (["explain", "a", "b", "c"], ["'c'"]),
    (["stats", "1.2.3"], ["'1.2.3'", "address"]),
    (["stats", "--watch=0"], ["--watch", "'0'"]),
    (["stats", "--watch=nan"], ["--watch"]),
    (["stats", "--watch=1x"], ["--watch"]),
    (["stats", "--watch=3601"], ["--watch"]),
    (["stats", "-n", "0"], ["--rounds"]),
    (["stats", "--rounds=-1"], ["--rounds"]),
    (["stats", "-n"], ["'-n' needs an argument"]),
    (["status", "-n", "1"], ["--rounds"]),
    (["status", "--watch"], ["--watch"]),
    (["status", "-x"], ["'-x'"]),
    (["-xj", "--nothing"], ["'-x'"]),
    (["--nothing", "status"], ["'--nothing'"]),
    (["status", "-b"], ["'-b'"]),
    (["status", "--brief=yes"], ["--brief"]),
    (["status", "--json=yes"], ["--json"]),
    (["status", "--status-file"], ["'--status-file' needs an argument"]),
], ids=str)
def test_wrong_usage(args, words, is_error):
    if not any(arg.startswith("-") and "j" in arg for arg in args if not arg.startswith("--")):
        assert_usage(ctl_outside(*args), *words)
    for with_json in (["-j", *args], [*args, "-j"], ["-p", *args]):
        if with_json[-2] in ("--status-file", "-n", "--textfile") and not with_json[-1].isdigit():
            continue  # -j is its argument
        done = ctl_outside(*with_json)
        assert (done.returncode, done.stderr) == (1, "")
        is_error(json.loads(done.stdout), "usage")
        for word in words:
            assert word in json.loads(done.stdout)["error"]["message"]


def test_a_dash_dash_ends_the_options():
    assert_usage(ctl_outside("version", "--", "-j"), "'-j'")


def test_nothing_from_the_command_line_reaches_a_terminal_raw():
    done = ctl_outside("\033]0;evil\a\u202e\n")
    assert_usage(done, "\\x1b]0;evil\\x07\\xe2\\x80\\xae\\x0a")


def test_bytes_that_are_not_utf8_are_still_json(is_error):
    done = ctl_outside("-j", b"\xff\xfe")
    is_error(json.loads(done.stdout), "usage")
    assert done.stdout.isascii()


@pytest.mark.parametrize("args", [["version"], ["--version"], ["-V"], ["ver"]], ids=str)
def test_version(args):
    done = ctl_outside(*args)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ipipdirectctl ") and len(done.stdout.split()) == 2


@pytest.mark.parametrize("args", [["-j", "version"], ["version", "--json"], ["-p", "version"], ["-V", "-p"]], ids=str)
def test_version_as_json(args, fits):
    document = fits("ctl-version", json.loads(ctl_outside(*args).stdout))
    assert document["version"] == ctl_outside("version").stdout.split()[1]


def test_pretty_is_for_reading_and_plain_is_one_line():
    pretty, plain = ctl_outside("version", "-p").stdout, ctl_outside("version", "-j").stdout
    assert json.loads(pretty) == json.loads(plain)
    assert len(plain.splitlines()) == 1 and " " not in plain.replace('": ', "")
    assert len(pretty.splitlines()) > 4


@pytest.mark.parametrize("args", [["version"], ["-j", "version"], ["--help"]], ids=str)
def test_output_that_cannot_be_written_is_no_success(args):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([CTL, *args], stdout=full, stderr=subprocess.PIPE, text=True,
                              timeout=30, check=False)
    assert done.returncode == 2
    assert "cannot write the output" in done.stderr
