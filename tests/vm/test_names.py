# SPDX-License-Identifier: MIT
"""Names are bytes that others choose: of files in /run/netns, of tunnels, of the default interface. Whatever they
are, the tunnels work, programs get the names, and no output does anything to a terminal or to a parser."""

import json
import os
import re
import subprocess

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import agent
from topology import run, wait_for

LOG = "/tmp/names.log"
UPLINK = b"e\x1b[7m\xc2\x9b\"{}"
NAMES = [b"\x1b]0;evil\x07", b"new\nline", b"\xff\xfe\xc3(", b"..%2f..%2fetc", b'"} 1\n# EOF', b"$(reboot)`;'|&",
         b"\xe2\x80\xaegnp.exe", b"\xc2\x9b2J", b"-rf", b"a b\tc\\", b"%s%n%p", b"n" * 254 + b"\xe9"]
DEVICES = [b"t\x1b[31m", b"t\xff\xfe\xfd", b't"}1#', b"t$(id)`", b"t*?[a]~!", b"t\xe2\x80\xae", b"t\xc2\x9b2J",
           b"t\\n'", b"-t", b"t\x07\x08\x7f", b"t,=<>&", b"t" * 15]

COMMANDS = [["status"], ["netns"], ["tunnels"], ["doctor"], ["map", "dump"], ["stats"]]


def remote_of(i):
    return f"203.0.113.{i + 1}"


def as_json(name):
    """As the status spells it: what is not UTF-8 is \\xNN."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 0x80 else f"\\x{byte:02x}" for byte in name)


def as_text(name):
    """As people read it: printable ASCII, of what the status says."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7f else f"\\x{byte:02x}" for byte in as_json(name).encode())


def printable(output):
    return re.fullmatch(rb"[\x20-\x7e\n]*", output)


def ctl(*args):
    return subprocess.run([agent.CTL, *args], capture_output=True, check=False, timeout=60)


@pytest.fixture(scope="module", autouse=True)
def host():
    run("modprobe", "-a", "ipip", "dummy")
    run("ip", "link", "add", UPLINK, "type", "dummy")
    run("ip", "link", "set", UPLINK, "up")
    run("ip", "address", "add", "192.0.2.10/24", "dev", UPLINK)
    run("ip", "route", "add", "default", "via", "192.0.2.1", "dev", UPLINK)
    os.makedirs("/run/netns", exist_ok=True)
    for i, (name, device) in enumerate(zip(NAMES, DEVICES)):
        path = b"/run/netns/" + name
        with open(path, "wb"):
            pass
        run("unshare", b"--net=" + path, "true")
        # `name`: a word before the name, or one like -t would be an option
        run("nsenter", b"--net=" + path, "ip", "link", "add", "name", device, "type", "ipip",
            "remote", remote_of(i), "local", "10.9.9.9")
    with agent.Agent("--log-level", "debug", log=LOG):
        with agent.Remotes() as remotes:
            for i in range(len(NAMES)):
                remotes.wait(remote_of(i), agent.model_a(remote_of(i)))
        wait_for(lambda: len(agent.status()["entries"]) == len(NAMES), "the status with all of them")
        yield
    agent.detach()


def test_programs_get_the_names():
    with open("/run/ipipdirect/status.json", "rb") as file:
        text = file.read()
    document = json.loads(text.decode())  # UTF-8, or this fails
    assert not re.search(rb"[\x00-\x09\x0b-\x1f]", text)
    tunnels = {(tunnel["netns"], tunnel["ifname"], tunnel["state"]) for tunnel in document["tunnels"]
               if tunnel["ifname"] != "tunl0"}
    assert tunnels == {(as_json(name), as_json(device), "mapped") for name, device in zip(NAMES, DEVICES)}
    listed = {name for netns in document["namespaces"] for name in netns["names"]}
    assert listed >= {as_json(name) for name in NAMES}
    assert [interface["name"] for interface in document["interfaces"]] == [as_json(UPLINK)]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_people_read_printable_text(command):
    for options in ([], ["--brief"], ["-j"], ["-p"]):
        done = ctl(*command, *options)
        assert done.returncode in (0, 4), done.stderr
        assert printable(done.stdout + done.stderr), (options, done.stdout + done.stderr)
        if options[-1:] in (["-j"], ["-p"]):
            json.loads(done.stdout)


def test_a_round_of_top_is_printable():
    done = ctl("top", "-n", "1")
    assert done.returncode == 0, done.stderr
    assert printable(done.stdout + done.stderr), done.stdout + done.stderr
    for name in NAMES:
        assert as_text(name)[:8] in done.stdout.decode(), name


@pytest.mark.parametrize("options", [[], ["-j"]], ids=" ".join)
def test_events_tell_every_name(options):
    """Each tunnel goes and comes again, while somebody watches."""
    told, wanted = b"", {(as_text if not options else as_json)(name) for name in NAMES + DEVICES}
    with subprocess.Popen([agent.CTL, *options, "events"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as watcher:
        told += watcher.stdout.readline()  # resync: from here on it is told everything
        for i, (name, device) in enumerate(zip(NAMES, DEVICES)):
            enter = ["nsenter", b"--net=/run/netns/" + name, "ip", "link"]
            run(*enter, "delete", "dev", device)
            run(*enter, "add", "name", device, "type", "ipip", "remote", remote_of(i), "local", "10.9.9.9")
        run("ip", "netns", "add", "last")
        while b"last" not in (line := watcher.stdout.readline()):
            assert line, "the watcher ended"
            told += line
        watcher.terminate()
    run("ip", "netns", "delete", "last")
    # Who watches next must not be told of its end. The file may be of before it came, but not after a resync.
    agent.resync()
    wait_for(lambda: "last" not in [name for netns in agent.status()["namespaces"] for name in netns["names"]], "its end")
    wait_for(lambda: sum(tunnel["state"] == "mapped" for tunnel in agent.status()["tunnels"]) == len(NAMES), "all again")
    if options:
        texts = [text for line in told.splitlines() for text in strings(json.loads(line.decode()))]
        assert wanted <= set(texts), wanted - set(texts)
    else:
        assert printable(told), told
        assert not {name for name in wanted if name not in told.decode()}


def strings(value):
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def test_tables_have_every_name():
    shown = ctl("tunnels").stdout.decode()
    for name, device in zip(NAMES, DEVICES):
        assert as_text(name) in shown and as_text(device) in shown


def test_explain_finds_each_by_its_name():
    for i, name in enumerate(NAMES):
        for word in (remote_of(i), as_json(name)):
            done = ctl("explain", "--", word)
            assert printable(done.stdout + done.stderr)
            assert as_text(DEVICES[i]) in done.stdout.decode(), (word, done.stdout, done.stderr)


def test_metrics_are_parsed():
    done = ctl("metrics")
    assert done.returncode == 0, done.stderr
    labels = [sample.labels for family in text_string_to_metric_families(done.stdout.decode("ascii"))
              for sample in family.samples]
    seen = {label.get("ifname") for label in labels}
    assert seen >= {as_text(device) for device in DEVICES}, seen


def test_the_log_is_printable():
    with open(LOG, "rb") as file:
        log = file.read()
    assert as_text(UPLINK).encode() in log
    assert printable(log), [line for line in log.split(b"\n") if not printable(line)]


def test_a_dry_run_prints_no_escapes():
    done = subprocess.run([agent.AGENT, "--dry-run"], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0
    assert printable(done.stdout + done.stderr), done.stdout + done.stderr
