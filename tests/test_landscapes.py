"""Landscapes of two and more dimensions: exact answers against dense sums, digits in print, and identities.

The dense sums know only the formula of U, written again here in numpy: they share nothing with the package.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath import potentials
from heatbath.engine.equilibrium import NotKnown

PHI = np.random.default_rng(3).normal(size=(9, 2))
Y = PHI @ np.array([0.7, -1.1]) + np.sin(5 * np.arange(9))
MIX1 = dict(means=[-2.0, 1.5], scales=[0.5, 1.0], weights=[0.3, 0.7])
MIX2 = dict(
    means=np.array([[0.0, 0.0], [2.0, 1.0], [-1.0, 2.5]]), scales=np.array([0.5, 1.0, 0.7]), weights=[1.0, 2.0, 3.0]
)
MIX3 = dict(
    means=np.array([[0.0, 0.0, 0.3], [2.0, 1.0, -1.0]]), scales=np.array([0.6, 1.0]), weights=np.array([0.4, 0.6])
)


def mixture(x, means, scales, weights):
    """-ln p at x (..., d)."""
    means, w = np.reshape(means, (len(scales), -1)), np.array(weights) / np.sum(weights)
    d = means.shape[1]
    terms = [w[k] * np.exp(-np.sum((x - means[k]) ** 2, -1) / 2 / scales[k] ** 2) / (2 * np.pi * scales[k] ** 2) ** (d / 2)
             for k in range(len(w))]  # fmt: skip
    return -np.log(np.maximum(sum(terms), 1e-300))


def mueller(x):
    a, b, c = (-1, -1, -6.5, 0.7), (0, 0, 11, 0.6), (-10, -10, -6.5, 0.7)
    x0, y0 = x[..., 0, None] - (1, 0, -0.5, -1), x[..., 1, None] - (0, 0.5, 1.5, 1)
    return np.exp(a * x0 * x0 + b * x0 * y0 + c * y0 * y0) @ (-200, -100, -170, 15)


def chain(x, r, u):
    return ((np.roll(x, 1, -1) - x) ** 2 / 2 + r * x**2 / 2 + u * x**4 / 4).sum(-1)


def rotors(x, coupling, periodic):
    bonds = np.cos(np.roll(x, 1, -1) - x)
    return -coupling * (bonds if periodic else bonds[..., 1:]).sum(-1)


def regression(x):
    misfit = np.sum((Y - x @ PHI.T) ** 2, -1) / 0.5 + 9 * math.log(2 * np.pi * 0.5)
    return (misfit + 2 * x[..., 0] ** 2 + 3 * x[..., 1] ** 2 - math.log(2 / 2 / np.pi) - math.log(3 / 2 / np.pi)) / 2


class Case(NamedTuple):
    landscape: Any
    energy: Any  # numpy, (..., d) -> (...)
    temperature: float
    low: Any  # of the box of the dense sum
    high: Any
    nodes: int = 700


CASES = {
    "mixture 1": Case(potentials.GaussianMixture(**MIX1), lambda x: mixture(x, **MIX1), 0.7, [-9], [12]),
    "mixture 1 hot": Case(potentials.GaussianMixture(**MIX1), lambda x: mixture(x, **MIX1), 2.5, [-16], [18]),
    "mixture 2": Case(potentials.GaussianMixture(**MIX2), lambda x: mixture(x, **MIX2), 0.6, [-8, -8], [9, 9]),
    "mixture at 1/3": Case(potentials.GaussianMixture(**MIX2), lambda x: mixture(x, **MIX2), 1 / 3, [-8, -8], [9, 9]),
    "ring": Case(potentials.Ring(barrier=2.0), lambda x: 2 * (np.sum(x**2, -1) - 1) ** 2, 0.6, [-3, -3], [3, 3]),
    "rosenbrock": Case(potentials.Rosenbrock(a=0.5, b=2.0),
                       lambda x: 0.5 * (1 - x[..., 0]) ** 2 + 2 * (x[..., 1] - x[..., 0] ** 2) ** 2, 0.4,
                       [-4.5, -4], [6.5, 36], 900),
    "funnel": Case(potentials.Funnel(dimension=2, scale=0.5),
                   lambda x: 2 * x[..., 0] ** 2 + x[..., 0] / 2 + x[..., 1] ** 2 * np.exp(-x[..., 0]) / 2
                   + math.log(2 * np.pi * 0.5), 0.8, [-4.5, -50], [4.5, 50], 1600),
    "mueller": Case(potentials.MuellerBrown(), mueller, 20.0, [-4.4, -3.4], [3.4, 4.4]),
    "phi4": Case(potentials.Phi4Chain(sites=3, r=-1.3, u=0.8), lambda x: chain(x, -1.3, 0.8), 0.7, [-4] * 3, [4] * 3, 120),
    "gaussian chain": Case(potentials.Phi4Chain(sites=2, r=0.7, u=0.0), lambda x: chain(x, 0.7, 0), 0.7, [-9] * 2, [9] * 2),
    "rotors": Case(potentials.RotorChain(sites=3, coupling=1.3), lambda x: rotors(x, 1.3, False), 0.6, [-np.pi] * 3,
                   [np.pi] * 3, 100),
    "ring of rotors": Case(potentials.RotorChain(sites=3, coupling=-1.3, periodic=True),
                           lambda x: rotors(x, -1.3, True), 0.6, [-np.pi] * 3, [np.pi] * 3, 100),
    "entropic": Case(potentials.EntropicWell(barrier=2.0, offset=0.6, stiffness=1.5, softening=0.8, transverse=1),
                     lambda x: 2 * (x[..., 0] ** 2 - 1) ** 2 + 0.3 * (x[..., 0] + 1)
                     + 0.75 * np.exp(-0.8 * x[..., 0]) * x[..., 1] ** 2, 0.7, [-2.9, -30], [2.9, 30], 1200),
    "regression": Case(potentials.BayesianLinear(features=PHI, targets=Y, noise_variance=0.5, prior_precision=[2.0, 3.0]),
                       regression, 0.7, [-4, -4], [4, 4]),
}  # fmt: skip
ANGLES = ("rotors", "ring of rotors")


def dense(case):
    """Axes, and weights of sum Z exp(lowest U/T) at their product, and the energies and points there."""
    nodes, weights = np.polynomial.legendre.leggauss(case.nodes)
    half, middle = np.subtract(case.high, case.low) / 2, np.add(case.high, case.low) / 2
    axes = [m + h * nodes for m, h in zip(middle, half, strict=True)]
    x = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    u = case.energy(x)
    weight = np.exp((u.min() - u) / case.temperature)
    for c, h in enumerate(half):
        weight *= (h * weights).reshape([-1 if i == c else 1 for i in range(len(axes))])
    return axes, x, u, weight


def near(value, wanted, tolerance=1e-9):
    np.testing.assert_allclose(value, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_against_dense_sums(name):
    case = CASES[name]
    t, d = case.temperature, len(case.low)
    axes, x, u, weight = dense(case)
    z = weight.sum()
    state = case.landscape.equilibrium(t)
    assert state.dimension == d
    energy = (weight * u).sum() / z
    near(state.log_partition, math.log(z) - u.min() / t)
    near(state.mean_energy, energy)
    near(state.heat_capacity, (weight * (u - energy) ** 2).sum() / z / t**2)
    near(state.entropy, (energy - state.free_energy) / t)
    feature = np.concatenate([np.cos(x), np.sin(x)], -1) if name in ANGLES else x
    feature, p = feature.reshape(u.size, -1), weight.ravel() / z
    mean = p @ feature
    near(state.mean, mean)
    near(state.covariance, (feature - mean).T * p @ (feature - mean), 1e-8)
    # the energy is the formula, and the marginals are the sums over all other coordinates
    some = x.reshape(-1, d)[p > 1e-9][:: 1 + u.size // 50]
    with jax.enable_x64(True):
        near(jax.jit(jax.vmap(case.landscape))(some), case.energy(some), 1e-12)
    _, gauss = np.polynomial.legendre.leggauss(case.nodes)
    for c in {0, d - 1}:
        half = (case.high[c] - case.low[c]) / 2
        density = weight.sum(axis=tuple(i for i in range(d) if i != c)) / (half * gauss) / z
        near(state.density(axes[c][::20], coordinate=c), density[::20], 1e-8)


INTEGRATED = [
    name for name in CASES if name not in (*ANGLES, "phi4", "gaussian chain", "mixture 1 hot", "mixture at 1/3")
]


@pytest.mark.parametrize("name", INTEGRATED)
def test_identities(name):
    """Of averages by the landscape's own quadrature: the virial, forces against curvature, parameters against F."""
    case = CASES[name]
    t, state = case.temperature, case.landscape.equilibrium(case.temperature)
    leaves, treedef = jax.tree.flatten(case.landscape)
    leaves = [np.asarray(leaf, float) for leaf in leaves]

    def averages(x):
        potential = jax.tree.unflatten(treedef, leaves)
        force = jax.grad(potential)(x)
        slopes = jax.grad(lambda l: jax.tree.unflatten(treedef, l)(x))(leaves)
        laplacian = jnp.trace(jax.hessian(potential)(x))
        return {"virial": (x - 0.3) @ force, "balance": force @ force - t * laplacian, "laplacian": laplacian,
                "energy": potential(x), "x": x, "slopes": [jnp.sum(s) for s in slopes]}  # fmt: skip

    found = state.expectation(averages)
    near(found["virial"], state.dimension * t, 1e-8)
    assert abs(found["balance"]) < 1e-8 * abs(found["laplacian"]) * t
    near(found["energy"], state.mean_energy)
    near(found["x"], state.mean)
    for i, slope in enumerate(found["slopes"]):
        moved = lambda e, i=i: [leaf + e * (j == i) for j, leaf in enumerate(leaves)]  # noqa: E731
        free = lambda e: jax.tree.unflatten(treedef, moved(e)).equilibrium(t).free_energy  # noqa: B023, E731
        near((free(1e-4) - free(-1e-4)) / 2e-4, slope, 1e-7)


