"""Thermostats: the law they keep, by quadrature and Jacobians; under gradient noise of unknown strength by Monte Carlo.

In several coordinates, as leaves of a tree, at T ≠ 1 and different masses. Statistical thresholds are p = 1e-6.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from test_sghmc import Shifted

from heatbath import engine, integrators, potentials
from heatbath.engine import Chance, Noise, Potential, number, pytree
from heatbath.engine.protocols import as_potential
from heatbath.engine.pytree import root_times, upcast
from heatbath.integrators import BADODAB, SGNHT, NoseHooverChain, Thermostatted, nose_hoover_chain, thermostats

T, GAMMA, Q = 0.6, 0.8, 1.3
MASS = {"a": np.array([1.7]), "b": np.array([0.6])}
STIFFNESS = {"a": 1.5, "b": 0.7}
Z = 4.9  # two-sided, p = 1e-6


def energy(x):
    return (STIFFNESS["a"] * jnp.sum(x["a"] ** 2) + STIFFNESS["b"] * jnp.sum(x["b"] ** 2)) / 2


def features(state):
    """Averages that tell temperatures, frictions and their correlations apart."""
    (xa, xb), (pa, pb) = (ravel_pytree(tree)[0] for tree in (state.position, state.momentum))
    z = state.friction
    still = [xa**2, xb**2, xa * xb, pa**2, pb**2, pa * pb, z, z**2]
    return jnp.stack([*still, xa * pa, xb * pb, z * xa * pa, z * pa**2, z * pb**2])


def rates(cls, **numbers):
    """Of E[f(step)] - E[f] over the invariant law and the noise, by Gauss and Hermite: its size, and its power of h."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    grid = np.stack(np.meshgrid(*[nodes] * 7, indexing="ij"), -1).reshape(-1, 7)
    weight = np.prod(np.stack(np.meshgrid(*[weights / weights.sum()] * 7, indexing="ij"), -1).reshape(-1, 7), axis=1)
    tree = lambda pair: {"a": pair[:1], "b": pair[1:]}  # noqa: E731
    potential = as_potential(energy)

    def change(bath, z):
        x, p, (zeta,), xi = jnp.split(z, [2, 4, 5])
        x = tree(x * np.sqrt([T / STIFFNESS["a"], T / STIFFNESS["b"]]))
        p = tree(p * np.sqrt([T * MASS["a"][0], T * MASS["b"][0]]))
        gradient = None if cls is SGNHT else potential.gradient(x)
        state = Thermostatted(x, p, GAMMA + np.sqrt(T / (2 * Q)) * zeta, gradient)
        return features(bath.step(potential, state, Noise((tree(xi),)))) - features(state)

    with jax.enable_x64(True):
        changes, sizes = jax.jit(jax.vmap(change, in_axes=(None, 0))), []
        for h in (0.05, 0.025):
            bath = cls(step_size=h, **{"friction": GAMMA, "temperature": T, "mass": MASS, "inertia": Q} | numbers)
            sizes.append(np.abs(np.asarray(changes(upcast(bath), jnp.asarray(grid))).T @ weight).max())
    return sizes[0], float(np.log2(sizes[0] / sizes[1]))


@pytest.mark.parametrize("cls", [SGNHT, BADODAB])
def test_the_invariant_law(cls):
    """exp(-H/T - nQ(ζ - γ)²/2T) changes in a step by no more than the order of the scheme, in each of 13 averages."""
    size, power = rates(cls)
    assert size < 0.01
    assert power == pytest.approx(cls.weak_order + 1, abs=0.15)


