# SPDX-License-Identifier: MIT
"""What memory a process has."""

import pathlib
import re


def memory(pid, name):
    """Bytes: VmRSS, resident now; VmHWM, the most there was (proc_pid_status(5))."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    return int(re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)[1]) << 10
