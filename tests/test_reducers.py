"""Reducers beyond the mean: against exact discrete-time laws, against numpy on the recorded trajectory, and bit for bit."""

import dataclasses
from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_observables import jackknife

from heatbath import engine, potentials
from heatbath.engine import observables
from heatbath.engine.linear import linear_map
from heatbath.engine.observables import Autocorrelation, MeanSquaredDisplacement, Series
from heatbath.engine.observables.record import length
from heatbath.engine.observables.statistics import normal_score
from heatbath.integrators import BAOAB, EulerMaruyama

P_VALUE = 1e-6  # of a test
T, N = 0.7, 2000
MUTANTS = [(1.1 * T, 0), (T, 1)]  # a temperature, and lags shifted by a step, that must be seen
BATH = BAOAB(step_size=0.2, friction=1.3, temperature=T)
SPRING = potentials.Harmonic(stiffness=1.5)
FREE = potentials.Harmonic(stiffness=0.0)
WELL = potentials.DoubleWell(barrier=1.5, tilt=0.2)


def start(n=N, d=1, scale=0.6):
    return engine.scatter(jnp.zeros(d), n, scale=scale, key=1)


def worst(value, error, exact, dof):
    """The largest deviation as a normal score, and the score that so many quantities exceed by chance at `P_VALUE`."""
    from scipy.special import ndtri

    score = np.abs(normal_score((value - exact) / error, dof)).max()
    return score, -ndtri(P_VALUE / 2 / np.size(value))


# lags over many decades ------------------------------------------------------------------------------------------------

CORRELATOR = {
    "v": Autocorrelation(observables.momentum, every=1, burn_in=60, levels=4, points=8),
    "x": Autocorrelation(observables.position, every=2, burn_in=60, levels=3, points=8),
    "far": MeanSquaredDisplacement(every=1, burn_in=60, levels=4, points=8),
}


def correlated(potential):
    return engine.simulate(potential, BATH, start(), steps=360, key=2, observables=CORRELATOR).observables


def covariance(found, rows, *, temperature=T, shift=0):
    """The exact autocovariance AⁿΣ of a harmonic particle at the lags found, `shift` steps later."""
    law = linear_map(dataclasses.replace(BATH, temperature=temperature), SPRING, jnp.zeros(1))
    sigma, pick = law.stationary()[1], getattr(law, rows)
    return np.array([(pick @ np.linalg.matrix_power(law.drift, n + shift) @ sigma @ pick.T)[0, 0] for n in found.steps])


def free_spread(found, *, temperature=T, shift=0):
    """The exact mean squared displacement of a free particle whose momentum is stationary."""
    law = linear_map(dataclasses.replace(BATH, temperature=temperature), FREE, jnp.zeros(1))
    spread, out = temperature * law.momentum.T @ law.momentum, []
    for _ in range(found.steps[-1] + 1 + shift):
        out.append((law.position @ spread @ law.position.T)[0, 0])
        spread = law.drift @ spread @ law.drift.T + law.noise @ law.noise.T
    return np.array(out)[found.steps + shift]


def test_a_harmonic_particle_has_the_exact_correlations():
    found = correlated(SPRING)
    assert found["v"].steps.tolist() == [*range(8), 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56]
    assert found["x"].steps.tolist() == [*range(0, 16, 2), 16, 20, 24, 28, 32, 40, 48, 56]
    np.testing.assert_allclose(found["v"].lags, found["v"].steps * 0.2)
    for name, rows in (("v", "momentum"), ("x", "position")):
        c = found[name]
        check = lambda exact, c=c: worst(c.covariance[:, 0], c.covariance_error[:, 0], exact, c.dof)  # noqa: E731
        score, limit = check(covariance(c, rows))
        assert score < limit
        for temperature, shift in MUTANTS:
            score, limit = check(covariance(c, rows, temperature=temperature, shift=shift))
            assert score > limit, f"{name}: {temperature, shift} went unseen"
    far, still = found["far"], covariance(found["x"], "position")[0]
    score, limit = worst(far.squared, far.error, 2 * (still - covariance(far, "position")), far.dof)
    assert score < limit
    score, limit = worst(far.squared, far.error, 2 * (still - covariance(far, "position", shift=1)), far.dof)
    assert score > limit


def test_a_free_particle_diffuses_as_it_must():
    found = correlated(FREE)
    v, far = found["v"], found["far"]
    score, limit = worst(v.covariance[:, 0], v.covariance_error[:, 0], T * np.exp(-1.3 * v.lags), v.dof)
    assert score < limit
    score, limit = worst(far.squared, far.error, free_spread(far), far.dof)
    assert score < limit
    for temperature, shift in MUTANTS:
        score, limit = worst(far.squared, far.error, free_spread(far, temperature=temperature, shift=shift), far.dof)
        assert score > limit, f"{temperature, shift} went unseen"
    # both diffusion coefficients: D (γh/2) coth(γh/2) by the trapezoidal rule, and 2Dt of the displacement
    x = 1.3 * 0.2 / 2
    value, error = observables.green_kubo(v)
    assert abs(value[0] - T / 1.3 * x / np.tanh(x)) < 5 * error[0] < 0.05
    assert abs(far.diffusion[-1] - free_spread(far)[-1] / (2 * far.lags[-1])) < 5.5 * far.diffusion_error[-1]


