# SPDX-License-Identifier: MIT
"""Fixtures of the datapath tests: one namespace and one loaded object for all of them."""

import os

import pytest

import datapath
import packets


def pytest_collection_modifyitems(items):
    if os.geteuid():
        for item in items:
            item.add_marker(pytest.mark.skip(reason="loading BPF programs needs root"))


@pytest.fixture(scope="session")
def namespace():
    space = datapath.Namespace()
    yield space
    space.close()


@pytest.fixture(scope="session")
def runner(namespace):
    process = datapath.Runner(namespace)
    yield process
    process.close()


@pytest.fixture
def configured(runner):
    """The runner, with the entries of packets.py and nothing counted yet."""
    runner.configure(packets.CONFIG)
    return runner
