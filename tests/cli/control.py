# SPDX-License-Identifier: MIT
"""The control socket of an agent in a sandbox, for the tests of it."""

import pathlib
import sys
import time

sys.path.append(str(pathlib.Path(__file__).parents[1]))
import varlink  # pylint: disable=wrong-import-position
from memory import memory  # pylint: disable=wrong-import-position

NAME = "io.ipipdirect"
CLIENTS, CLIENTS_ROOT = 64, 8
MESSAGE_MAX = 65536


def in_sandbox(place, path):
    return f"/proc/{place.holder.pid}/root{path}"


def connect(place, **options):
    return varlink.Client(in_sandbox(place, f"/run/ipipdirect/{NAME}"), **options)


def assert_lives(place):
    with connect(place) as other:
        assert other.call("org.varlink.service.GetInfo")["product"] == "ipipdirectd"


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "too long"
        time.sleep(0.01)


def cpu_ticks(place):
    with open(f"/proc/{place.agent.pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


class Usage:
    """What the agent has, from outside."""

    def __init__(self, place):
        self.proc = pathlib.Path("/proc", str(place.agent.pid))

    def descriptors(self):
        return len(list((self.proc / "fd").iterdir()))

    def forget_peak(self):
        (self.proc / "clear_refs").write_text("5", encoding="ascii")

    def peak(self):
        """Bytes of memory, the most there were since then."""
        return memory(self.proc.name, "VmHWM")
