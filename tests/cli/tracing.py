# SPDX-License-Identifier: MIT
"""System calls of a running agent that fail."""

import contextlib
import subprocess

from control import wait_for


@contextlib.contextmanager
def failing(sandbox, *options):
    """With strace's options, while the context lasts."""
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", *options, "-p", str(sandbox.agent.pid)])
    with open(f"/proc/{sandbox.agent.pid}/status", encoding="utf-8") as status:
        wait_for(lambda: status.seek(0) == 0 and "TracerPid:\t0\n" not in status.read())
    try:
        yield
    finally:
        tracer.terminate()
        tracer.wait(30)


def without_memory_for(sandbox, *paths):
    """Whatever the agent asks for one of these files."""
    watched = [word for path in paths for word in ("-P", path)]
    return failing(sandbox, *watched, "-e", "inject=%file:error=ENOMEM")
