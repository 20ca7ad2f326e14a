# SPDX-License-Identifier: MIT
"""Fixtures of the tests of ipipdirectctl."""

import os
import pathlib
import sys

import pytest

import sandbox as sandbox_module

sys.path.append(str(pathlib.Path(__file__).parents[1] / "schema"))
from schemas import EXAMPLES, closed, load, validator  # pylint: disable=wrong-import-position


def pytest_collection_modifyitems(items):
    if os.geteuid():
        for item in items:
            if "sandbox" in item.fixturenames:
                item.add_marker(pytest.mark.skip(reason="namespaces and BPF need root"))


@pytest.fixture
def sandbox():
    place = sandbox_module.Sandbox()
    yield place
    place.close()


@pytest.fixture
def fits():
    """fits(name, document): exactly what the schema describes, and nothing besides."""
    def check(name, document):
        validator(name, closed).validate(document)
        return document
    return check


@pytest.fixture
def is_error(fits):
    def check(document, code):
        fits("ctl-error", document)
        assert document["error"]["code"] == code
        assert document["error"]["message"]
    return check


@pytest.fixture
def status():
    """A status document with a bit of everything in it; the caller's to change."""
    return load(EXAMPLES / "status.json")
