# SPDX-License-Identifier: MIT
"""What README.md, docs/OPERATING.md and docs/captures show is what ipipdirectctl prints now: but for times, counters, pids
and the like, as tools/captures.py normalises them."""

import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import captures

COMMITTED = captures.read(captures.CAPTURES)
ANEW = "not what is printed now: run tools/captures, and look at what it changes"


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    place = tmp_path_factory.mktemp("captures")
    captures.take_all(place)
    return captures.read(place)


def test_none_is_missing(taken):
    assert set(taken) == set(COMMITTED), ANEW


@pytest.mark.parametrize("name", COMMITTED)
def test_capture_is_what_is_printed(taken, name):
    assert captures.normal(COMMITTED[name]) == captures.normal(taken[name]), ANEW


def test_how_long_it_took_is_no_matter():
    texts = [f"running, pid 198, version 0.1.0, up {up}, synced {synced} ago"
             for up, synced in (("9s", "0s"), ("59s", "12s"), ("1m3s", "10m0s"), ("1h59m", "1m0s"), ("2d3h", "1h0m"))]
    assert len({captures.normal(text) for text in texts}) == 1


@pytest.mark.parametrize("name", COMMITTED)
def test_capture_fits_its_terminal(name):
    columns = int(name.rsplit("-", 1)[1])
    assert max(map(len, COMMITTED[name].splitlines())) <= columns


@pytest.mark.parametrize("document", captures.DOCUMENTS, ids=lambda path: path.name)
def test_blocks_of_the_documents_are_captures(document):
    found = captures.blocks(document.read_text(encoding="utf-8"))
    assert found
    for name, text in found.items():
        assert text == COMMITTED[name], f"{document.name}, {name}: run tools/captures"
