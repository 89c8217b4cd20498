"""Exact draws of the landscapes of two and more dimensions: energies, moments and shapes, each at a stated p-value."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from registry import FEATURES, TARGETS

from heatbath import engine, integrators, potentials
from heatbath.engine.pytree import upcast
from heatbath.potentials import cubature, draws

P_VALUE = 1e-6
Z = 5.5  # two-sided 4e-8, for all the moments of a landscape together
DRAWS = 1 << 17
MUTANT = 1 << 15
MIX = dict(means=[-2.0, 1.5], scales=[0.5, 1.0], weights=[0.3, 0.7])
MIX3 = dict(
    means=np.array([[0.0, 0.0, 0.3], [2.0, 1.0, -1.0]]), scales=np.array([0.6, 1.0]), weights=np.array([0.4, 0.6])
)

# with the temperature, and edges for each coordinate whose marginal is known
CASES = {
    "mixture cool": (potentials.GaussianMixture(**MIX), 0.7, {0: (-6, 7)}),
    "mixture cold": (potentials.GaussianMixture(**MIX), 0.11, {0: (-3, 4)}),
    "mixture hot": (potentials.GaussianMixture(**MIX), 2.3, {0: (-9, 10)}),
    "mixture in space": (potentials.GaussianMixture(**MIX3), 0.5, {0: (-4, 7), 2: (-6, 5)}),
    "ring": (potentials.Ring(barrier=2.0), 0.7, {0: (-2, 2), 1: (-2, 2)}),
    "rosenbrock": (potentials.Rosenbrock(a=0.5, b=5.0), 0.6, {0: (-3.5, 5.5), 1: (-2, 22)}),
    "funnel": (potentials.Funnel(dimension=4, scale=1.5), 0.8, {0: (-9, 9), 1: (-40, 40)}),
    "mueller": (potentials.MuellerBrown(), 20.0, {0: (-2, 1.7), 1: (-1, 2.5)}),
    "phi4": (potentials.Phi4Chain(sites=5, r=-1.0, u=1.0), 0.6, {0: (-3, 3), 3: (-3, 3)}),
    "rotors": (potentials.RotorChain(sites=4, coupling=1.5), 0.8, {2: (-math.pi, math.pi)}),
    "ring of rotors": (potentials.RotorChain(sites=5, coupling=-1.5, periodic=True), 1.2, {2: (-math.pi, math.pi)}),
    "entropic": (potentials.EntropicWell(barrier=1.5), 0.6, {0: (-2, 2), 2: (-8, 8)}),
    "regression": (potentials.BayesianLinear(features=FEATURES, targets=TARGETS), 1.7, {0: (-1, 3), 2: (-2, 3)}),
}
KNOWN_ENERGY = [name for name in CASES if name != "mixture in space"]


def p_of_edges(x, edges, probabilities):
    """Kolmogorov and Smirnov at the edges alone, less what may lie outside of them: never too small a p-value."""
    outside = max(1 - probabilities.sum(), 0)
    assert outside < 1e-3
    below = np.cumsum(np.concatenate([[0], probabilities]))
    distance = np.abs(np.searchsorted(np.sort(x), edges) / x.size - below).max() - outside
    return float(scipy.special.kolmogorov(max(distance, 0) * math.sqrt(x.size)))


def deviates(name, x):
    """Standardised means of what is known of draws x (n, d)."""
    landscape, temperature, _ = CASES[name]
    state, found = landscape.equilibrium(temperature), {}
    if name in KNOWN_ENERGY:
        with jax.enable_x64(True):
            energy = cubature.energies(upcast(landscape), x)
        found["energy"] = (energy.mean() - state.mean_energy) / (temperature * math.sqrt(state.heat_capacity / len(x)))
    if name == "funnel":  # whose own second moments no sample tells
        v = (x[:, :1] - state.mean[0]) / np.sqrt(state.covariance[0, 0])
        x = np.hstack([v, x[:, 1:] / np.sqrt(temperature * np.exp(x[:, :1]))])
        mean, covariance = np.zeros(4), np.eye(4)
    else:
        x = np.hstack([np.cos(x), np.sin(x)]) if landscape.period else x
        mean, covariance = state.mean, state.covariance
    centred = x - mean
    for i in range(x.shape[1]):
        for j in (None, *range(i, min(i + 2, x.shape[1]))):
            value = centred[:, i] if j is None else centred[:, i] * centred[:, j] - covariance[i, j]
            found[f"moment {i} {j}"] = value.mean() / (value.std() / math.sqrt(len(x)))
    return found


def shapes(name, x):
    """p-values of the marginals."""
    landscape, temperature, ranges = CASES[name]
    state = landscape.equilibrium(temperature)
    found = {}
    for c, (low, high) in ranges.items():
        edges = np.linspace(low, high, 61)
        found[c] = p_of_edges(x[:, c], edges, state.bin_probabilities(edges, coordinate=c))
    return found


def draw(name, warmer, n):
    landscape, temperature, _ = CASES[name]
    return np.asarray(landscape.equilibrium(temperature * warmer).sample(7, n), np.float64)


@pytest.mark.parametrize("name", CASES)
def test_draws(name):
    x = draw(name, 1.0, DRAWS)
    wrong = {what: z for what, z in deviates(name, x).items() if abs(z) > Z}
    wrong |= {c: p for c, p in shapes(name, x).items() if p < P_VALUE}
    assert wrong == {}


@pytest.mark.parametrize("name", CASES)
def test_ten_percent_too_hot_is_seen(name):
    found = deviates(name, draw(name, 1.1, MUTANT))
    assert max(map(abs, found.values())) > Z


def test_a_wrong_shape_is_seen():
    """Angles squeezed by a fiftieth."""
    x = draw("rotors", 1.0, DRAWS)
    x[:, 2] *= 0.98
    assert shapes("rotors", x)[2] < P_VALUE


BELONGS = ("mixture cool", "mixture in space", "funnel", "mueller", "phi4", "ring of rotors", "entropic")


@pytest.mark.parametrize("name", BELONGS)
def test_a_draw_belongs_to_its_particle(name):
    landscape, temperature, _ = CASES[name]
    d = landscape.coordinates
    state = landscape.equilibrium(
        temperature, {"a": jnp.zeros(1), "b": jnp.zeros(d - 1)} if d > 1 else jnp.zeros((1, 1))
    )
    many, few = (state.sample(3, n) for n in (60, 20))
    assert [leaf.shape for leaf in jax.tree.leaves(few)] == ([(20, 1), (20, d - 1)] if d > 1 else [(20, 1, 1)])
    assert jax.tree.all(jax.tree.map(lambda m, f: np.array_equal(m[:20], f), many, few))
    again, other = (state.sample(jax.random.key(seed), 20) for seed in (3, 4))
    assert jax.tree.all(jax.tree.map(np.array_equal, again, few))
    assert not np.any(np.asarray(jax.tree.leaves(other)[-1]) == jax.tree.leaves(few)[-1])


@pytest.mark.parametrize("name", ["mixture in space", "regression"])
def test_arrays_that_are_not_shaped_like_a_position_enter_a_run(name):
    landscape, temperature, _ = CASES[name]
    bath = integrators.LeimkuhlerMatthews(step_size=1e-3, temperature=temperature)
    run = engine.simulate(landscape, bath, landscape.equilibrium(temperature).sample(1, 8), steps=2, progress=False)
    assert np.all(np.isfinite(run.positions)) and run.positions.shape == (8, landscape.coordinates)


def test_particles_are_independent():
    normals = draws.source(5, DRAWS).normals(4)
    products = [normals[1:, 0] * normals[:-1, 0], normals[:, 0] * normals[:, 1], normals[:, 2] * normals[:, 3]]
    first, second = (draws.Source(5, np.arange(DRAWS, dtype=np.uint32), attempt).normals()[:, 0] for attempt in (0, 1))
    for product in (*products, first * second):
        assert abs(product.mean()) * math.sqrt(product.size) < Z
    assert np.array_equal(first, normals[:, 0])
    steps = np.arange(DRAWS + 1) / DRAWS
    f = scipy.special.ndtr(np.sort(second))
    assert scipy.special.kolmogorov(max((steps[1:] - f).max(), (f - steps[:-1]).max()) * math.sqrt(DRAWS)) > P_VALUE


def test_rejection_that_would_bend_the_law_is_an_error():
    with pytest.raises(ArithmeticError, match="exceeds its bound"):
        draws.rejection(0, 5, lambda numbers: (numbers.uniforms(), np.full(len(numbers.particles), 0.1)))


@pytest.mark.parametrize("temperature", [0.07, 0.3, 0.45, 0.9, 1.7, 30.0])
def test_mixtures_are_accepted_as_often_as_promised(temperature, monkeypatch):
    """k^(f-1) at least, f the fraction of 1/T: measured on the probabilities themselves."""
    seen = []
    plain = draws.rejection

    def watched(key, n, propose):
        def recorded(numbers):
            x, log_probability = propose(numbers)
            seen.append(log_probability)
            return x, log_probability

        return plain(key, n, recorded)

    monkeypatch.setattr("heatbath.potentials.gaussian_mixture.rejection", watched)
    potentials.GaussianMixture(**MIX3).equilibrium(temperature).sample(1, 1000)
    assert np.concatenate(seen).min() >= ((1 / temperature) % 1 - 1) * math.log(2) - 1e-9
