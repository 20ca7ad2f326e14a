# SPDX-License-Identifier: MIT
"""Modes, ports and exemptions on the wire, changed by SIGHUP while the program stays attached."""

import ipaddress
import json
import shutil
import signal
import struct
import subprocess

import pytest

import agent
import faults
import fleet
import injection
import kernel
import topology
import traffic

CONFIG = "/tmp/policy.json"
PORT, OTHER_PORT = 27015, 27016
WIDE = str(ipaddress.ip_network(topology.CLIENT + "/24", strict=False))
A2S_INFO = b"\xff\xff\xff\xff\x49"


@pytest.fixture(scope="module")
def world():
    with topology.World("A") as made:
        write({})
        made.agent = agent.Agent("--config", CONFIG)
        yield made
        made.agent.stop()
        agent.detach()


def write(config):
    with open(CONFIG, "w", encoding="utf-8") as file:
        json.dump(config, file)


def configure(world, config):
    """Reloads, and waits until a pass was made after it."""
    write(config)
    program = agent.status()["interfaces"][0]["program_id"]
    world.agent.process.send_signal(signal.SIGHUP)
    agent.resync()
    assert agent.status()["interfaces"][0]["program_id"] == program, "the program was reloaded"


def way(world, port=PORT, reply=b"hello"):
    return traffic.way_of_a_reply(world, world.servers[1], reply, port)


def kept(reason):
    (entry,) = agent.live_entries()
    return entry["counters"]["kept"][reason]


def test_direct_without_any_policy(world):
    configure(world, {})
    assert way(world) == "direct"


def test_mode_shadow_counts_and_changes_nothing(world):
    configure(world, {"mode": "shadow"})
    before = kept("shadow")
    assert way(world) == "tunnel"
    assert kept("shadow") == before + 1


def test_mode_tunnel_drains(world):
    configure(world, {"mode": "tunnel"})
    before = kept("mode-tunnel")
    assert way(world) == "tunnel"
    assert kept("mode-tunnel") == before + 1


def test_server_ports(world):
    configure(world, {"server_ports": [PORT]})
    before = kept("server-port")
    assert way(world, PORT) == "direct"
    assert way(world, OTHER_PORT) == "tunnel"
    assert kept("server-port") == before + 1
    configure(world, {"server_ports": ["27000-27015", "27016-27100"]})
    assert way(world, OTHER_PORT) == "direct"


def test_exempt_queries(world):
    configure(world, {"exempt": ["a2s-info"]})
    before = kept("exempt-query")
    assert way(world, reply=A2S_INFO + b"name\0map\0") == "tunnel"
    assert way(world, reply=b"\xff\xff\xff\xff\x44players") == "direct"
    assert way(world, reply=A2S_INFO[:4]) == "direct"
    assert kept("exempt-query") == before + 1


def test_exempt_clients(world):
    configure(world, {"exempt_clients": [topology.CLIENT + "/32"]})
    before = kept("exempt-client")
    assert way(world) == "tunnel"
    assert kept("exempt-client") == before + 1
    configure(world, {"exempt_clients": ["192.0.2.0/24"]})
    assert way(world) == "direct"


def others(n, network):
    """So many clients' prefixes, of a /8 of that number."""
    return [f"{network}.{number >> 8}.{number & 0xff}.0/24" for number in range(n)]


def test_one_list_of_exempt_clients_for_another(world):
    """There is no room for both. Who is exempt by either, if by another prefix, does not go direct for an instant."""
    lists = [[WIDE] + others(3999, 10), [topology.CLIENT + "/32"] + others(3999, 11)]
    configure(world, {"exempt_clients": lists[0]})
    with traffic.UdpServer(world.servers[1]), traffic.Unharmed(world, all_direct=False) as replies:
        before = world.counters()
        for i in range(1, 5):
            configure(world, {"exempt_clients": lists[i % 2]})
        replies.more()
        after = world.counters()
    assert after["host_direct"] == before["host_direct"] and after["host_ipip"] > before["host_ipip"]
    for network in (12, 13):  # as long as a list may be
        configure(world, {"exempt_clients": [topology.CLIENT + "/32"] + others(4095, network)})
        assert way(world) == "tunnel" and agent.status()["agent"]["state"] == "ok"
    configure(world, {})
    assert way(world) == "direct"


