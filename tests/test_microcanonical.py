"""Microcanonical Langevin: its step against its source, the volume it keeps, its bias and its order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from heatbath import engine, integrators, potentials
from heatbath.engine import Noise, pytree
from heatbath.engine.protocols import as_potential
from heatbath.engine.pytree import upcast
from heatbath.integrators import MCLMC, Isokinetic, microcanonical

T = 0.6
Z = 4.9  # two-sided, p = 1e-6


def energy(x):
    return jnp.sum(x["a"] ** 4) / 4 + jnp.sum(jnp.cosh(x["b"])) + x["a"][0] * x["b"][0] / 3


def silent(h=0.4):
    """A step without refreshment worth the name, in float64, on an anharmonic energy of two leaves; and a state."""
    bath, potential = upcast(MCLMC(step_size=h, persistence_length=1e40, temperature=T)), as_potential(energy)
    x = {"a": jnp.array([0.7, -0.4]), "b": jnp.array([0.9])}
    return bath, potential, bath.init(potential, x, Noise((jax.tree.map(lambda a: jnp.cos(7 * a) - 0.2, x),)))


def still(x):
    return Noise((jax.tree.map(jnp.zeros_like, x),))


def test_the_step_of_its_source():
    """Position, velocity and energy error of blackjax's isokinetic velocity Verlet, at temperature T."""
    blackjax = pytest.importorskip("blackjax.mcmc.integrators")
    with jax.enable_x64(True):
        bath, potential, state = silent()
        verlet = blackjax.isokinetic_velocity_verlet(lambda x: -energy(x) / T)
        log_density = -state.energy / T, jax.tree.map(lambda g: -g / T, state.gradient)
        theirs, growth = verlet(blackjax.IntegratorState(state.position, state.velocity, *log_density), 0.4)
        ours = bath.step(potential, state, still(state.position))
        for name, other in (("position", theirs.position), ("velocity", theirs.momentum)):
            flat = [ravel_pytree(tree)[0] for tree in (getattr(ours, name), other)]
            np.testing.assert_allclose(*flat, rtol=0, atol=1e-13)
        error = T * (growth - theirs.logdensity + log_density[0])
        np.testing.assert_allclose(ours.energy_error, error, rtol=0, atol=1e-13)
        assert abs(error) > 1e-3


def contraction():
    """ln |det| of a step without refreshment on positions and directions, and what the energy error makes of it."""
    with jax.enable_x64(True):
        bath, potential, state = silent()
        (x, back), (u, _) = ravel_pytree(state.position), ravel_pytree(state.velocity)

        def step(x, u):
            gradient = potential.gradient(back(x))
            s = bath.step(potential, Isokinetic(back(x), back(u), gradient, energy(back(x)), 0.0), still(back(x)))
            return ravel_pytree((s.position, s.velocity))[0], s

        jacobian = np.concatenate(jax.jacfwd(lambda x, u: step(x, u)[0], argnums=(0, 1))(x, u), axis=1)
        new = step(x, u)[1]
        tangent = lambda u: np.linalg.svd(np.asarray(u)[None])[2][1:].T  # noqa: E731  (d, d - 1)
        frame = lambda u: np.block([[np.eye(3), np.zeros((3, 2))], [np.zeros((3, 3)), tangent(u)]])  # noqa: E731
        square = frame(ravel_pytree(new.velocity)[0]).T @ jacobian @ frame(u)
        change = float(new.energy - state.energy)
        return float(np.linalg.slogdet(square)[1]), (change - float(new.energy_error)) / T, change / T


def test_the_energy_error_is_the_metropolis_ratio():
    """The density of exp(-U/T) × the uniform law of directions, carried along by a step, changes by exp(-ΔE/T)."""
    found, expected, change = contraction()
    assert abs(change) > 0.1
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_step_that_counts_a_coordinate_too_many_keeps_another_law(monkeypatch):
    monkeypatch.setattr(microcanonical, "size_of", lambda tree: 4)
    found, expected, _ = contraction()
    assert abs(found - expected) > 0.01


def test_it_is_reversible():
    with jax.enable_x64(True):
        bath, potential, state = silent()
        back = lambda s: s._replace(velocity=jax.tree.map(jnp.negative, s.velocity))  # noqa: E731
        step = lambda s: bath.step(potential, s, still(s.position))  # noqa: E731
        here = back(step(step(back(step(step(state))))))
        for a, b in zip(jax.tree.leaves(here[:4]), jax.tree.leaves(state[:4]), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)


