"""Convergence without a known truth: nested and split R-hat."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_reducers import WELL

from heatbath import engine
from heatbath.engine import observables
from heatbath.engine.observables import (
    Mean,
    Series,
    nested_r_hat,
    split_r_hat,
)
from heatbath.integrators import EulerMaruyama


def r_hat_of(x):
    """Rank-normalised split R̂ of (times, chains), by ArviZ."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces its next version at import
        arviz = pytest.importorskip("arviz")
        return float(arviz.rhat(x.T, method="rank"))


@pytest.mark.parametrize("ladder", [False, True])
def test_split_r_hat(ladder):
    bath = EulerMaruyama(step_size=0.05, temperature=engine.sweep([0.1, 2.0]) if ladder else 2.0)
    x = jnp.stack([jnp.array([-1.0, 1.0] * 5), jnp.zeros(10)], axis=1)
    recording = engine.simulate(
        WELL, bath, x, steps=200, key=1, observables=Series(observables.position, every=4)
    ).observables
    found = split_r_hat(recording)
    values = recording.values if ladder else recording.values[:, None]
    expected = [[r_hat_of(values[:, r, :, j].astype(float)) for j in range(2)] for r in range(values.shape[1])]
    np.testing.assert_allclose(found, expected if ladder else expected[0], rtol=1e-10)
    if ladder:
        assert found[0, 0] > 1.5  # cold particles stay in the well they began in
    with pytest.raises(TypeError, match="takes the Recording"):
        split_r_hat(found)
    with pytest.raises(ValueError, match="at least 4"):
        split_r_hat(dataclasses.replace(recording, steps=recording.steps[:3]))


def test_nested_r_hat_sees_starts_that_are_not_forgotten():
    points = np.random.default_rng(0).choice([-1.0, 1.0], size=(64, 1))
    x = jnp.asarray(np.tile(points, (20, 1)), jnp.float32)
    measured = {"x": Mean(observables.position, every=1), "all": Series(observables.position, every=1)}
    hot, cold = (
        engine.simulate(WELL, EulerMaruyama(step_size=0.02, temperature=t), x, steps=80, key=2, observables=measured)
        for t in (2.0, 0.1)
    )
    # by definition: superchains of 20 particles; the variance within them is that between particles and within each
    values = cold.observables["all"].values[..., 0].astype(float)
    groups = np.stack([values[:, g::64].ravel() for g in range(64)])
    expected = np.sqrt(1 + groups.mean(axis=1).var(ddof=1) / groups.var(axis=1, ddof=1).mean())
    np.testing.assert_allclose(cold.observables["x"].r_hat, [expected], rtol=1e-5)
    assert cold.observables["x"].r_hat[0] > 2
    late = engine.simulate(
        engine.simulate(hot, steps=100, observables={}),
        steps=40,
        observables={"x": Mean(observables.position, every=1)},
    )
    assert 1 < late.observables["x"].r_hat[0] < 1.05
    assert np.isnan(nested_r_hat(jax.tree.map(lambda a: a[..., :1], late.records[0].after()[1]))).all()
