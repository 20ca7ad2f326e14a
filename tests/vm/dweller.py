# SPDX-License-Identifier: MIT
"""Somebody in a network namespace of his own, which no file leads to."""

import subprocess

from topology import run

LOCAL = "10.9.9.9"
USER = 4711  # nobody's number
AS_USER = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups"]


class Process:
    """Runs `command`, which makes the namespace, with a tunnel there. Ends when told."""

    def __init__(self, *command, remote=None):
        self.popen = subprocess.Popen([*command, "sh", "-c", "echo up; exec cat"], text=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.popen.stdout.readline() == "up\n"
        self.pid = self.popen.pid
        if remote:
            self.ip(f"link add tun0 type ipip remote {remote} local {LOCAL}")

    def ip(self, words):
        run("nsenter", f"--net=/proc/{self.pid}/ns/net", "ip", *words.split())

    def end(self):
        self.popen.stdin.close()
        self.popen.wait()
        self.popen.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.popen.poll() is None:
            self.end()