@pytest.mark.parametrize("gradient", [0.0, 1e-30, 1e4])
def test_extreme_forces(gradient):
    """No force turns nothing, a huge one turns all the way; in float32, and the speed stays 1."""
    x = jnp.array([0.0, 0.0, 0.0])
    bath, potential = MCLMC(step_size=0.4, persistence_length=1.0), as_potential(lambda x: gradient * x[0])
    state = bath.step(potential, bath.init(potential, x, Noise((jnp.array([1.0, 2.0, 2.0]),))), still(x))
    np.testing.assert_allclose(state.velocity, np.array([1, 2, 2]) / 3 if gradient < 1 else [-1, 0, 0], atol=1e-6)
    assert np.isfinite(state.energy_error)


def test_directions_are_forgotten_along_the_persistence_length():
    """<u₀·u_k> after k refreshments alone: e^(-kh/L) up to the order 1/d that normalising leaves."""
    h, length, steps, d = 0.1, 2.0, 20, 50
    bath = MCLMC(step_size=h, persistence_length=length)
    flat = lambda x: 0.0 * jnp.sum(x)  # noqa: E731
    run = engine.simulate(flat, bath, jnp.zeros((4_000, d)), steps=0, key=1, observables={})
    end = engine.simulate(run, steps=steps, observables={})
    overlap = np.sum(np.asarray(run.state.velocity) * np.asarray(end.state.velocity), axis=1)
    expected = np.exp(-steps * h / length)
    assert abs(overlap.mean() - expected) < Z * overlap.std() / np.sqrt(4_000) + expected * 1.5 / d
    np.testing.assert_allclose(np.linalg.norm(end.state.velocity, axis=1), 1, rtol=1e-6)


def bias(d, h, factor=1.0, n=4_000):
    """Mean of k_i<x_i²>/T - 1 over coordinates of condition number 10, its error, and the energy errors."""
    stiffness = jnp.geomspace(1.0, 10.0, d)
    target = potentials.Harmonic(stiffness=stiffness)
    bath = MCLMC(step_size=h * float(np.sqrt(d)), persistence_length=0.5 * float(np.sqrt(d)), temperature=T * factor)
    start = target.equilibrium(T, jnp.zeros(d)).sample(1, n)
    state = engine.simulate(target, bath, start, steps=int(4 / h), key=2, observables={}).state
    ratio = np.mean(np.asarray(state.position, float) ** 2 * np.asarray(stiffness), axis=1) / T
    return ratio.mean() - 1, ratio.std() / np.sqrt(n), np.asarray(state.energy_error, float)


def quarters(coarse, fine):
    """Whether a bias falls to a quarter, up to errors and 0.3 of that quarter."""
    (before, error, _), (after, fine_error, _) = coarse, fine
    return abs(after - before / 4) < Z * np.hypot(fine_error, error / 4) + 0.3 * abs(before) / 4


@pytest.mark.parametrize("d", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_the_bias_falls_with_the_square_of_the_step(d):
    coarse, fine = bias(d, 0.4), bias(d, 0.2)
    assert abs(coarse[0]) > 2 * Z * coarse[1]
    assert quarters(coarse, fine)
    assert np.var(coarse[2]) > 8 * np.var(fine[2])  # what the energy error shows


def test_a_bath_of_another_temperature_is_no_bias_of_the_step():
    assert not quarters(*(bias(10, h, factor=1.1) for h in (0.4, 0.2)))


def test_one_coordinate_is_refused():
    with pytest.raises(ValueError, match="MCLMC needs at least 2 coordinates a particle; got 1"):
        engine.simulate(potentials.Harmonic(), MCLMC(step_size=0.1, persistence_length=1.0), jnp.zeros((5, 1)), steps=1)
    state = engine.simulate(
        potentials.Harmonic(), MCLMC(step_size=0.1, persistence_length=1.0), jnp.zeros((5, 1, 2)), steps=1
    ).state
    assert state.position.shape == (5, 1, 2)
    assert not integrators.MCLMC.has_momentum


@pytest.mark.slow
@pytest.mark.parametrize("step_size", [0.2, 20.0])
def test_its_certificate_sees_a_wrong_number_of_dimensions(step_size):
    """Of three coordinates: with d in place of d - 1 in the force it samples at 2T/3."""

    @pytree
    class Miscounted(MCLMC):
        def step(self, potential, state, noise):
            return super().step(1.5 * potential, state, noise)

    numbers = {"step_size": step_size, "persistence_length": 7.5 * step_size}
    engine.certify(MCLMC(**numbers)).require()
    wrong = engine.certify(Miscounted(**numbers), methods=("montecarlo",))
    assert {"population: positions", "population: x²/2 + cos 3x"} <= {*wrong.failures}
