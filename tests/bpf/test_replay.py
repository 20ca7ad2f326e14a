# SPDX-License-Identifier: MIT
"""The transcript of a run on another kernel, put to this one: see transcript.py."""

import os

import pytest

import transcript

EXCHANGES = transcript.read(os.environ["IPIPDIRECT_REPLAY"])


@pytest.fixture(scope="module")
def replayed(namespace):
    return transcript.replay(namespace, EXCHANGES)


@pytest.mark.parametrize("file", sorted({test.partition("::")[0] for test, _, _ in EXCHANGES}))
def test_answers_are_the_same(replayed, file):
    differing, asked = replayed
    assert asked[file] > 0
    for test, question, expected, answer in differing.get(file, ())[:5]:
        print(f"{test}\n  asked    {question}  expected {expected}  got      {answer}")
    assert file not in differing