def test_integrated_time_is_that_of_the_chain():
    bath = EulerMaruyama(step_size=0.1, temperature=T)  # ρ = 1 - μhk = 0.85
    measured = Autocorrelation(observables.position, every=1, burn_in=40)
    run = engine.simulate(SPRING, bath, start(3000), steps=400, key=5, observables=measured)
    found, rho = run.observables, 0.85
    exact = 0.1 * (1 + rho) / (1 - rho)
    error = found.integrated_time_error[0]
    assert (
        abs(found.integrated_time[0] - exact) < 5.5 * error + 2e-3 * exact and error < 0.02 * exact
    )  # quadrature: 0.2 %
    assert found.effective_samples[0] == pytest.approx(found.count * 0.1 / found.integrated_time[0])
    assert found.count == 360 * 3000 and not found.flags
    short = engine.simulate(
        run, steps=40, observables=Autocorrelation(observables.position, every=1, levels=1, points=4)
    )
    assert "longest lag" in short.observables.flags[0] and "longest lag" in short.warnings[0]


def comoment(pairs):
    """Covariance of the halves (a, b) of rows."""
    a, b = (half - half.mean(axis=0) for half in np.split(pairs, 2, axis=1))
    return (a * b).mean(axis=0)


@pytest.mark.parametrize("n", [3, 70])
def test_lags_against_numpy(n):
    """Every rung of a ladder, in two dimensions, from a mean that is far from zero."""
    bath = EulerMaruyama(step_size=0.05, temperature=engine.sweep([0.3, 0.9]))
    measured = {
        "trajectory": Series(lambda x: 100 + x, every=1),
        "c": Autocorrelation(lambda x: 100 + x, every=3, burn_in=5, levels=4, points=4),
        "far": MeanSquaredDisplacement(every=3, burn_in=5, levels=4, points=4),
    }
    found = engine.simulate(WELL, bath, start(n, 2), steps=200, key=n, observables=measured).observables
    x = found["trajectory"].values[5::3].astype(float)  # (times, rungs, n, 2)
    c, far = found["c"], found["far"]
    # of few particles there are the lags that every block of time saw
    assert c.unit == ("particles" if n == 70 else "blocks of time") and len(c.steps) == (10 if n == 70 else 4)
    for i, lag in enumerate(c.steps // 3):
        apart = 1 << max(0, int(np.log2(max(lag, 1))) - 1)  # of the observations that its level sees
        b = x[::apart][-(-lag // apart) :]
        pairs = np.concatenate([x[::apart][: len(b)], b], axis=-1)
        for rung in range(2):
            units = [pairs[:, rung, g::64].reshape(-1, 4) for g in range(min(n, 64))]
            way = [unit[:, 2:] - unit[:, :2] for unit in units]
            expected, error = jackknife(units, comoment)
            if n == 3:  # the errors and the bias taken off are of blocks of time
                np.testing.assert_allclose(c.covariance[i, rung], comoment(np.concatenate(units)), atol=0.02)
                continue
            np.testing.assert_allclose(c.covariance[i, rung], expected, rtol=2e-4, atol=1e-5)
            np.testing.assert_allclose(c.covariance_error[i, rung], error, rtol=1e-3)
            if lag:
                far_expected, far_error = jackknife(way, lambda d: (d**2).sum(1).mean(keepdims=True))
                np.testing.assert_allclose(far.squared[i - 1, rung], far_expected[0], rtol=2e-4)
                np.testing.assert_allclose(far.error[i - 1, rung], far_error[0], rtol=1e-3)


# bits and storage ------------------------------------------------------------------------------------------------------

ALL = {
    "c": Autocorrelation(observables.position, every=2, burn_in=9, levels=3, points=4),
    "far": MeanSquaredDisplacement(every=3, levels=3, points=4),
}
STEPS = 97


def plain(result) -> dict:
    return {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}


def same(found, expected):
    for name in expected:
        np.testing.assert_equal(plain(found[name]), plain(expected[name]))


@pytest.mark.parametrize("n", [5, 1000])
def test_a_run_that_was_cut_saved_and_loaded(n, tmp_path):
    begin = engine.simulate(WELL, BATH, start(n, 2, 0.3), steps=0, key=3, observables=ALL)
    whole, run = engine.simulate(begin, steps=STEPS), begin
    for steps in (13, 1, 50, 33):
        run = engine.simulate(run, steps=steps)
    same(run.observables, whole.observables)
    half = engine.simulate(begin, steps=50)
    half.save(tmp_path / "half.npz")
    again = engine.simulate(engine.load(tmp_path / "half.npz", observables=ALL), steps=STEPS - 50)
    same(again.observables, whole.observables)
    assert run.warnings == whole.warnings == again.warnings


def test_tiles_and_blocks_change_no_more_than_the_order_of_sums(monkeypatch):
    run = lambda: engine.simulate(WELL, BATH, start(1000, 2, 0.3), steps=STEPS, key=3, observables=ALL).observables  # noqa: E731
    expected, preparation = run(), import_module("heatbath.engine.preparation")
    chosen = preparation.choose

    def small(**shapes):
        layout = chosen(**shapes)
        return layout._replace(tile=128, tiles=8, padded=1024, steps=6)

    monkeypatch.setattr(preparation, "choose", small)
    found = run()
    for a, b in zip(jax.tree.leaves(plain_tree(found)), jax.tree.leaves(plain_tree(expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def plain_tree(found):
    arrays = lambda result: {k: v for k, v in plain(result).items() if isinstance(v, np.ndarray)}  # noqa: E731
    return {name: arrays(result) for name, result in found.items()}


def test_memory_does_not_grow():
    run = engine.simulate(WELL, BATH, start(100, 1, 0.3), steps=500, key=3, observables=ALL)
    sizes = lambda run: [leaf.shape for leaf in jax.tree.leaves(run.memories)]  # noqa: E731
    before = sizes(run)
    assert before == [(100, 8, 1), (100, 8, 1)]
    run = engine.simulate(run, steps=2500)
    assert sizes(run) == before and all(length(record.blocks) < 128 for record in run.records)
