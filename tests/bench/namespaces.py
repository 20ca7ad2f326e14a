#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What the agent needs on a host with very many namespaces: time, memory, file descriptors. It prints; tests/cli/test_many.py judges.

    sudo BUILD_DIR=$PWD/build tests/bench/namespaces.py [NAMESPACES]

The namespaces are bare, but for lo, and in a sandbox of their own, so no ipip device is needed.
"""

import json
import os
import pathlib
import sys
import time

sys.path[:0] = [os.path.join(os.path.dirname(__file__), place) for place in ("../cli", "..")]
import sandbox  # pylint: disable=wrong-import-position
from memory import memory  # pylint: disable=wrong-import-position


def processor(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def figures(place, number):
    """Of a start with so many, and of a full pass after it."""
    lines = "".join(f"netns add s{n}\n" for n in range(number))
    place.run("ip", "-batch", "-", input=lines, check=True, timeout=1800)
    start = time.monotonic()
    place.start_agent("--resync-interval", "3600", "--log-level", "warning")
    pid, seconds = place.agent.pid, time.monotonic() - start
    at_start = processor(pid)
    status = place.read_status()
    start = time.monotonic()
    place.do(sandbox.CTL, "resync")
    return {
        "namespaces": number,
        "listed": len(status["namespaces"]),
        "complete": status["discovery"]["complete"],
        "start_s": round(seconds, 2),
        "start_cpu_s": at_start,
        "resync_s": round(time.monotonic() - start, 2),
        "resync_cpu_s": round(processor(pid) - at_start, 2),
        "rss_mib": round(memory(pid, "VmRSS") / 2**20, 1),
        "most_rss_mib": round(memory(pid, "VmHWM") / 2**20, 1),
        "fds": len(os.listdir(f"/proc/{pid}/fd")),
        "status_mib": round(len(place.do("cat", "/run/ipipdirect/status.json")) / 1048576, 1),
    }


def main():
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    place = sandbox.Sandbox()
    try:
        print(json.dumps(figures(place, number), indent=1))
    finally:
        place.close()


if __name__ == "__main__":
    main()
