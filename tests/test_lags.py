"""Correlators that see little or much: few particles, few observations, and runs that were cut."""

import jax
import numpy as np
import pytest
from test_reducers import BATH, SPRING, WELL, X, start

from heatbath import engine
from heatbath.engine import observables
from heatbath.engine.observables import Autocorrelation, MeanSquaredDisplacement, Series


@pytest.mark.parametrize("observations", [1, 2, 5, 31, 33, 500])
def test_lags_of_few_particles(observations):
    """Errors from blocks of time: the first, which have not seen long lags, count as one, up to a quarter of them."""
    both = {
        "c": Autocorrelation(observables.position, every=2),
        "far": MeanSquaredDisplacement(every=2),
        "x": Series(observables.position, every=2),
    }
    run = engine.simulate(WELL, BATH, start(8), steps=2 * observations, key=3, observables=both)
    found, x = run.observables, np.asarray(run.observables["x"].values, float)[..., 0]
    assert len(x) == observations
    if observations <= 2:  # two units, the first of which has seen no pair
        assert found["far"] is None and any("far: nothing measured yet" in warning for warning in run.warnings)
        return
    c, far = found["c"], found["far"]
    longest = {5: 1, 31: 6, 33: 7, 500: 120}[observations]
    assert c.steps[-1] == far.steps[-1] == 2 * longest, c.steps
    lags = far.steps[far.steps <= 2 * 15] // 2
    exact = [np.mean((x[lag:] - x[: len(x) - lag]) ** 2) for lag in lags]
    plain = far.squared[: len(lags)]
    # jackknifed ratios of sums: bias-corrected, equal to the plain one within a few errors
    assert np.all(np.abs(plain - exact) < 4 * far.error[: len(lags)]) and far.dof >= 3


@pytest.mark.parametrize(("levels", "burn_in"), [(1, 0), (4, 37), (9, 0)])
def test_a_long_correlation_that_was_cut(levels, burn_in):
    """Once a record merges observations, what a block has seen is merged ring by ring before it arrives: the same bits."""
    both = {
        "c": Autocorrelation(observables.position, every=1, levels=levels, points=4, burn_in=burn_in),
        "far": MeanSquaredDisplacement(every=1, levels=levels, points=4, burn_in=burn_in),
    }
    begin = engine.simulate(WELL, BATH, start(70), steps=0, key=3, observables=both)
    whole, run = engine.simulate(begin, steps=1100), begin
    for steps in (*range(1, 40), 20, 300):
        run = engine.simulate(run, steps=steps)
    assert run.step == whole.step == 1100
    for found, expected in zip(run.records, whole.records, strict=True):
        assert found.level == expected.level > 2 and found.rows == expected.rows == 1100 - burn_in
        jax.tree.map(np.testing.assert_array_equal, (found.blocks, found.pending), (expected.blocks, expected.pending))


def test_green_kubo_takes_a_correlation():
    with pytest.raises(TypeError, match="takes what Autocorrelation measured; got NoneType"):
        observables.green_kubo(None)
    run = engine.simulate(SPRING, BATH, X, steps=8, observables=Autocorrelation(observables.momentum, every=2))
    with pytest.raises(ValueError, match="mass must be positive; got 0"):
        observables.green_kubo(run.observables, mass=0.0)
