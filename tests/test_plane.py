"""Probabilities of cells of a plane, where valleys are far narrower than the cells."""

import itertools

import numpy as np
import pytest
from scipy.special import chdtrc, ndtr

from heatbath import potentials
from heatbath.engine.equilibrium import NotKnown
from heatbath.engine.plane import integrate_plane
from heatbath.engine.reference import Cells

P_VALUE = 1e-6


def valley(width):
    """x a standard normal, y given x normal around x²: a bent valley."""
    return lambda z: np.exp(-(z[:, 0] ** 2) / 2 - ((z[:, 1] - z[:, 0] ** 2) / width) ** 2 / 2) / (2 * np.pi * width)


@pytest.mark.parametrize("width", [1.0, 0.03])
def test_a_valley_narrower_than_the_cells(width):
    """Against sums over x of what is exact in y; 8 × 8 nodes a cell miss half of it."""
    x, y = np.array([-2.0, -0.3, 1.5, 3.0]), np.array([-1.0, 0.5, 2.0, 9.0])
    nodes, weights = np.polynomial.legendre.leggauss(3000)
    exact = []
    for low, high in itertools.pairwise(x):
        at, weight = low + (high - low) * (1 + nodes) / 2, weights * (high - low) / 2
        below = ndtr((y[:, None] - at**2) / width)
        exact.append(np.diff(below, axis=0) @ (weight * np.exp(-(at**2) / 2) / np.sqrt(2 * np.pi)))
    np.testing.assert_allclose(integrate_plane(valley(width), x, y), exact, atol=1e-8)


@pytest.mark.parametrize(
    ("landscape", "temperature"), [(potentials.Rosenbrock(a=1.0, b=100.0), 1.0), (potentials.MuellerBrown(), 10.0)]
)
def test_exact_draws_fill_the_cells(landscape, temperature):
    """χ² of 100,000 draws, a divergence that is none, and ten percent too hot is seen."""
    state, n = landscape.equilibrium(temperature), 100_000
    cells = Cells(state, np.zeros((0, 0)), 20_000, 0)
    assert len(cells.probabilities) > 50 and cells.probabilities.sum() == pytest.approx(1.0, abs=1e-12)

    def chi_squared(draws):
        seen = cells.counts(np.asarray(draws, float))
        expected = cells.probabilities * len(draws)
        return chdtrc(len(expected) - 1, np.sum((seen - expected) ** 2 / expected))

    assert chi_squared(state.sample(5, n)) > P_VALUE
    assert chi_squared(landscape.equilibrium(1.1 * temperature).sample(5, n)) < P_VALUE
    found = cells.divergence(np.asarray(state.sample(6, 20_000), float))
    assert abs(found.value) < 5 * found.floor


def test_what_does_not_settle_is_an_error():
    with pytest.raises(NotKnown, match="2 × 1 cells do not settle: what is left is about"):
        integrate_plane(lambda z: 1e3 * (z[:, 0] > z[:, 1] ** 2), np.array([0.0, 0.5, 1.0]), np.array([0.0, 1.0]))


def test_cells_that_lose_what_draws_find_are_refused(monkeypatch):
    """A valley that no node sees would leave all probability outside."""
    monkeypatch.setattr("heatbath.engine.reference.integrate_plane", lambda density, x, y: np.full((7, 7), 0.5 / 49))
    with pytest.raises(NotKnown, match=r"cells hold 0\.5 of the probability and all of 4096 draws"):
        Cells(potentials.Ring().equilibrium(1.0), np.zeros((0, 0)), 3_000, 0)