MUTANTS = {
    "degrees of freedom per leaf": ("size_of", lambda tree: jax.tree.leaves(tree)[0].size),
    "noise √h for √2h": ("root_times", lambda mass, xi: root_times(jax.tree.map(lambda m: m / 2, mass), xi)),
    "no mass in the noise": ("root_times", lambda mass, xi: xi),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_thermostat_keeps_another_law(mutant, monkeypatch):
    monkeypatch.setattr(thermostats, *MUTANTS[mutant])
    size, power = rates(BADODAB)
    assert size > 0.01 and power == pytest.approx(1, abs=0.15)


def test_another_temperature_of_the_bath_keeps_another_law():
    size, power = rates(BADODAB, temperature=1.1 * T)
    assert size > 0.001 and power == pytest.approx(1, abs=0.15)


def test_gradient_noise_is_a_larger_friction():
    """SGNHT with gradient noise is in law SGNHT at γ + hσ²/2mT: the momentum's response to all noise, squared."""
    h, sigma, mass = 0.3, 2.0, np.array([0.5, 1.3])
    potential, x = potentials.Harmonic(), jnp.array([0.4, -1.0])

    def momentum(friction, deviation, noises):
        bath = SGNHT(step_size=h, friction=friction, temperature=T, mass=mass, inertia=Q)
        state = Thermostatted(x, x, jnp.float32(0.7), None)
        return bath.step(Shifted(potential=potential, shift=deviation * noises[1]), state, Noise((noises[0],))).momentum

    silent, variance = jnp.zeros((2, 2)), []
    for friction, deviation in ((GAMMA, sigma * np.sqrt(mass)), (GAMMA + h * sigma**2 / (2 * T), 0.0)):
        response = jax.jacfwd(lambda noises: momentum(friction, deviation, noises))(silent)  # noqa: B023
        variance.append(np.einsum("inj,knj->ik", response, response))
    np.testing.assert_allclose(*variance, rtol=1e-5)


@pytree
class Noisy(Potential):
    """An energy whose gradient has Gaussian noise, from two words a step."""

    potential: Any
    deviation: Any = number("non-negative")

    @property
    def chance(self):
        return (Chance(words=2),)

    def __call__(self, position):
        return self.potential(position)

    def at(self, draws):
        u, v = (draws[0].words.astype(jnp.float32) + 0.5) / 2.0**32
        radius = jnp.sqrt(-2 * jnp.log(u))
        angles = 2 * jnp.pi * v + jnp.array([0.0, -jnp.pi / 2])
        return Shifted(potential=self.potential, shift=self.deviation * radius * jnp.cos(angles))


SIGMA, WEIGHTS, SPRINGS = 3.0, np.array([1.7, 0.6]), np.array([1.5, 0.7])
TARGET = potentials.Harmonic(stiffness=jnp.asarray(SPRINGS, jnp.float32))


def population(bath, noisy=True, n=10_000, steps=300):
    """The last state of independent particles that began at the exact positions."""
    potential = Noisy(potential=TARGET, deviation=SIGMA * np.sqrt(WEIGHTS)) if noisy else TARGET
    start = TARGET.equilibrium(T, jnp.zeros(2)).sample(2, n)
    return engine.simulate(potential, bath, start, steps=steps, key=3, observables={}).state


def deviates(value, expected, tolerance=0.0):
    """Whether the mean over particles is further from what is expected than errors at p = 1e-6 and a tolerance allow."""
    value = np.asarray(value, float)
    return abs(value.mean() - expected) > Z * value.std() / np.sqrt(len(value)) + tolerance


NUMBERS = {"friction": GAMMA, "temperature": T, "mass": WEIGHTS}


def test_sgnht_holds_the_temperature_under_unknown_noise():
    """The mean kinetic temperature is T at any step, and the law that of the larger friction without the noise."""
    h, bath = 0.1, {**NUMBERS, "inertia": Q}
    shifted = GAMMA + h * SIGMA**2 / (2 * T)
    noisy = population(SGNHT(step_size=h, **bath))
    exact = population(SGNHT(step_size=h, **(bath | {"friction": shifted})), noisy=False)
    kinetic = lambda state: np.sum(np.asarray(state.momentum) ** 2 / WEIGHTS, axis=1) / 2  # noqa: E731
    read = {
        "ζ": lambda s: np.asarray(s.friction),
        "ζ²": lambda s: (np.asarray(s.friction) - shifted) ** 2,
        "kinetic": kinetic,
        "x²": lambda s: np.asarray(s.position)[:, 0] ** 2,
    }
    for name, of in read.items():
        a, b = of(noisy), of(exact)
        assert abs(a.mean() - b.mean()) < Z * np.sqrt((a.var() + b.var()) / len(a)), name
    for state in (noisy, exact):
        assert not deviates(kinetic(state), T)
        assert not deviates(state.friction, shifted, tolerance=0.1 * shifted)
    hot = population(integrators.BAOAB(step_size=h, **NUMBERS))
    assert deviates(kinetic(hot), T) and kinetic(hot).mean() > 1.5 * T  # what the thermostat is for


def test_badodab_holds_the_temperature_of_positions():
    """Within 2 %, as the noise enters at first order; SGNHT without noise is 8 % off at this step, and BAOAB 94 %."""
    h = 0.1
    state = population(BADODAB(step_size=h, **NUMBERS, inertia=Q))
    virial = lambda state: np.sum(np.asarray(state.position) ** 2 * SPRINGS, axis=1) / 2  # noqa: E731
    assert not deviates(virial(state), T, tolerance=0.02 * T)
    assert not deviates(state.friction, GAMMA + h * SIGMA**2 / (2 * T), tolerance=0.05)
    assert not deviates(
        (np.asarray(state.friction) - np.mean(state.friction)) ** 2, T / (2 * Q), tolerance=0.05 * T / (2 * Q)
    )
    assert deviates(virial(population(integrators.BAOAB(step_size=h, **NUMBERS))), T, tolerance=0.5 * T)


def chained(length=3, parts=1, h=0.2):
    """A chain in three coordinates, in two leaves, on an anharmonic energy; a state of it, everything in float64."""
    bath = upcast(NoseHooverChain(length=length, parts=parts, step_size=h, temperature=T, mass=1.7, inertia=Q))
    potential = as_potential(lambda x: jnp.sum(x["a"] ** 4) / 4 + jnp.sum(jnp.cosh(x["b"])) + x["a"][0] * x["b"][0] / 3)
    x = {"a": jnp.array([0.7, -0.4]), "b": jnp.array([0.9])}
    state = bath.init(potential, x, Noise(({"a": jnp.array([0.3, -1.2]), "b": jnp.array([0.8])},)))
    return bath, potential, state._replace(chain=jnp.array([0.4, -0.7, 0.5, 0.2])[:length])


CHAINS = [(1, 1), (3, 1), (2, 3), (2, 5)]


@pytest.mark.parametrize("length, parts", CHAINS)
def test_a_chain_is_reversible(length, parts):
    with jax.enable_x64(True):
        bath, potential, state = chained(length, parts)
        back = lambda s: s._replace(momentum=jax.tree.map(jnp.negative, s.momentum), chain=-s.chain)  # noqa: E731
        step = jax.jit(lambda s: bath.step(potential, s, Noise()))
        there = step(step(step(state)))
        here = back(step(step(step(back(there)))))
        for a, b in zip(jax.tree.leaves(here), jax.tree.leaves(state), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)
        assert np.abs(there.position["a"] - state.position["a"]).max() > 0.1


@pytest.mark.parametrize("length, parts", CHAINS)
def test_a_chain_conserves_its_quantity_to_second_order(length, parts):
    with jax.enable_x64(True):
        drift = []
        for steps in (40, 80):
            bath, potential, state = chained(length, parts, h=4 / steps)
            end = jax.lax.fori_loop(0, steps, lambda _, s: bath.step(potential, s, Noise()), state)  # noqa: B023
            drift.append(abs(float(bath.conserved(potential, end) - bath.conserved(potential, state))))
        assert drift[0] < 0.05 and np.log2(drift[0] / drift[1]) == pytest.approx(2, abs=0.15)


def volume(length, parts):
    """ln |det| of a step in (x, p, ζ), and the heat that the chain gave off meanwhile over T."""
    with jax.enable_x64(True):
        bath, potential, state = chained(length, parts)
        flat, unravel = ravel_pytree((state.position, state.momentum, state.chain))

        def step(z):
            s = state._replace(**dict(zip(("position", "momentum", "chain"), unravel(z), strict=True)))
            s = bath.step(potential, bath.refresh(potential, s), Noise())
            return ravel_pytree((s.position, s.momentum, s.chain))[0], s.heat

        jacobian, heat = jax.jacfwd(step, has_aux=True)(flat)
        return float(np.linalg.slogdet(jacobian)[1]), -float(heat) / T


@pytest.mark.parametrize(
    "length, parts", [(3, 1), (2, 3), *(pytest.param(*c, marks=pytest.mark.slow) for c in CHAINS[::3])]
)
def test_a_chain_contracts_volume_by_the_heat_it_takes(length, parts):
    """ln |det J| = -Δheat/T at any step: with the conserved quantity, exp(-H/T - Σ Q_j ζ_j²/2T) is what is kept."""
    contraction, heat = volume(length, parts)
    assert abs(heat) > 0.01
    assert contraction == pytest.approx(heat, abs=1e-12)


def test_a_chain_that_counts_a_leaf_contracts_otherwise(monkeypatch):
    monkeypatch.setattr(nose_hoover_chain, "size_of", lambda tree: jax.tree.leaves(tree)[0].size)
    contraction, heat = volume(3, 1)
    assert abs(contraction - heat) > 0.01


def test_a_chain_of_three_samples_the_canonical_law():
    bath = NoseHooverChain(step_size=0.1, temperature=T, mass=WEIGHTS, inertia=Q)
    state = population(bath, noisy=False, n=4_000, steps=600)
    for i in range(2):
        assert not deviates(np.asarray(state.position)[:, i] ** 2, T / SPRINGS[i], tolerance=0.01 * T / SPRINGS[i])
        assert not deviates(np.asarray(state.momentum)[:, i] ** 2, T * WEIGHTS[i], tolerance=0.01 * T * WEIGHTS[i])
    assert not deviates(np.asarray(state.chain)[:, 0] ** 2, T / (2 * Q), tolerance=0.01 * T / Q)
    assert not deviates(np.asarray(state.chain)[:, 2] ** 2, T / Q, tolerance=0.01 * T / Q)


@pytest.mark.parametrize("length", [0, -1, 2.0, True])
def test_lengths_of_a_chain(length):
    with pytest.raises(ValueError, match=f"length must be a whole number of thermostats, at least 1; got {length}"):
        NoseHooverChain(step_size=0.1, length=length)


def test_parts_of_a_chain():
    with pytest.raises(ValueError, match=r"parts must be one of \(1, 3, 5\); got 2"):
        NoseHooverChain(step_size=0.1, parts=2)


@pytest.mark.parametrize("parts", [1, 3])
def test_time_goes_by_the_step_whatever_its_parts(parts):
    bath = NoseHooverChain(step_size=0.1, parts=parts)
    run = engine.simulate(potentials.Harmonic(), bath, np.ones((4, 2), np.float32), steps=5, progress=False)
    assert run.time == pytest.approx(0.5)
