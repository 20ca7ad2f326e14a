# SPDX-License-Identifier: MIT
"""What tests in the VM begin with, and leave; a file that needs another world has a fixture of its own with that name."""

import pytest

import agent
import traffic


@pytest.fixture(scope="module")
def world():
    with traffic.three_servers() as made:
        yield made
        agent.detach()


@pytest.fixture
def nothing_left():
    """Of the agent, whatever becomes of the test."""
    yield
    agent.detach()
