# SPDX-License-Identifier: MIT
"""stats: what the pinned maps have counted, once and again, with an agent and without."""

import datetime
import json
import re
import subprocess

import pytest

from sandbox import CTL, n_possible_cpus

CPUS = n_possible_cpus()


@pytest.fixture
def counted(sandbox, status):
    """Rows of all kinds, and a status that knows whose they are."""
    sandbox.once()
    sandbox.add_counted_rows()
    document = sandbox.read_status()
    document["entries"] = [entry for entry in status["entries"] if entry["remote"] in ("203.0.113.10", "192.0.2.1")]
    sandbox.write_status(document)
    return sandbox


def cells(text):
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


def test_once(counted):
    done = counted.ctl("stats")
    assert done.returncode == 0
    assert done.stderr == "ipipdirectctl: the agent is not running: what is pinned goes on counting\n"
    assert cells(done.stdout) == [
        ["REMOTE", "INNER SOURCE", "TUNNEL", "DIRECT", "BYTES", "SHADOW", "KEPT", "KEPT BECAUSE"],
        ["192.0.2.1", "-", "(shared)", "0", "0 B", "0", "0", "-"],
        ["203.0.113.10", "-", "minecraft tun0", str(100 * CPUS), f"{150000 * CPUS / 1024:.1f} KiB", "0", "3002",
         "3000 no-next-hop, 2 outer-options, 1 dropped: write-failed"],
        ["192.0.2.1", "198.51.100.30", "csgo tun0", "0", "0 B", "40", "0", "-"],
        ["total", str(100 * CPUS), f"{150000 * CPUS / 1024:.1f} KiB", "40", "3011",
         "3000 no-next-hop, 7 no-entry, 2 outer-options, 2 no-program, 1 dropped: write-failed"],
        ["7", "kept: no-entry"], ["40", "kept: shadow"], ["2", "kept: outer-options"], ["3000", "kept: no-next-hop"],
        ["1", "dropped: write-failed"], ["2", "kept: no-program"]]


def test_of_a_running_agent(sandbox, fits):
    sandbox.start_agent()
    done = sandbox.ctl("stats")
    assert (done.returncode, done.stderr) == (0, "")
    assert "INNER SOURCE" not in done.stdout, "no remote is shared"
    code, document = sandbox.ctl_json("stats")
    assert code == 0
    assert fits("ctl-stats", document)["agent_running"] is True and document["rows"] == []


def test_as_json(counted, fits):
    code, document = counted.ctl_json("stats")
    assert code == 0
    fits("ctl-stats", document)
    assert (document["agent_running"], document["seconds"], document["total"]["rates"]) == (False, None, None)
    assert [(row["remote"], row["inner_source"], row["shared"], row["tunnel"]) for row in document["rows"]] == [
        ("192.0.2.1", None, True, None),
        ("203.0.113.10", None, False, {"netns": "minecraft", "ifname": "tun0"}),
        ("192.0.2.1", "198.51.100.30", False, {"netns": "csgo", "ifname": "tun0"})]
    total = document["total"]["counters"]
    assert (total["direct_packets"], total["direct_bytes"]) == (100 * CPUS, 150000 * CPUS)
    assert {k: v for k, v in total["kept"].items() if v} == {
        "shadow": 40, "outer-options": 2, "no-next-hop": 3000, "write-failed": 1, "no-program": 2}
    assert (document["no_entry_packets"], document["no_program_packets"]) == (7, 2)


def test_of_one_remote(counted, fits, is_error):
    assert [row[0] for row in cells(counted.ctl("stats", "203.0.113.10").stdout)] == [
        "REMOTE", "203.0.113.10", "total", "2", "3000", "1"]
    document = fits("ctl-stats", counted.ctl_json("stats", "192.0.2.1")[1])
    assert [row["inner_source"] for row in document["rows"]] == [None, "198.51.100.30"]
    assert document["total"]["counters"]["kept"]["shadow"] == 40
    assert document["total"]["counters"]["kept"]["no-program"] == 0, "of no row"
    done = counted.ctl("stats", "9.9.9.9")
    assert (done.returncode, done.stdout) == (2, "") and "no row for remote 9.9.9.9" in done.stderr
    code, document = counted.ctl_json("stats", "9.9.9.9")
    assert code == 2
    is_error(document, "not-found")


def test_without_a_status_file(counted, fits):
    counted.do("rm", "/run/ipipdirect/status.json")
    done = counted.ctl("stats")
    assert done.returncode == 0 and "minecraft" not in done.stdout and "3000 no-next-hop" in done.stdout
    assert [row["tunnel"] for row in fits("ctl-stats", counted.ctl_json("stats")[1])["rows"]] == [None] * 3


def test_without_maps(sandbox, is_error):
    code, document = sandbox.ctl_json("stats", "--watch=0.1")
    assert code == 2
    is_error(document, "no-pins")


def watch(sandbox, *args):
    return sandbox.start(CTL, "stats", *args, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)


