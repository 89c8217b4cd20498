"""Exact samplers of landscapes that are sums over coordinates."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from test_landscapes_1d import (
    CONFINED,
    DRAWS,
    LANDSCAPES,
    PAIR,
    Z_MOST,
    Corner,
    each_landscape,
    features,
    law,
)

from heatbath.engine.pytree import pytree
from heatbath.potentials import (
    Cosine,
    Laplace,
    Power,
    Quartic,
)


def scores(name, draws, temperature):
    """Standard scores of exact draws (n, 2): moments, energy, shape, independence; for a p-value, that of a normal."""
    found, landscape = law(name, temperature), LANDSCAPES[name]
    x = draws.astype(np.float64)

    def of_mean(values, exact):
        """exact: the same at the points of the quadrature."""
        mean = found.mean(exact)
        return float((values.mean() - mean) / math.sqrt(found.mean((exact - mean) ** 2) / values.size))

    result = (
        {"energy": of_mean(landscape.energy(x), landscape.energy(found.x))} if np.ptp(landscape.energy(found.x)) else {}
    )
    fine = np.unique(np.linspace(found.ends[:-1], found.ends[1:], 401))
    middle = (fine[1:] + fine[:-1]) / 2
    mass = np.diff(fine) * np.exp(-landscape.energy(middle) / temperature - found.log_z)
    flat = np.sort(x.ravel())
    below, steps = (
        np.interp(flat, fine, np.append(0, np.cumsum(mass)) / mass.sum()),
        np.arange(flat.size + 1) / flat.size,
    )
    distance = max((steps[1:] - below).max(), (below - steps[:-1]).max())
    result["shape"] = float(-scipy.special.ndtri(scipy.special.kolmogorov(distance * math.sqrt(flat.size)) / 2))
    for i, (values, exact) in enumerate(zip(features(name, x.ravel()), features(name, found.x), strict=True)):
        apart = values - found.mean(exact), exact - found.mean(exact)
        result |= {f"mean {i}": of_mean(values, exact), f"variance {i}": of_mean(*(a**2 for a in apart))}
        pairs, scale = apart[0].reshape(-1, 2), found.mean(apart[1] ** 2)
        result[f"coordinates {i}"] = float(np.sum(pairs[:, 0] * pairs[:, 1]) / scale / math.sqrt(len(pairs)))
        result[f"particles {i}"] = float(np.sum(pairs[1:] * pairs[:-1]) / scale / math.sqrt(flat.size))
    return result


@each_landscape
def test_draws(name):
    """And what comes from a bath ten percent too hot is seen, wherever temperature matters."""
    landscape, temperature = LANDSCAPES[name].potential, 0.7
    draws = np.asarray(landscape.equilibrium(temperature, PAIR).sample(5, DRAWS // 2))
    assert {what: z for what, z in scores(name, draws, temperature).items() if not abs(z) < Z_MOST} == {}
    if name in CONFINED and isinstance(landscape, Quartic | Power | Laplace):  # U/T has a Gamma law
        p = {"quartic": 4, "laplace": 1}.get(name) or float(landscape.exponent)
        energy = np.sort(LANDSCAPES[name].energy(draws.astype(float)).sum(axis=1)) / temperature
        apart = np.abs(scipy.special.gammainc(2 / p, energy) - np.arange(energy.size) / energy.size).max()
        assert apart < 2.7 / math.sqrt(energy.size)  # Kolmogorov and Smirnov, p = 1e-6
    if name != "torus":
        hot = np.asarray(landscape.equilibrium(1.1 * temperature, PAIR).sample(5, DRAWS // 2))
        found = scores(name, hot, temperature)
        assert found["energy"] > Z_MOST


@pytree
class CoarseCorner(Corner):
    """The same, drawn from no more than 40 cells, and not all of its tail."""

    def support(self, temperature: Any, xp: Any = np) -> tuple[Any, Any]:
        return -16 * temperature, 16 * temperature

    def nodes(self, temperature: Any, count: int = 41, xp: Any = np) -> tuple[Any, Any]:
        return super().nodes(temperature, 41, xp)

    def probabilities(self, temperature: float, count: int = 41) -> Any:
        return self.nodes(temperature)


def test_draws_are_exact_in_a_cell_with_a_corner():
    with jax.enable_x64(True):
        x = np.sort(np.asarray(CoarseCorner().draw(0.7, np.zeros(1), 8, DRAWS))[:, 0])
    apart = np.minimum(np.exp((x - 0.3) / 0.7), np.exp((0.3 - x) / 0.7)) / 2
    below = np.where(x < 0.3, apart, 1 - apart)
    assert np.abs(below - np.arange(DRAWS) / DRAWS).max() < 2.7 / math.sqrt(DRAWS)  # p = 1e-6


def test_samples_are_those_of_their_key_and_particle():
    state = Cosine().equilibrium(0.7, {"a": jnp.zeros(2), "b": jnp.zeros(())})
    many, few, other = (state.sample(key, n) for key, n in ((3, 300), (jax.random.key(3), 20), (4, 20)))
    assert jax.tree.map(jnp.shape, many) == {"a": (300, 2), "b": (300,)}
    for a, b, c in itertools.zip_longest(*(jax.tree.leaves(s) for s in (many, few, other))):
        assert np.array_equal(a[:20], b) and not np.any(np.asarray(b) == c)
