"""Estimates of divergence and entropy against closed forms, and their error bars."""

import numpy as np
import pytest
from scipy.special import ndtri
from test_relaxation import OVERDAMPED, UNDERDAMPED, UNIT, Z

from heatbath.engine import ornstein_uhlenbeck as ou
from heatbath.engine.divergence import entropy_nearest, kl_from_counts, kl_gaussian, kl_nearest, wasserstein
from heatbath.engine.ornstein_uhlenbeck import Gaussian


def test_closed_forms():
    """Digits of another derivation: matrix exponentials and Lyapunov equations."""
    found = ou.overdamped(1.0, temperature=1.0).divergence([0.0, 0.5, 1.0, 2.0], OVERDAMPED)
    assert np.allclose(found, [2.31814718056, 0.75922359496, 0.27343493546, 0.03667888872], atol=1e-10)
    process = ou.underdamped(1.0, temperature=1.0, friction=1.0)
    found = process.divergence([0.5, 1.0, 2.0, 4.0], UNDERDAMPED)
    assert np.allclose(found, [2.15089452558, 1.55785987285, 0.40309463649, 0.05189515318], atol=1e-10)
    assert np.allclose(process.at(1.0, UNDERDAMPED).covariance, [[0.67359678, 0.26396608], [0.26396608, 0.78652755]])


def scores(estimates, exact):
    """Mean of independent estimates in units of its error, and their spread in units of the error they state."""
    value, error = np.array([e.value for e in estimates]), np.array([e.error for e in estimates])
    return (value.mean() - exact) / (value.std() / np.sqrt(len(value))), value.std() / error.mean()


def populations(n, shift, scale, coordinates=1, repeats=60):
    x = np.random.default_rng(5).normal(size=(repeats, n, coordinates))
    return shift + scale * x


PLACES = [(0.0, 1.0), (0.5, 1.0), (0.0, 1.3), (-1.0, 0.6)]


def exact_kl(shift, scale, coordinates=1):
    return coordinates * (scale**2 - 1 - 2 * np.log(scale) + shift**2) / 2


@pytest.mark.parametrize("shift, scale", PLACES)
def test_gaussian_divergence(shift, scale):
    """Unbiased, also where the bias is many times the error of 400 repeats, and honest about its error."""
    law = Gaussian(np.zeros(2), np.eye(2))
    found = [kl_gaussian(x, law) for x in populations(100, shift, scale, 2, 400)]
    z, ratio = scores(found, exact_kl(shift, scale, 2))
    assert abs(z) < Z and 0.75 < ratio < 1.25


@pytest.mark.parametrize("tilt", [0.0, 0.3, 1.0])
def test_histogram_divergence(tilt):
    """Multinomial counts of 40 bins: unbiased to second order, its plug-in value is not."""
    p, n = np.full(40, 1 / 40), 2_000
    f = np.exp(-tilt * np.arange(40) / 20)
    f /= f.sum()
    rows = np.random.default_rng(3).multinomial(n, f, size=2_000)
    exact = np.sum(f * np.log(f / p))
    z, ratio = scores([kl_from_counts(row, p) for row in rows], exact)
    assert abs(z) < Z and 0.85 < ratio < 1.15
    plug_in = np.mean([kl_from_counts(row, p).value + 39 / (2 * n) for row in rows])
    assert abs(plug_in - exact - 39 / (2 * n)) < 0.05 * 39 / (2 * n)  # the bias that is taken off
    if tilt == 0.0:
        values = [kl_from_counts(row, p).value for row in rows]
        assert abs(np.std(values) / kl_from_counts(rows[0], p).floor - 1) < 0.08


@pytest.mark.parametrize("coordinates", [1, 3])
@pytest.mark.parametrize("shift, scale", PLACES)
def test_nearest_neighbour_divergence(shift, scale, coordinates):
    """Its bias is below a third of the error of a population; the error is right to 40 %."""
    n, log_q = 1_500, lambda x: -np.sum(x**2, axis=1) / 2 - coordinates / 2 * np.log(2 * np.pi)
    draws = np.random.default_rng(8).normal(size=(40, n, coordinates))
    found = [kl_nearest(x, log_q, draws=y)
             for x, y in zip(populations(n, shift, scale, coordinates, 40), draws, strict=True)]  # fmt: skip
    value, error = (np.mean([f[i] for f in found]) for i in (0, 1))
    assert abs(value - exact_kl(shift, scale, coordinates)) < error * (1 / 3 + Z / np.sqrt(40))
    assert 0.6 < scores(found, 0.0)[1] < 1.4


def test_entropy_by_nearest_neighbours():
    for x, exact in ((populations(2_000, 0.0, 2.0)[0], np.log(2) + np.log(2 * np.pi * np.e) / 2),
                     (np.random.default_rng(1).uniform(0, 3, (2_000, 2)), 2 * np.log(3))):  # fmt: skip
        found = entropy_nearest(x)
        assert abs(found.value - exact) < Z * found.error < 0.3


@pytest.mark.parametrize("shift, scale", PLACES)
def test_wasserstein_distance(shift, scale):
    n = 2_000
    quantiles = ndtri((np.arange(n) + 0.5) / n)
    found = [wasserstein(x, quantiles) for x in populations(n, shift, scale)]
    if (shift, scale) == (0.0, 1.0):
        assert 0.7 < np.sqrt(np.mean([f.value**2 for f in found])) / found[0].floor < 1.3
    else:
        z, ratio = scores(found, np.hypot(shift, scale - 1))
        assert abs(z) < Z + 1 and 0.7 < ratio < 1.3  # a bias of floor²/2W: less than one error of the mean


def test_wrong_populations_are_seen():
    """20,000 particles moved by 0.1, or 10 % hotter, are five errors away by every estimator that claims to see them."""
    n, log_q = 20_000, lambda x: -(x[:, 0] ** 2) / 2 - np.log(2 * np.pi) / 2
    edges = ndtri(np.linspace(0, 1, 51))
    x, draws = populations(2 * n, 0.0, 1.0, repeats=1).reshape(2, n, 1)
    estimators = {
        "moments": lambda z: kl_gaussian(z, UNIT),
        "histogram": lambda z: kl_from_counts(np.histogram(z, edges)[0], np.full(50, 0.02)),
        "neighbours": lambda z: kl_nearest(z, log_q, draws=draws),
    }
    for name, estimate in estimators.items():
        right, moved, hot, hotter = (estimate(z) for z in (x, x + 0.1, x * np.sqrt(1.1), 1.2 * x))
        assert abs(right.value) < Z * right.floor, name
        if name != "neighbours":  # whose floor is 0.008 here, against divergences of 0.005 and 0.0023
            assert moved.value > Z * moved.error and moved.value > Z * moved.floor, name
            assert hot.value > 4 * hot.error and hot.value > Z * hot.floor, name
        else:
            assert hotter.value > 2 * hotter.error
    assert estimators["histogram"](x + 50.0).value > 3.8  # all in the last bin: ln 50