BAD = {
    "no dimension": (lambda: potentials.Funnel(dimension=1), ValueError, "dimension must be a whole number of at least 2"),
    "no scale": (lambda: potentials.Funnel(scale=0.0), ValueError, "scale must be positive; got 0"),
    "hot funnel": (lambda: potentials.Funnel().equilibrium(5.0), ValueError, "too hot at temperature 5"),
    "wide funnel": (lambda: potentials.Funnel(dimension=4).equilibrium(1.0).expectation(jnp.sum), NotKnown, "at most 3"),
    "expectation of 3": (lambda: potentials.Quartic().equilibrium(1.0).expectation(3), TypeError, "got 3"),
    "no barrier": (lambda: potentials.Ring(barrier=0.0), ValueError, "barrier must be positive; got 0"),
    "barrier in an array": (lambda: potentials.Ring(barrier=jnp.float32(-1)).equilibrium(1.0), ValueError,
                            "must be positive"),
    "coordinates": (lambda: potentials.Ring().equilibrium(1.0, jnp.zeros(3)), ValueError,
                    "has 2 coordinates.*position of 3"),
    "too different": (lambda: potentials.GaussianMixture(means=np.zeros((2, 2)), scales=[1e-3, 1.0], weights=[0.5, 0.5])
                      .equilibrium(1.0), ValueError, "narrower than the grid"),
    "narrow ring": (lambda: potentials.Ring(barrier=1e6).equilibrium(1.0).density(0.5), ValueError,
                    "narrower than the grid"),
    "too narrow": (lambda: potentials.MuellerBrown().equilibrium(0.02), ValueError, "narrower than the grid"),
    "valley": (lambda: potentials.Rosenbrock(b=-1.0), ValueError, "b must be positive; got -1"),
    "infinite": (lambda: potentials.Phi4Chain(r=-1.0, u=0.0).equilibrium(1.0), ValueError, "finite integral; got u = 0"),
    "cold chain": (lambda: potentials.Phi4Chain().equilibrium(1e-4), ValueError, "too low for 200 nodes"),
    "one site": (lambda: potentials.Phi4Chain(sites=1), ValueError, "sites must be a whole number of at least 2; got 1"),
    "half a site": (lambda: potentials.RotorChain(sites=2.5), ValueError, "sites must be a whole number"),
    "a word": (lambda: potentials.RotorChain(periodic="yes"), TypeError, "periodic must be True or False"),
    "stiff rotors": (lambda: potentials.RotorChain().equilibrium(1e-5), ValueError, "at most 10000"),
    "frustrated": (lambda: potentials.RotorChain(sites=5, coupling=-1.0, periodic=True).equilibrium(0.05),
                   NotKnown, "frustrated"),
    "components": (lambda: potentials.GaussianMixture(means=[0.0, 1.0], scales=[1.0], weights=[0.5, 0.5]), ValueError,
                   "one row for each component"),
    "weights": (lambda: potentials.GaussianMixture(means=[0.0, 1.0], scales=[1.0, 1.0], weights=[0.5, 0.0]), ValueError,
                "weights must be positive; got 0"),
    "means": (lambda: potentials.GaussianMixture(means=np.ones((2, 1, 1)), scales=[1.0, 1.0], weights=[0.5, 0.5]),
              ValueError, "means must be an array of 1 or 2 axes"),
    "transverse": (lambda: potentials.EntropicWell(transverse=0), ValueError, "transverse must be a whole number"),
    "targets": (lambda: potentials.BayesianLinear(features=np.ones((4, 2)), targets=np.ones(3)), ValueError, "must fit"),
    "precision": (lambda: potentials.BayesianLinear(features=np.ones((4, 2)), targets=np.ones(4), prior_precision=[1.0] * 3),
                  ValueError, "must fit"),
    "variance": (lambda: potentials.BayesianLinear(features=np.ones((4, 2)), targets=np.ones(4), noise_variance=-1.0),
                 ValueError, "noise_variance must be positive"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused(name):
    make, error, words = BAD[name]
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("temperature", [0, -1.0, math.nan])
def test_temperatures_that_are_refused(name, temperature):
    with pytest.raises(ValueError, match="temperature must be one positive number; got"):
        CASES[name].landscape.equilibrium(temperature)


def test_a_mixture_too_cold_for_exact_draws():
    state = potentials.GaussianMixture(**MIX3).equilibrium(1e-6)
    with pytest.raises(NotKnown, match="too cold"):
        state.sample(0, 5)
