# SPDX-License-Identifier: MIT
"""What a test of one frame has to show."""

import datapath
import oracle
from packets import CONFIG


def check(runner, frame, expected, counted, **run):
    """The oracle agrees with the recipe, the program with both, and nothing else was counted."""
    judgement = oracle.judge(frame, CONFIG, run.get("gso_segs", 0))
    assert (judgement.out, judgement.counted) == (expected, counted), "the oracle is wrong"
    assert runner.run(frame, **run) == (datapath.TC_ACT_UNSPEC, expected, counted)


def check_with_oracle(runner, frame):
    """For frames without a recipe: the oracle's word alone. Returns it."""
    judgement = oracle.judge(frame, CONFIG)
    assert runner.run(frame) == (datapath.TC_ACT_UNSPEC, judgement.out, judgement.counted), frame.hex()
    return judgement
