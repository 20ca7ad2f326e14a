# SPDX-License-Identifier: MIT
"""Exempt clients in the map, whatever the list was before: that nobody goes direct meanwhile is shown by
tests/vm/test_policy.py."""

import ipaddress
import json
import struct

import pytest

from control import NAME, connect, wait_for
from sandbox import PINS

FILE = "/run/clients.json"
MAX = 4096
ROW = "203.0.113.10"


def clients(n, network):
    """So many prefixes below a /8 of that number."""
    return [f"{network}.{number >> 8}.{number & 0xff}.0/24" for number in range(n)]


def configure(sandbox, prefixes):
    sandbox.write(FILE, json.dumps({"exempt_clients": prefixes}))


def in_map(sandbox):
    """bpftool formats by BTF where there is any, and has the bytes besides."""
    entries = json.loads(sandbox.do("bpftool", "-j", "map", "dump", "pinned", f"{PINS}/v1/exempt_clients"))
    keys = [bytes(int(byte, 16) for byte in entry["key"]) for entry in entries]
    return {str(ipaddress.ip_network((key[4:], *struct.unpack("=I", key[:4])))) for key in keys}


def problems(client):
    return client.call(f"{NAME}.GetStatus")["status"]["agent"]["problems"]


@pytest.fixture
def agent(sandbox):
    configure(sandbox, clients(1, 9))
    sandbox.start_agent("--config", FILE, "--resync-interval", "3600")
    return sandbox


LISTS = [clients(2500, 11), clients(2500, 12), clients(MAX, 13), clients(MAX, 14), clients(MAX - 1, 15), ["0.0.0.0/0"] * 2,
         ["0.0.0.0/0"] + clients(MAX - 1, 16), [f"17.0.{n >> 8}.{n & 0xff}/32" for n in range(MAX)], ["17.0.0.0/8"], []]


def test_a_list_takes_the_place_of_another(agent):
    """Also where there is no room for both."""
    with connect(agent) as client:
        for prefixes in LISTS:
            configure(agent, prefixes)
            wait_for(lambda: client.call(f"{NAME}.Reload")["complete"])
            assert in_map(agent) == set(prefixes) and problems(client) == []
            wait_for(lambda: client.call(f"{NAME}.Resync")["complete"])  # what is there is not written again


def test_at_a_start(sandbox):
    for prefixes in LISTS[2:5]:
        configure(sandbox, prefixes)
        sandbox.once("--config", FILE)
        assert in_map(sandbox) == set(prefixes)


def test_what_a_killed_agent_had_everybody_exempt_for(agent):
    """It could not have both lists in the map, and did not get to the end."""
    agent.stop_agent()
    agent.do("bpftool", "map", "update", "pinned", f"{PINS}/v1/exempt_clients", "key", *["0"] * 8, "value", "1")
    assert "0.0.0.0/0" in in_map(agent)
    agent.once("--config", FILE)
    assert in_map(agent) == set(clients(1, 9))


def test_a_map_that_cannot_be_written(agent):
    """It is told. Rows still go, and interfaces are still followed: neither sends more packets direct."""
    agent.do("bpftool", "map", "freeze", "pinned", f"{PINS}/v1/exempt_clients")
    with connect(agent) as client:
        configure(agent, clients(2, 9))
        agent.add_row(ROW, ROW, slot=1)
        assert not client.call(f"{NAME}.Reload")["complete"]
        assert any("the last pass failed" in problem for problem in problems(client))
        assert agent.ctl_json("map", "dump")[1]["entries"] == []
        agent.do("ip", "route", "replace", "default", "dev", "gateway")
        wait_for(lambda: agent.is_attached("gateway") and not agent.is_attached())

        agent.do("rm", "-r", PINS)
        assert client.call(f"{NAME}.Attach")["complete"]
        wait_for(lambda: problems(client) == [])
    assert in_map(agent) == set(clients(2, 9))