def test_exempt_clients_that_cannot_be_written(world):
    """Then what is to change does not go direct: it is not known who may."""
    clients = kernel.PinnedMap(f"{agent.PINS}/v1/exempt_clients", 1)
    kernel.bpf(kernel.BPF_MAP_FREEZE, struct.pack("=I", clients.fd))
    clients.close()
    write({"exempt_clients": ["192.0.2.0/24"]})
    world.agent.process.send_signal(signal.SIGHUP)
    topology.wait_for(lambda: any("the last pass failed" in text for text in agent.status()["agent"]["problems"]), "it is told")
    before = kept("mode-tunnel")
    assert way(world) == "tunnel" and kept("mode-tunnel") == before + 1
    # Nor who comes only now.
    with fleet.Fleet(1, uplink=False) as ships:
        topology.wait_for(lambda: "mapped" in [t["state"] for t in agent.status()["tunnels"] if t["netns"] == "s0"], "it is seen")
        subprocess.run([agent.CTL, "resync"], check=False, stdout=subprocess.DEVNULL)
        assert ships.remotes[0] not in [remote for remote, _source in agent.map_now()]
    shutil.rmtree(agent.PINS)
    subprocess.run([agent.CTL, "attach"], check=False, stdout=subprocess.DEVNULL)
    topology.wait_for(lambda: agent.status()["agent"]["state"] == "ok", "maps that can be written", 30)
    assert way(world) == "direct"


def entry_of(remote):
    (entry,) = [entry for entry in agent.live_entries() if entry["remote"] == remote]
    return entry


def test_a_new_row_counts_from_nothing(world):
    """Whatever the one counted that had its place before."""
    with fleet.Fleet(1, uplink=False) as ships:
        agent.resync()
        slot = entry_of(ships.remotes[0])["slot"]
        for name, words in (("kept", 32), ("counters", 2 * kernel.possible_cpus())):
            topology.run("bpftool", "map", "update", "pinned", f"{agent.PINS}/v1/{name}", "key", *map(str, struct.pack("=I", slot)),
                         "value", *map(str, struct.pack("=Q", 7) * words))
        assert entry_of(ships.remotes[0])["counters"]["direct_packets"] > 0
    for _ in range(2):  # it is free when the plan is over that removed the row
        agent.resync()
    with fleet.Fleet(1, uplink=False, first_remote=fleet.FIRST_REMOTE + 100) as ships:
        agent.resync()
        entry = entry_of(ships.remotes[0])
    assert entry["slot"] == slot
    assert entry["counters"]["direct_packets"] == entry["counters"]["direct_bytes"] == 0
    assert not any(entry["counters"]["kept"].values())


def ported(number):
    """A server known by another address, at another port."""
    return {"game_server_ip": f"203.0.113.{number}", "server_ports": [number]}


def row_and_ports():
    (entry,) = agent.live_entries()
    out = json.loads(topology.run("bpftool", "-j", "map", "lookup", "pinned", f"{agent.PINS}/v1/server_ports", "key",
                                  *map(str, struct.pack("=I", entry["slot"]))))
    n, first, last = struct.unpack_from("=IHH", bytes(int(byte, 16) for byte in out["value"]))
    assert n == 1 and first == last
    return entry["game_server_ip"], entry["mode"], first


def tell_another(*options, killed=False):
    """An agent that has a row with a port is told of another address and port, under strace."""
    write(ported(101))
    with faults.new_agent("--config", CONFIG) as running:
        assert row_and_ports() == ("203.0.113.101", "direct", 101)
        with faults.Tracer(running.process.pid, faults.strace("-s", "64", "-e", "trace=bpf", *options)):
            write(ported(102))
            running.process.send_signal(signal.SIGHUP)
            if killed:
                running.process.wait(30)
                running.close()
            else:
                topology.wait_for(lambda: row_and_ports() == ("203.0.113.102", "direct", 102), "the other address")


def test_killed_between_a_row_and_its_ports(world):
    """At each of the writes that make it another address's."""
    world.agent.stop()
    agent.detach()
    tell_another()
    calls = [arguments for _, call, arguments in injection.calls_in(faults.trace_text()) if call == "bpf"]
    numbers = [i for i, arguments in enumerate(calls, 1) if "BPF_MAP_UPDATE_ELEM" in arguments]
    assert len(numbers) >= 3, "a row that leaves all to the tunnel, ports, the row"
    for number in numbers:
        tell_another("-e", f"inject=bpf:signal=SIGKILL:when={number}", killed=True)
        address, mode, port = row_and_ports()
        assert mode == "tunnel" or (address, port) in (("203.0.113.101", 101), ("203.0.113.102", 102)), number
    agent.detach()
    write({})
    world.agent = agent.Agent("--config", CONFIG)


def test_a_bad_reload_changes_nothing_and_says_so(world):
    configure(world, {"mode": "shadow"})
    configure(world, {"mode": "sideways"})
    assert way(world) == "tunnel"
    problems = agent.status()["agent"]["problems"]
    assert any("mode: expected" in problem for problem in problems), problems
    configure(world, {})
    assert way(world) == "direct"
    assert agent.status()["agent"]["state"] == "ok"
