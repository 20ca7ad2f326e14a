# SPDX-License-Identifier: MIT
"""Tunnels are made, deleted, moved to other remotes and addresses, taken down and up, as fast as the kernel can, under
traffic: the agent grows by nothing, each packet is counted once, and the map ends as iproute2 says.

Short by default. The long form:

    tests/vm/run --memory 4096 --timeout 0 --env BUILD_DIR=$PWD/build --env IPIPDIRECT_SOAK_CHANGES=200000 -- \
        /usr/bin/python3 -B -m pytest -s tests/vm/test_soak.py
"""

import itertools
import json
import os
import socket
import struct
import time

import agent
import fleet
import topology

FLEET = int(os.environ.get("IPIPDIRECT_FLEET", "20"))
CHANGES = int(os.environ.get("IPIPDIRECT_SOAK_CHANGES", "2000"))
ROUNDS = int(os.environ.get("IPIPDIRECT_SOAK_ROUNDS", "10"))
WARM_UP = 3  # rounds: what the agent ever needs at once, it has by then
STEADY = 3  # tunnels that stay as they are; traffic is to these
UNKNOWN = "198.18.0.1"  # no tunnel's remote
PACE = 0.01  # seconds between packets
LONG, GROWTH = 20000, 0.01


def ipip(remote, inner):
    """An outer header; the kernel fills in length and checksum."""
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_IPIP, 0,
                       socket.inet_aton(fleet.UNDERLAY), socket.inet_aton(remote)) + inner


def udp(version=4, length=36):
    header = struct.pack("!BBHHHBBH4s4s", version << 4 | 5, 0, length, 0, 0, 64, socket.IPPROTO_UDP, 0,
                         socket.inet_aton("10.0.0.1"), socket.inet_aton("198.51.100.7"))
    return header + struct.pack("!HHHH", 27015, 40000, 16, 0) + b"payload!"


# One that may go direct, and two that are left alone for different reasons.
INNER = [udp(), udp(version=6), udp(length=999)]


class Traffic:
    def __init__(self, remotes):
        self.sent = dict.fromkeys([*remotes, UNKNOWN], 0)
        self.order = itertools.cycle([(remote, inner) for remote in self.sent for inner in INNER])
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def send(self):
        remote, inner = next(self.order)
        self.socket.sendto(ipip(remote, inner), (remote, 0))
        self.sent[remote] += 1

    def during(self, process):
        while process.poll() is None:
            self.send()
            time.sleep(PACE)


def entries():
    return {entry["remote"]: entry for entry in agent.live_entries()}


def counted(entry):
    return entry["counters"]["direct_packets"] + sum(entry["counters"]["kept"].values())


def soak(ships, traffic, pid):
    """Memory after each round, in bytes."""
    sizes = []
    for _ in range(ROUNDS):
        process = ships.churn(CHANGES // ROUNDS, size=FLEET)
        traffic.during(process)
        ships.end(process)
        sizes.append(agent.own_memory(pid))
    return sizes


def test_soak():
    with fleet.Fleet(FLEET + STEADY) as ships:
        steady = [fleet.dotted(fleet.FIRST_REMOTE + FLEET + n + 1) for n in range(STEADY)]
        with agent.Agent("--resync-interval", "5", "--log-level", "error") as running:
            pid = running.process.pid
            topology.wait_for(lambda: all(remote in entries() for remote in steady), "the fleet is mapped", 60)
            fds, traffic, start = agent.n_fds(pid), Traffic(steady), time.monotonic()
            sizes = soak(ships, traffic, pid)
            seconds = time.monotonic() - start
            expected = fleet.oracle()
            assert len(expected) == FLEET + STEADY
            topology.wait_for(lambda: agent.map_now() == expected,
                              "the map is what iproute2 says", 60)
            topology.wait_for(lambda: agent.n_fds(pid) <= fds, "no file descriptor is left over", 30)
            topology.wait_for(lambda: agent.status()["map"]["no_entry_packets"] == traffic.sent[UNKNOWN],
                              "all packets to nobody are counted", 60)
            end = entries()
            print(json.dumps({"changes": CHANGES, "namespaces": FLEET + STEADY, "seconds": round(seconds),
                              "own_mib": [round(size / 1048576, 2) for size in sizes], "fds": agent.n_fds(pid),
                              "packets": sum(traffic.sent.values()),
                              "reasons": {reason: n for reason, n in end[steady[0]]["counters"]["kept"].items() if n}}))
            for remote in steady:
                assert counted(end[remote]) == traffic.sent[remote], end[remote]
                assert len([n for n in end[remote]["counters"]["kept"].values() if n]) >= 2
            # An allocator takes 128 KiB at a time, more than 1 % of a small agent: that is for the long form.
            assert sizes[-1] <= max(sizes[:WARM_UP]) * (1 + GROWTH if CHANGES >= LONG else 2), sizes
        agent.detach()
