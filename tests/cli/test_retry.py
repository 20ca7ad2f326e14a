# SPDX-License-Identifier: MIT
"""What fails for as long as it lasts is tried again, ever more rarely; when it is over, soon."""

import re
import time

import pytest

from control import NAME, connect, wait_for
from sandbox import AGENT, CTL
from tracing import failing

FEATURE = "tx-ipxip4-segmentation"
PASSES_MAX = 3  # in three seconds, after a while: one each three is the rarest
RUN = "/run/ipipdirect"


@pytest.fixture
def crowded(sandbox):
    """What the guard turned off cannot be noted: there is no room where the agent notes things."""
    sandbox.do("ethtool", "-K", "wan", FEATURE, "on")
    sandbox.do("mkdir", "-p", RUN)
    sandbox.do("mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "none", RUN)
    return sandbox


def fill(sandbox):
    """Again while passes find room, as what a status had that was being written meanwhile."""
    def is_full():
        sandbox.run("sh", "-c", f"head -c 1M /dev/zero >>{RUN}/filling")
        was = sandbox.read_status()
        sandbox.do(CTL, "resync")
        return sandbox.read_status() == was
    wait_for(is_full)


def wan(client):
    (interface,) = client.call(f"{NAME}.GetStatus")["status"]["interfaces"]
    return interface


def passes_in(client, seconds):
    before = client.call(f"{NAME}.GetStatus")["status"]["agent"]["passes"]
    time.sleep(seconds)
    return client.call(f"{NAME}.GetStatus")["status"]["agent"]["passes"] - before


def test_no_room_for_notes(crowded):
    crowded.write("/run/guard.json", '{"offload_guard": "on"}')
    crowded.do("ip", "route", "del", "default")
    crowded.start_agent("--config", "/run/guard.json")
    with connect(crowded) as client:
        fill(crowded)
        crowded.do("ip", "route", "add", "default", "dev", "wan")
        wait_for(lambda: client.call(f"{NAME}.GetStatus")["status"]["interfaces"] and wan(client)["error"])
        wait_for(lambda: passes_in(client, 3) <= PASSES_MAX)
        assert wan(client)["attachment"] == "none"
        crowded.do("rm", f"{RUN}/filling")
        wait_for(lambda: wan(client)["attachment"] != "none")
    assert crowded.is_attached() and f"{FEATURE}: off" in crowded.do("ethtool", "-k", "wan")


@pytest.mark.parametrize("call, error", [("openat", "ENFILE"), ("sendmsg", "ENOBUFS")])
def test_namespaces_that_cannot_be_listed(sandbox, call, error):
    """As when the system's table of files is full, which any user can have it."""
    sandbox.start_agent("--log-level", "debug", command=(AGENT,))

    def passes():
        return len(re.findall(r"pass \d+: \d+ us", sandbox.logged()))

    with failing(sandbox, "-e", f"inject={call}:error={error}"):
        before = passes()
        sandbox.run(CTL, "resync")
        wait_for(lambda: passes() > before + 3)
        time.sleep(3)
        before = passes()
        time.sleep(3)
        assert passes() - before <= PASSES_MAX
    sandbox.do(CTL, "resync")
