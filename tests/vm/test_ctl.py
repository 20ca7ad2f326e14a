# SPDX-License-Identifier: MIT
"""The reading commands of ipipdirectctl about a real tunnel with real packets."""

import json
import pathlib
import re
import shlex
import subprocess

import pytest

import agent
import topology
import traffic


@pytest.fixture(scope="module")
def world():
    with topology.World("A") as made:
        with agent.Agent() as running:
            made.agent = running
            send(made, 20)
            yield made
        agent.detach()


def send(world, n):
    """n requests, and as many replies."""
    server = world.servers[1]
    with traffic.UdpServer(server), traffic.udp_client(world) as client:
        for _ in range(n):
            assert traffic.udp_ask(client, server.public)[0] == b"hello"


def ctl(*args):
    done = subprocess.run([agent.CTL, *args], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def ctl_json(*args):
    code, text = ctl("-j", *args)
    return code, json.loads(text)


def by_name(items, key):
    found = {}
    for item in items:
        found.setdefault(item[key], []).append(item)
    return found


def test_explain_says_that_it_works(world):
    code, document = ctl_json("explain", world.servers[1].public)
    assert code == 0, document
    steps = by_name(document["steps"], "step")
    assert document["direct"] and {step["result"] for step in document["steps"]} == {"ok"}
    assert "20 went direct" in steps["packets"][0]["text"]
    assert document["tunnel"]["netns"] in steps["device"][0]["text"]


def test_stats_count_what_was_sent(world):
    code, document = ctl_json("stats", world.servers[1].public)
    assert code == 0
    counters = document["total"]["counters"]
    assert counters["direct_packets"] == 20 and counters["direct_bytes"] == 20 * (20 + 8 + 5)
    assert document["rows"][0]["tunnel"]["ifname"]


def test_rates_of_real_packets(world):
    """Each packet is in the rate of one round; of which one is a matter of how fast the machine sends them."""
    seen = 0
    with subprocess.Popen([agent.CTL, "-j", "stats", "--watch=1", "-n", "60"], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        send(world, 30)
        while round(seen) < 30:
            document = json.loads(process.stdout.readline())
            seen += document["total"]["rates"]["direct_packets"] * document["seconds"]
        process.terminate()
    assert seen == pytest.approx(30)
    code, text = ctl("top", "-n", "1", "-d", "0.2")
    assert code == 0 and world.servers[1].public in text


def ill_checks():
    """Of doctor, but for the POPs' tunnels: whose their namespaces are cannot be seen from here."""
    document = ctl_json("doctor")[1]
    ill = [check for check in document["checks"] if check["result"] in ("warn", "fail")]
    return document, [check for check in ill if check["name"] != "trust" or "nsid-" not in check["text"]]


def test_doctor_finds_nothing(world):
    document, ill = ill_checks()
    assert not ill
    checks = by_name(document["checks"], "name")
    for name in ("kernel", "bpf-jit", "bpffs", "pins", "agent", "attached", "forwarding", "hook-order", "mtu", "offloads"):
        assert [check["result"] for check in checks[name]] == ["ok"], checks[name]


def test_a_tunnel_that_is_too_large_is_found(world):
    (tunnel,) = [t for t in agent.status()["tunnels"] if t["state"] == "mapped"]
    link = ["ip", "-n", tunnel["netns"], "link", "set", tunnel["ifname"], "mtu"]
    subprocess.run([*link, "1500"], check=True)
    code, document = ctl_json("doctor")
    (check,) = by_name(document["checks"], "name")["mtu"]
    assert (code, check["result"]) == (4, "warn") and tunnel["ifname"] in check["text"]
    assert check["remedy"] == " ".join([*link, "1480"])
    subprocess.run(check["remedy"].split(), check=True)
    assert not ill_checks()[1], "the remedy helps"


def test_others_on_the_hook_are_seen(world):
    """A filter of somebody else, on the hook that this kernel uses."""
    subprocess.run("tc qdisc add dev eth0 clsact", shell=True, check=False, stderr=subprocess.DEVNULL)
    subprocess.run("tc filter add dev eth0 egress prio 3 matchall action pass", shell=True, check=True)
    code, document = ctl_json("doctor")
    (check,) = by_name(document["checks"], "name")["hook-order"]
    kind = agent.status()["interfaces"][0]["attachment"]
    subprocess.run("tc filter del dev eth0 egress prio 3", shell=True, check=True)
    assert (check["result"], code) == (("note", 0) if kind == "tcx" else ("warn", 4)), check
    assert ("comes after it" if kind == "tcx" else "priority 3 is before ours") in check["text"]


def test_a_tunnel_in_the_way_of_the_next_hop(world):
    """Forwarding is off: only who needs a route lookup stays on the tunnel, see test_shortcut.py."""
    subprocess.run(["sysctl", "-qw", "net.ipv4.conf.eth0.forwarding=0"], check=True)
    code, document = ctl_json("explain", world.servers[1].public)
    subprocess.run(["sysctl", "-qw", "net.ipv4.conf.eth0.forwarding=1"], check=True)
    assert code == 0
    assert by_name(document["steps"], "step")["forwarding"][0]["result"] == "warn"


def test_metrics(world):
    code, text = ctl("metrics")
    assert code == 0 and text.endswith("# EOF\n")
    assert re.search(r'^ipipdirect_direct_packets_total\{remote="[\d.]+",inner_source="",netns="\w+",ifname="\w+"\} \d+$',
                     text, re.M)
    assert "\nipipdirect_agent_up 1\n" in text and '\nipipdirect_tunnels{state="mapped"} 1\n' in text


def test_the_agents_death_is_told_and_nothing_else_changes(world):
    world.agent.kill()
    code, document = ctl_json("explain", world.servers[1].public)
    assert code == 0 and document["steps"][0]["result"] == "warn"
    before = ctl_json("stats")[1]["total"]["counters"]["direct_packets"]
    send(world, 5)
    assert ctl_json("stats")[1]["total"]["counters"]["direct_packets"] == before + 5
    assert ctl_json("doctor")[0] == 4
    assert "\nipipdirect_agent_up 0\n" in ctl("metrics")[1]


def test_completion_offers_no_tunnel_to_attach_to(world):
    """The ipip module's own device is on this host, as on each that has tunnels."""
    script = pathlib.Path(__file__).parents[2] / "tools" / "completion" / "ipipdirectctl.bash"
    asked = (f'. {shlex.quote(str(script))}; COMP_WORDS=({shlex.quote(agent.CTL)} attach ""); COMP_CWORD=2; _ipipdirectctl; '
             'printf "%s\\n" "${COMPREPLY[@]}"')
    offered = subprocess.run(["bash", "--norc", "-c", asked], capture_output=True, text=True, timeout=60, check=True).stdout.split()
    links = {link["ifname"]: link["link_type"] for link in json.loads(topology.run("ip", "-j", "link"))}
    assert links["tunl0"] == "ipip" and "ether" in links.values()
    assert sorted(offered) == sorted(name for name, kind in links.items() if kind not in ("ipip", "loopback"))
