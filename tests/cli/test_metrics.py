# SPDX-License-Identifier: MIT
"""metrics: judged by Prometheus' own parsers; the rules and the dashboard name what is really there."""

import json
import os
import pathlib
import re
import subprocess
import time

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text

from sandbox import CTL, PINS, n_possible_cpus

ROOT = pathlib.Path(__file__).parents[2]
RULES = ROOT / "tools" / "ipipdirect.rules.yml"
DASHBOARD = ROOT / "tools" / "grafana-dashboard.json"
HOSTILE = "\033]0;evil\a\"\\\n\u202e} 1\n# EOF"
CPUS = n_possible_cpus()


@pytest.fixture(scope="session")
def promtool():
    done = subprocess.run([ROOT / "tests" / "fetch-promtool"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr

    def run(*args, text=""):
        return subprocess.run([done.stdout.strip(), *args], input=text, capture_output=True, text=True, timeout=60,
                              check=False)
    return run


@pytest.fixture
def counted(sandbox, status):
    """Rows of all kinds with all reasons, a status that knows whose they are, and no agent."""
    sandbox.once()
    sandbox.add_counted_rows()
    real = sandbox.read_status()
    status.update(interfaces=real["interfaces"], agent=real["agent"])
    sandbox.write_status(status)
    return sandbox


def families(text, parse=parse_open):
    """{name: family}; each once."""
    found = {}
    for family in parse(text):
        assert family.name not in found
        found[family.name] = family
    return found


def value(found, name, **labels):
    """Of the one sample with these labels."""
    samples = [sample for family in found.values() for sample in family.samples
               if sample.name == f"ipipdirect_{name}" and labels.items() <= sample.labels.items()]
    assert len(samples) == 1, (name, labels)
    return samples[0].value


def metrics(sandbox, *args):
    done = sandbox.ctl("metrics", *args)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_open_metrics(counted):
    text = metrics(counted)
    assert text.endswith("\n# EOF\n") and text.count("# EOF") == 1
    found = families(text)
    for name, family in found.items():
        assert name.startswith("ipipdirect_") and family.documentation, name
        assert family.unit == "" or name.endswith(family.unit), name
    assert found["ipipdirect_direct_bytes"].unit == "bytes"
    row = {"remote": "203.0.113.10", "inner_source": "", "netns": "minecraft", "ifname": "tun0"}
    assert value(found, "direct_packets_total", **row) == 100 * CPUS
    assert value(found, "direct_bytes_total", **row) == 150000 * CPUS
    assert value(found, "kept_packets_total", **row, reason="no-next-hop") == 3000
    assert value(found, "dropped_packets_total", **row) == 1
    assert value(found, "kept_packets_total", inner_source="198.51.100.30", netns="csgo", reason="shadow") == 40
    assert {s.labels["reason"] for s in found["ipipdirect_kept_packets"].samples} == {
        "outer-options", "no-next-hop", "shadow"}
    assert value(found, "unmapped_packets_total", reason="no-entry") == 7
    assert value(found, "unmapped_packets_total", reason="no-program") == 2
    assert value(found, "map_rows", map="remotes") == 2 and value(found, "map_rows", map="sources") == 1
    assert value(found, "map_capacity_rows", map="sources") == 16384
    assert [value(found, "map_rows_without_room", map=name) for name in ("remotes", "sources")] == [1, 0]
    assert [value(found, "tunnels", state=s) for s in ("mapped", "skipped", "conflict")] == [4, 2, 1], "but for tunl0"
    assert (value(found, "namespaces"), value(found, "namespaces_unread")) == (8, 1)
    assert value(found, "interface_attached", interface="wan") == 1
    assert abs(value(found, "last_sync_timestamp_seconds") - time.time()) < 60
    assert value(found, "agent_up") == 0


def test_of_a_running_agent(sandbox):
    sandbox.start_agent()
    found = families(metrics(sandbox))
    assert (value(found, "agent_up"), value(found, "agent_degraded")) == (1, 0)
    assert found["ipipdirect_direct_packets"].samples == [], "declared, before there is a row"


def test_detached_after_the_agent_stopped(sandbox):
    """The status file stays as it was; the alert that wakes somebody must not rest on it."""
    sandbox.once()
    assert value(families(metrics(sandbox)), "interface_attached", interface="wan") == 1
    sandbox.do(CTL, "detach")
    found = families(metrics(sandbox))
    assert value(found, "interface_attached", interface="wan") == 0 and value(found, "agent_up") == 0


def test_what_is_not_known_is_not_there(sandbox):
    """Nothing ever ran here: no sample says 0 for it."""
    found = families(metrics(sandbox))
    assert (value(found, "maps_readable"), value(found, "status_readable"), value(found, "agent_up")) == (0, 0, 0)
    assert set(found) == {"ipipdirect_" + name for name in (
        "build_info", "maps_readable", "status_readable", "agent_up")}


@pytest.mark.parametrize("path, name", [(f"{PINS}/v1/kept", "maps_readable"),
                                        ("/run/ipipdirect/status.json", "status_readable")])
def test_each_works_without_the_other(counted, path, name):
    counted.do("rm", path)
    found = families(metrics(counted))
    assert value(found, name) == 0
    assert ("ipipdirect_direct_packets" in found) == (name == "status_readable")
    assert ("ipipdirect_tunnels" in found) == (name == "maps_readable")


def test_what_may_not_be_read_is_an_error(counted, is_error):
    """Half of it would look like all of it."""
    done = counted.ctl_as_nobody("-j", "metrics")
    assert done.returncode == 2
    is_error(json.loads(done.stdout), "permission")


def test_hostile_names_are_only_labels(counted):
    document = counted.read_status()
    for entry in document["entries"]:
        if entry["tunnel"]:
            entry["tunnel"] = {"netns": HOSTILE, "ifname": HOSTILE}
    document["interfaces"][0]["name"] = HOSTILE
    counted.write_status(document)
    text = metrics(counted)
    assert re.fullmatch(r"[\x20-\x7e\n]*", text)
    label = families(text)["ipipdirect_interface_attached"].samples[0].labels["interface"]
    assert label == r'\x1b]0;evil\x07"\\x0a\xe2\x80\xae} 1\x0a# EOF'
    counted.do(CTL, "metrics", "--textfile", "/run/x.prom")
    assert families(counted.do("cat", "/run/x.prom"), parse_text)["ipipdirect_interface_attached"]


# For node_exporter.


def textfile(sandbox, path="/run/prom/ipipdirect.prom"):
    sandbox.do("mkdir", "-p", "/run/prom")
    assert metrics(sandbox, "--textfile", path) == ""
    return sandbox.do("cat", path)


def test_textfile_is_what_promtool_takes(counted, promtool):
    text = textfile(counted)
    done = promtool("check", "metrics", text=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = promtool("check", "metrics", text=text.replace("# HELP ipipdirect_namespaces ", "# "))
    assert done.returncode != 0, "it judges"


@pytest.mark.parametrize("mask", ["000", "077"])
def test_textfile_is_for_the_group_whoever_writes_it(counted, mask):
    counted.do("sh", "-c", f"umask {mask}; {CTL} metrics --textfile /run/masked.prom")
    assert counted.do("stat", "--format=%a", "/run/masked.prom") == "640\n"


def test_textfile_says_the_same(counted):
    def samples(found):
        return {(s.name, tuple(s.labels.items())): s.value for family in found.values() for s in family.samples}
    assert samples(families(textfile(counted), parse_text)) == samples(families(metrics(counted)))


def test_textfile_is_replaced_in_one_step(counted):
    first = textfile(counted)
    counted.do("sh", "-c", "exec 3</run/prom/ipipdirect.prom; rm -f /run/old; ln /run/prom/ipipdirect.prom /run/old")
    counted.count(1, packets=999)
    assert textfile(counted) != first
    assert counted.do("cat", "/run/old") == first, "a reader of the old file keeps it"
    assert counted.do("ls", "-A", "/run/prom") == "ipipdirect.prom\n"
    assert counted.do("stat", "-c", "%a", "/run/prom/ipipdirect.prom") == "640\n"


def test_textfile_is_not_written_through_a_link(counted):
    counted.do("mkdir", "-p", "/run/prom")
    counted.write("/run/victim", "precious")
    counted.do("ln", "-s", "/run/victim", "/run/prom/ipipdirect.prom")
    counted.do("ln", "-s", "/run/victim", "/run/prom/.ipipdirect.prom.new")
    textfile(counted)
    assert counted.do("cat", "/run/victim") == "precious"
    assert counted.run("test", "-L", "/run/prom/ipipdirect.prom").returncode == 1


@pytest.mark.parametrize("path", ["/run/nowhere/x.prom", "/proc/x.prom", "/run"])
def test_textfile_that_cannot_be_written(counted, is_error, path):
    done = counted.ctl("metrics", "--textfile", path)
    assert (done.returncode, done.stdout) == (2, "") and f"cannot write {path}: " in done.stderr
    code, document = counted.ctl_json("metrics", "--textfile", path)
    assert code == 2 and document["error"]["code"] in ("failed", "permission")


def test_textfile_keeps_the_old_one_when_the_disk_is_full(counted):
    counted.do("mkdir", "-p", "/run/small")
    counted.do("mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", "/run/small")
    counted.do("sh", "-c", "echo old >/run/small/x.prom; head -c 4096 /dev/zero >/run/small/fill")
    done = counted.ctl("metrics", "--textfile", "/run/small/x.prom")
    assert done.returncode == 2 and "No space left" in done.stderr
    assert counted.do("cat", "/run/small/x.prom") == "old\n"
    assert counted.do("ls", "-A", "/run/small") == "fill\nx.prom\n"


# What is shipped for Prometheus and Grafana.


def test_rules_are_what_promtool_takes(promtool):
    done = promtool("check", "rules", str(RULES))
    assert done.returncode == 0 and " rules found" in done.stdout, done.stdout + done.stderr


def names_in(text):
    return set(re.findall(r"\bipipdirect_[a-z_]+", text))


@pytest.mark.parametrize("path", [RULES, DASHBOARD], ids=lambda path: path.name)
def test_every_metric_that_is_named_exists(counted, path):
    real = {sample.name for family in families(metrics(counted)).values() for sample in family.samples}
    named = names_in(path.read_text(encoding="utf-8"))
    assert len(named) > 8 and named <= real, named - real


def test_rules_name_reasons_that_exist():
    reasons = set(re.findall(r'= "([a-z-]+)"', (ROOT / "agent/core/reason.c").read_text(encoding="utf-8")))
    named = re.findall(r'reason[!=~]+"([^"]*)"', RULES.read_text(encoding="utf-8"))
    assert named and {word for text in named for word in text.split("|")} <= reasons


ROW = 'remote="203.0.113.10",inner_source="",netns="game1",ifname="tun0",instance="host"'
KEPT = f'ipipdirect_kept_packets_total{{{ROW},reason="%s"}}'
# An hour of a host where all is well, a value a minute, in promtool's notation. time() starts at 0 there.
HEALTHY = {
    'ipipdirect_agent_up{instance="host"}': "1x60",
    'ipipdirect_last_sync_timestamp_seconds{instance="host"}': "0+60x60",
    'ipipdirect_agent_degraded{instance="host"}': "0x60",
    'ipipdirect_resync_interval_seconds{instance="host"}': "30x60",
    'ipipdirect_interface_attached{instance="host",interface="wan"}': "1x60",
    'ipipdirect_map_rows{instance="host",map="remotes"}': "800x60",
    'ipipdirect_map_capacity_rows{instance="host",map="remotes"}': "1000x60",
    'ipipdirect_map_rows_without_room{instance="host",map="remotes"}': "0x60",
    'ipipdirect_tunnels{instance="host",state="conflict"}': "0x60",
    'ipipdirect_tunnels{instance="host",state="active"}': "800x60",
    'ipipdirect_namespaces_unread{instance="host"}': "0x60",
    f"ipipdirect_dropped_packets_total{{{ROW}}}": "5x60",
    KEPT % "no-next-hop": "0+60x60",
    KEPT % "mode-tunnel": "0+6000x60",  # as somebody wanted it
    f"ipipdirect_direct_packets_total{{{ROW}}}": "0+600x60",
    'ipipdirect_unmapped_packets_total{instance="host",reason="no-program"}': "7x60",
    'ipipdirect_unmapped_packets_total{instance="host",reason="no-entry"}': "0+600x60",
}
OF_ROW = {"remote": "203.0.113.10", "netns": "game1", "ifname": "tun0"}
# For each alert: the series that goes wrong, how, and the labels that the alert has beside the instance.
WRONG = {
    "AgentDown": ('ipipdirect_agent_up{instance="host"}', "0x60", "warning", {}),
    "AgentStale": ('ipipdirect_last_sync_timestamp_seconds{instance="host"}', "0+60x20 1200x40", "warning", {}),
    "Degraded": ('ipipdirect_agent_degraded{instance="host"}', "1x60", "warning", {}),
    "NotAttached": ('ipipdirect_interface_attached{instance="host",interface="wan"}', "0x60", "critical",
                    {"interface": "wan"}),
    "NoInterface": ('ipipdirect_interface_attached{instance="host",interface="wan"}', "_x60", "critical", {}),
    "MapNearlyFull": ('ipipdirect_map_rows{instance="host",map="remotes"}', "801x60", "warning", {"map": "remotes"}),
    "MapFull": ('ipipdirect_map_rows_without_room{instance="host",map="remotes"}', "3x60", "warning", {"map": "remotes"}),
    "Conflicts": ('ipipdirect_tunnels{instance="host",state="conflict"}', "1x60", "warning", {"state": "conflict"}),
    "NamespacesUnread": ('ipipdirect_namespaces_unread{instance="host"}', "1x60", "warning", {}),
    "PacketsDropped": (f"ipipdirect_dropped_packets_total{{{ROW}}}", "0x29 5x30", "critical", OF_ROW),
    "MostlyKept": (KEPT % "no-next-hop", "0+6000x60", "warning", OF_ROW),
    "ProgramIncomplete": ('ipipdirect_unmapped_packets_total{instance="host",reason="no-program"}', "0x29 1x30",
                          "critical", {"reason": "no-program"}),
}


def test_alerts_are_tried_on_series_as_they_are_exported(counted):
    real = {(sample.name, frozenset(sample.labels))
            for family in families(metrics(counted)).values() for sample in family.samples}
    tried = {(series[:series.index("{")], frozenset(re.findall(r'(\w+)="', series)) - {"instance"}) for series in HEALTHY}
    assert tried <= real, tried - real


def expected_alert(name, wrong):
    if name != wrong:
        return []
    _, _, severity, labels = WRONG[name]
    return [{"exp_labels": {"severity": severity, "instance": "host", **labels}}]


@pytest.mark.parametrize("wrong", [None, *WRONG])
def test_alerts(promtool, tmp_path, wrong):
    """As Prometheus evaluates them, on series with the real labels: each for its own trouble, and for no other."""
    rules = RULES.read_text(encoding="utf-8")
    assert re.findall(r"- alert: Ipipdirect(\w+)", rules) == list(WRONG), "one that is never seen to fire"
    series = dict(HEALTHY)
    if wrong:
        name, values, *_ = WRONG[wrong]
        assert name in series
        series[name] = values
    tests = [{"interval": "1m", "input_series": [{"series": k, "values": v} for k, v in series.items()],
              "alert_rule_test": [{"eval_time": "40m", "alertname": f"Ipipdirect{name}",
                                   "exp_alerts": expected_alert(name, wrong)} for name in WRONG]}]
    path = tmp_path / "test.yml"  # JSON is YAML
    bare = tmp_path / "rules.yml"  # without annotations, which would have to be spelt out here again
    bare.write_text(re.sub(r"(?m)^ +annotations:\n(?: {10}.*\n?)+", "", rules), encoding="utf-8")
    path.write_text(json.dumps({"rule_files": [os.fspath(bare)], "tests": tests}), encoding="utf-8")
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
