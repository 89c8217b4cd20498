"""benchmarks/kernel.c, the reference of the benchmarks, computes what heatbath computes: else its speed says nothing."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from heatbath import engine

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import contestants

there = sys.platform == "linux" and shutil.which("gcc")
pytestmark = pytest.mark.skipif(not there, reason="the kernel is compiled by gcc, on Linux")


@pytest.mark.parametrize("scheme", ["overdamped", "BAOAB"])
def test_the_kernel_follows_heatbaths_trajectories(scheme):
    """704 particles, so that chunks of 512 end early, in 3 coordinates: 40 steps apart by rounding alone."""
    n, d, steps = 704, 3, 40
    start = contestants.start(n, d)
    first, run = (
        engine.simulate(contestants.WELL, contestants.BATHS[scheme], start, steps=count, observables={}, progress=False)
        for count in (0, steps)
    )
    momenta = first.state.momentum if scheme == "BAOAB" else start  # drawn
    x, p = (np.ascontiguousarray(np.asarray(a).T) for a in (start, momenta))
    contestants.by_hand(scheme, n, d, steps, x, p)()
    moved = np.abs(np.asarray(run.positions) - start).max(axis=1)
    assert np.median(moved) > 0.3  # far more than what is allowed
    np.testing.assert_allclose(x.T, run.positions, atol=1e-4)
