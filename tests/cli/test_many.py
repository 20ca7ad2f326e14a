# SPDX-License-Identifier: MIT
"""A host with many namespaces. IPIPDIRECT_NAMESPACES=10000 is the long form."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))
import namespaces  # pylint: disable=wrong-import-position

NAMESPACES = int(os.environ.get("IPIPDIRECT_NAMESPACES", "300"))
MIB, FDS = 12 + NAMESPACES / 256, 64


def test_bounded_memory_and_descriptors(sandbox):
    """At most, from the start on."""
    found = namespaces.figures(sandbox, NAMESPACES)
    print(found)
    assert found["complete"] and found["listed"] == NAMESPACES + 1
    assert found["most_rss_mib"] < MIB and found["fds"] < FDS, found
