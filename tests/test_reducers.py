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
from heatbath.engine.observables import (
    Autocorrelation,
    FirstPassage,
    Histogram,
    Histogram2D,
    Mean,
    MeanSquaredDisplacement,
    Quantiles,
    Series,
    Shape,
)
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
    # of few particles there are the lags that every block of time saw, the first of which are merged
    assert c.unit == ("particles" if n == 70 else "blocks of time") and len(c.steps) == (10 if n == 70 else 8)
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
    "passage": FirstPassage(lambda x: x[0], level=0.6),
    "pairs": Histogram2D(lambda x: x, bins=(4, 5), low=-2.0, high=2.0, every=5),
    "quantiles": Quantiles(observables.position, low=-2.0, high=2.0, bins=64),
    "shape": Shape(observables.position, every=2, burn_in=5),
    "c": Autocorrelation(observables.position, every=2, burn_in=9, levels=3, points=4),
    "far": MeanSquaredDisplacement(every=3, levels=3, points=4),
}
STEPS = 97


def plain(result) -> dict:
    return {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}


def same(found, expected):
    for name in expected:
        np.testing.assert_equal(plain(found[name]), plain(expected[name]))


@pytest.mark.parametrize("n", [5, 1000, 17_000])
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
    expected, plan = run(), import_module("heatbath.engine.plan")
    chosen = plan.choose

    def small(**shapes):
        layout = chosen(**shapes)
        return layout._replace(tile=128, tiles=8, padded=1024, steps=6)

    monkeypatch.setattr(plan, "choose", small)
    found = run()
    for a, b in zip(jax.tree.leaves(plain_tree(found)), jax.tree.leaves(plain_tree(expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def plain_tree(found):
    arrays = lambda result: {k: v for k, v in plain(result).items() if isinstance(v, np.ndarray)}  # noqa: E731
    return {name: arrays(result) for name, result in found.items()}


def test_memory_does_not_grow():
    run = engine.simulate(WELL, BATH, start(100, 2, 0.3), steps=500, key=3, observables=ALL)
    sizes = lambda run: [leaf.shape for leaf in jax.tree.leaves(run.memories)]  # noqa: E731
    before = sizes(run)
    assert sorted(before) == [(100, 1), (100, 8, 2), (100, 8, 2)]
    run = engine.simulate(run, steps=2500)
    assert sizes(run) == before and all(length(record.blocks) < 128 for record in run.records)


# distributions ---------------------------------------------------------------------------------------------------------

DISTRIBUTIONS = {
    "trajectory": Series(lambda x: x, every=2),
    "shape": Shape(lambda x: x, every=2),
    "offset": Shape(lambda x: 1000 + x, every=2),
    "pairs": Histogram2D(lambda x: x, bins=(6, 5), low=(-1.5, -1.0), high=(1.5, 1.2), every=2),
    "quantiles": Quantiles(lambda x: x, low=-2.0, high=2.0, bins=4000, every=2, probabilities=(0.1, 0.5, 0.99)),
    "narrow": Quantiles(lambda x: x, low=0.0, high=2.0, every=2),
    "few": Histogram(lambda x: x, low=-0.5, high=0.5, every=2),
    "mean": Mean(lambda x: x, every=2),
}


@pytest.mark.parametrize("ladder", [False, True])
def test_distributions_against_numpy(ladder):
    from scipy import stats

    bath = EulerMaruyama(step_size=0.02, temperature=engine.sweep([0.2, 0.5]) if ladder else 0.5)
    run = engine.simulate(WELL, bath, start(200, 2, 0.7), steps=40, key=1, observables=DISTRIBUTIONS)
    found = run.observables
    x = found["trajectory"].values.astype(float)
    x = x if ladder else x[:, None]
    rung = lambda a, r: a[r] if ladder else a  # noqa: E731
    shape, offset, pairs, quantiles = (found[name] for name in ("shape", "offset", "pairs", "quantiles"))
    for r in range(x.shape[1]):
        flat = x[:, r].reshape(-1, 2)
        units = [x[:, r, g::64].reshape(-1, 2) for g in range(64)]
        for name, statistic, rtol in (
            ("mean", lambda a: a.mean(0), 1e-5), ("variance", lambda a: a.var(0), 1e-5),
            ("skewness", stats.skew, 1e-3), ("kurtosis", stats.kurtosis, 1e-3),
        ):  # fmt: skip
            expected, error = jackknife(units, statistic)
            np.testing.assert_allclose(rung(getattr(shape, name), r), expected, rtol=rtol, atol=1e-5)
            np.testing.assert_allclose(rung(getattr(shape, name + "_error"), r), error, rtol=1e-3)
        for name in ("skewness", "kurtosis"):  # a mean of a thousand costs the digits of its float32 values alone
            np.testing.assert_allclose(rung(getattr(offset, name), r), rung(getattr(shape, name), r), atol=2e-3)
        inside, *_ = np.histogram2d(flat[:, 0], flat[:, 1], bins=pairs.edges)
        area = np.multiply.outer(*map(np.diff, pairs.edges))
        assert np.abs(rung(pairs.density, r) * area * len(flat) - inside).sum() <= 4  # a float32 next to an edge
        np.testing.assert_allclose(rung(pairs.outside, r), 1 - inside.sum() / len(flat), atol=2 / len(flat))
        exact = np.quantile(flat, quantiles.probabilities, axis=0).T
        np.testing.assert_allclose(rung(quantiles.values, r), exact, atol=0.01)
    assert quantiles.resolution == pytest.approx(1e-3) and not quantiles.flags
    assert f"{np.max(pairs.outside):.2%} of the values lie outside" in pairs.flags[0]
    assert found["few"].flags and any("few: " in w and "outside the range" in w for w in run.warnings)
    narrow = found["narrow"]
    assert np.isnan(narrow.values[..., 0]).any() and "0.05" in narrow.flags[1]
    assert np.array_equal(np.isnan(narrow.values), np.isnan(narrow.errors))


def test_values_that_are_no_numbers_are_said():
    """The square root of negative values: NaN is neither below nor above, and never crosses."""
    measure = lambda x: jnp.sqrt(x)  # noqa: E731
    x = 0.03 + np.linspace(-1, 3, 64, endpoint=False).astype(np.float32)[:, None] * np.ones(2, np.float32)
    run = engine.simulate(
        FREE, EulerMaruyama(step_size=1e-9), x, steps=4, key=1,
        observables={
            "histogram": Histogram(measure, bins=4, low=0.0, high=2.0, every=1),
            "pairs": Histogram2D(measure, bins=(2, 2), low=0.0, high=2.0, every=1),
            "quantiles": Quantiles(measure, low=0.0, high=2.0, every=1),
            "passage": FirstPassage(lambda x: jnp.sqrt(x[0]), level=1.2),
        },
    )  # fmt: skip
    found = run.observables
    assert all(any("0.25 of the values are not a number" in f for f in found[n].flags) for n in ("histogram", "pairs"))
    assert any("not a number" in flag for flag in found["quantiles"].flags)
    assert any("saw no number" in flag for flag in found["passage"].flags)
    histogram = found["histogram"]
    np.testing.assert_allclose(histogram.density.sum(-1) * 0.5, 0.75, atol=1e-6)
    assert np.all(histogram.outside == 0)
    seen = np.sqrt(x[16:, 0])
    np.testing.assert_allclose(
        found["quantiles"].values[0], np.quantile(seen, (0.05, 0.25, 0.5, 0.75, 0.95)), atol=0.05
    )


def test_the_error_of_a_quantile_is_the_textbook_one():
    """Independent Gaussian values: √(p(1-p)/n)/density."""
    measured = Quantiles(observables.position, low=-5.0, high=5.0, bins=2000, every=1, probabilities=(0.5, 0.9))
    bath = EulerMaruyama(step_size=0.1, temperature=1.0)
    x = engine.scatter(jnp.zeros(1), 20_000, scale=1.0, key=7)
    still = engine.simulate(potentials.Harmonic(stiffness=1.0), bath, x, steps=1, observables=measured).observables
    law = linear_map(bath, potentials.Harmonic(stiffness=1.0), jnp.zeros(1))
    scale = np.sqrt(0.9**2 + (law.noise @ law.noise.T)[0, 0])
    from scipy.stats import norm

    exact = np.sqrt(still.probabilities * (1 - still.probabilities) / 20_000) / norm.pdf(norm.ppf(still.probabilities))
    np.testing.assert_allclose(
        np.ravel(still.errors) / scale, exact, rtol=0.4
    )  # of 63 degrees of freedom, and a local slope
    score, limit = worst(
        np.ravel(still.values), np.ravel(still.errors), scale * norm.ppf(still.probabilities), still.dof
    )
    assert score < limit


# bad input -------------------------------------------------------------------------------------------------------------

X = np.zeros((4, 2), np.float32)


def measure(observable, integrator=BATH):
    return engine.simulate(WELL, integrator, X, steps=2, observables=observable)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: Autocorrelation(observables.position, levels=0), "levels must be an integer from 1 to 24; got 0"),
        (lambda: Autocorrelation(observables.position, points=7), "points must be an even number of at least 2; got 7"),
        (lambda: MeanSquaredDisplacement(points=True), "points must be .* got True"),
        (lambda: measure(FirstPassage(lambda x: x, level=np.ones(2))), "level must be one number"),
        (lambda: measure(FirstPassage(lambda x: x, level=0.0, overshoot=True)), "overshoot corrects overdamped"),
        (lambda: Histogram2D(observables.position, bins=5, low=0.0, high=1.0), "bins must be a pair"),
        (lambda: Histogram2D(observables.position, bins=(5, 0), low=0.0, high=1.0), "bins must be a positive"),
        (lambda: Histogram2D(observables.position, low=(0.0, 1.0), high=1.0), "low must be below high"),
        (lambda: measure(Histogram2D(lambda x: x[0], low=0.0, high=1.0)), "must give two numbers; it gives 1"),
        (lambda: Histogram(observables.position, low=0.0, high=1.0, tolerance=2), "tolerance must be a fraction"),
        (lambda: Quantiles(observables.position, low=0.0, high=1.0, probabilities=(0.0,)), "between 0 and 1"),
        (lambda: Quantiles(observables.position, low=0.0, high=1.0, probabilities=0.5), "must be a tuple"),
        (lambda: Quantiles(observables.position, low=1.0, high=0.0), "Quantiles: low must be below high"),
    ],
)  # fmt: skip
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