def test_rates(counted, fits):
    """What is counted between two rounds, over the time between them."""
    with watch(counted, "-j", "--watch=0.5") as process:
        rounds = [fits("ctl-stats", json.loads(process.stdout.readline()))]
        counted.count(1, packets=1100, size=1150000, kept={4: 2, 11: 3500, 14: 1})
        while len(rounds) < 4 or rounds[-1]["rows"][1]["counters"]["kept"]["no-next-hop"] != 3500:
            assert len(rounds) < 100, rounds[-1]
            rounds.append(fits("ctl-stats", json.loads(process.stdout.readline())))
        process.terminate()
    assert rounds[0]["seconds"] is None and rounds[0]["total"]["rates"] is None
    seconds = [document["seconds"] for document in rounds[1:]]
    times = [datetime.datetime.fromisoformat(document["time"].replace("Z", "+00:00")).timestamp() for document in rounds]
    assert seconds == pytest.approx([now - before for before, now in zip(times, times[1:])], abs=0.05)
    rates = [document["rows"][1]["rates"] for document in rounds[1:]]
    packets = sum(rate["direct_packets"] * value for rate, value in zip(rates, seconds))
    assert packets == pytest.approx(1000 * CPUS)
    assert sum(rate["direct_bytes"] * value for rate, value in zip(rates, seconds)) == pytest.approx(1e6 * CPUS)
    assert sum(rate["kept"]["no-next-hop"] * value for rate, value in zip(rates, seconds)) == pytest.approx(500)
    totals = [document["total"]["rates"] for document in rounds[1:]]
    assert sum(rate["direct_packets"] * value for rate, value in zip(totals, seconds)) == pytest.approx(packets)


def test_counters_that_begin_anew_have_no_rate(counted):
    with watch(counted, "-j", "--watch=0.3") as process:
        process.stdout.readline()
        # In one map alone, or it may be seen twice.
        counted.count(1, packets=1, kept={4: 2, 11: 3000, 14: 1})
        rates = []
        while None not in rates[:-3]:
            assert len(rates) < 100
            rates.append(json.loads(process.stdout.readline())["rows"][1]["rates"])
        process.terminate()
    assert rates.count(None) == 1
    assert all(rate["direct_packets"] == 0 for rate in rates if rate)


def test_watch_in_a_pipe_is_lines(counted):
    lines = counted.ctl("stats", "--watch=0.1", "-n", "2").stdout.splitlines()
    assert len(lines) == 8
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (remote=[\d.]+ inner_source=\S+|total) "
                        r"direct_packets=\d+ direct_bytes=\d+ shadow=\d+ kept=\d+( [a-z_-]+=[\d.]+)*$", line)
               for line in lines)
    assert "packets_per_s" not in lines[3] and " packets_per_s=0.0 bits_per_s=0 " in lines[7]
    assert "no-next-hop=3000" in lines[1]


def test_rounds_alone_watch(counted):
    assert len(counted.ctl("stats", "-n", "1").stdout.splitlines()) == 4


def test_watch_on_a_terminal_is_blocks(counted):
    code, output = counted.ctl_on_terminal("stats", "--watch=0.1", "-n", "2", columns=80)
    lines = output.decode("ascii").replace("\r", "").split("\n")
    assert code == 0
    assert sum(bool(re.fullmatch(r"\d{4}-\S+Z", line)) for line in lines) == 2
    assert sum(line.startswith("REMOTE ") and "PKT/S" in line for line in lines) == 2
    assert max(map(len, lines)) <= 80


def test_watch_ends_when_the_maps_go(counted):
    """Half a truth is no success."""
    with watch(counted, "--watch=0.1") as process:
        process.stdout.readline()
        counted.do(CTL, "detach")
        process.stdout.read()
    assert process.returncode == 2


@pytest.mark.parametrize("args", [[], ["--watch=0.1", "-n1"]], ids=str)
def test_fits_80_columns_and_uses_more(counted, args):
    counted.add_row("255.255.255.253", None, slot=7, flags=1)
    counted.add_row("255.255.255.253", "255.255.255.252", slot=8, inner_source="255.255.255.251")
    counted.count(8, packets=123456789, size=12345678901, kept={11: 1000000, 5: 2000})
    for columns in (80, 200):
        _code, output = counted.ctl_on_terminal("stats", *args, columns=columns)
        lines = output.decode("ascii").replace("\r", "").split("\n")
        assert max(map(len, lines)) <= columns
        assert ("minecraft tun0" in output.decode()) == (columns == 200)
        assert "KEPT BECAUSE" in output.decode()
        assert ("1000000 no-next-hop, 2000 outer-fragment" in output.decode()) == (columns == 200 and not args)


def test_hostile_names_do_nothing(counted):
    document = counted.read_status()
    for entry in document["entries"]:
        if entry["tunnel"]:
            entry["tunnel"] = {"netns": "\033]0;evil\a", "ifname": "\u202egnp\n"}
    counted.write_status(document)
    done = counted.ctl("stats")
    assert re.fullmatch(r"[\x20-\x7e\n]*", done.stdout) and r"\x1b]0;evil\x07 \xe2\x80\xaegnp\x0a" in done.stdout


def test_no_permission(counted, is_error):
    is_error(json.loads(counted.ctl_as_nobody("-j", "stats").stdout), "permission")
