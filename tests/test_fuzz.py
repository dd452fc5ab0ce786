"""Damaged files of every kind are answered with errors of this package; ``bench.fuzz`` does it for any time."""

import os
import random

import pytest

from bench.fuzz import TARGETS, fuzz


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_no_parser_is_surprised(seed, tmp_path):
    """A traceback of a library, a hang, or the whole memory, for a file that somebody damaged."""
    minutes = float(os.environ.get("DDNB_FUZZ_MINUTES", "0.5"))
    inputs, faults = fuzz(minutes, random.Random(seed), tmp_path)
    assert not faults
    assert inputs.keys() == TARGETS.keys() and min(inputs.values()) > 100 * minutes
