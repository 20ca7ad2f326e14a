#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""TCP goodput of a game server to its client: direct, against through the tunnel, turn by turn.

    tests/vm/run --env BUILD_DIR=$PWD/build /usr/bin/python3 tests/bench/goodput.py

Client, gateway, POP, host and game namespace share the processors of one machine, an emulated one mostly. Through the
tunnel a packet makes more hops, and the POP's ipip device puts segments together again (GRO), which saves work behind it.
So neither MB/s nor a ratio above 1 says anything about a host. What counts is that direct return costs no goodput worth
speaking of, whoever cuts the super-packets.
"""

import argparse
import contextlib
import json
import os
import pathlib
import socket
import statistics
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

import agent  # noqa: E402
import ethtool  # noqa: E402
import topology  # noqa: E402
import traffic  # noqa: E402

CONFIG = "/tmp/goodput.json"
# Guard, and whether tx-ipxip4-segmentation is on then. Where it is off the kernel cuts what is marked as IPIP.
CASES = {"on, no guard": ("off", True), "off, by the guard": ("on", False)}

WAYS = {"tunnel": "host_ipip", "direct": "host_direct"}


class Sender(threading.Thread):
    """Sends `size` bytes to each client that comes, until close()."""

    def __init__(self, server, size):
        super().__init__(daemon=True)
        self.listener = server.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.bind((server.inner, traffic.PORT))
        self.listener.listen()
        self.size, self.block = size, bytes(1 << 20)
        self.start()

    def run(self):
        while True:
            connection, _ = self.listener.accept()
            with connection, contextlib.suppress(ConnectionError):
                for _ in range(self.size // len(self.block)):
                    connection.sendall(self.block)


def fetch(world, server, size):
    """Bytes a second, from the SYN on. The bytes are not looked at: the tests do that."""
    buffer = bytearray(1 << 20)
    with world.client_socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(60)
        start, received = time.monotonic(), 0
        client.connect((server.public, traffic.PORT))
        while n := client.recv_into(buffer, len(buffer), socket.MSG_TRUNC):
            received += n
            if received >= size:
                break
        seconds = time.monotonic() - start
    assert received >= size, f"{received} of {size} bytes"
    return received / seconds


def path_taken(before, after):
    packets = {name: after[name] - before[name] for name in ("host_ipip", "host_direct")}
    assert min(packets.values()) < 10 < max(packets.values()), packets
    return max(packets, key=packets.get)


def set_way(way, policy):
    agent.detach()
    if way == "direct":
        with open(CONFIG, "w", encoding="utf-8") as file:
            json.dump({"offload_guard": policy}, file)
        topology.run(agent.AGENT, "--once", "--config", CONFIG)


def measure(world, server, size, rounds):
    """{case: {"tunnel": [bytes/s], "direct": [bytes/s]}}"""
    device = ethtool.Device("eth0")
    results = {case: {way: [] for way in WAYS} for case in CASES}
    for number in range(rounds):
        for case, (policy, whole) in CASES.items():
            # Turn by turn who is first.
            for way in sorted(WAYS, reverse=number % 2):
                set_way(way, policy)
                device.set({ethtool.IPXIP4: whole})
                fetch(world, server, size // 4)  # the processor, emulated, has seen this code
                before = world.counters()
                results[case][way].append(fetch(world, server, size))
                assert path_taken(before, world.counters()) == WAYS[way]
    agent.detach()
    device.close()
    return results


def ratio(result):
    """Of each pair of neighbours in time, so that a busy minute hits both."""
    return statistics.median(d / t for d, t in zip(result["direct"], result["tunnel"]))


def print_table(results, size, rounds):
    print(f"TCP goodput, Linux {os.uname().release}, {size >> 20} MiB a transfer, {rounds} rounds, "
          f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; medians\n")
    print("| `tx-ipxip4-segmentation` | tunnel, MB/s | direct, MB/s | direct/tunnel |")
    print("|---|---:|---:|---:|")
    for case, result in results.items():
        middle = {way: statistics.median(values) / 1e6 for way, values in result.items()}
        print(f"| {case} | {middle['tunnel']:.1f} | {middle['direct']:.1f} | {ratio(result):.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--megabytes", type=int, default=32, help="MiB a transfer (default 32)")
    parser.add_argument("--json", action="store_true", help="all figures, as JSON")
    args = parser.parse_args()
    size = args.megabytes << 20
    with topology.World("A") as world:
        server = world.servers[1]
        # As any network card; through the tunnel the POP's ipip device does it.
        client = ethtool.Device("eth0", world.outside.netns_fd("client"))
        client.set({"rx-gro": True})
        client.close()
        Sender(server, size)
        results = measure(world, server, size, args.rounds)
    if args.json:
        json.dump({"kernel": os.uname().release, "bytes": size, "results": results}, sys.stdout)
        print()
    else:
        print_table(results, size, args.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
