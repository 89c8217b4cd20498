"""Thermometers side by side: they allow for the step, and see the baths that are wrong."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_thermodynamics import simulate

from heatbath import engine, integrators, potentials
from heatbath.engine import Integrator, Noise, NoiseSpec, number, observables, pytree


@pytree
class Redrawn(Integrator):
    """Leapfrog whose momentum is redrawn before every step; `at` is the temperature at which it really is, times T."""

    step_size: Any = number("positive")
    temperature: Any = number("non-negative", default=1.0)
    power: Any = number(default=1.0)  # momenta have variance T^power: 0 is the mistake
    noise = NoiseSpec(normals=1)
    has_momentum = True
    stationary_order = 2

    class State(NamedTuple):
        position: Any
        momentum: Any

    def init(self, potential: Any, position: Any, noise: Noise) -> State:
        return self.State(position, jnp.zeros_like(position))

    def step(self, potential: Any, state: State, noise: Noise) -> State:
        x, h = state.position, self.step_size
        p = jnp.sqrt(self.temperature**self.power) * noise.normals[0] - h / 2 * potential.gradient(x)
        x = x + h * p
        return self.State(x, p - h / 2 * potential.gradient(x))

    def momentum(self, state: State) -> Any:
        return state.momentum

    def kinetic_energy(self, state: State) -> Any:
        return jnp.sum(state.momentum**2) / 2


@pytest.mark.parametrize("power, right", [(1.0, True), (0.0, False)])
def test_a_momentum_redrawn_at_the_wrong_temperature(power, right):
    kernel = Redrawn(step_size=0.2, temperature=0.4, power=power)
    run = simulate(potentials.Harmonic(stiffness=1.0), kernel, jnp.zeros((2_000, 1)), steps=600)
    verdict = engine.thermometers(run)
    assert verdict.passed == right, verdict
    assert any("in a bath of 0.4" in warning for warning in run.warnings) != right
    assert engine.compare(run).passed == right  # its own law would explain it at this step, but not at a smaller one


def test_thermometers_allow_for_the_step_and_see_a_hotter_bath():
    """Virial and configurational 0, kinetic -h²<U''>/4: many errors, and all of it is the step's."""
    bath = integrators.BAOAB(step_size=0.5, temperature=0.6)
    target = potentials.Harmonic(stiffness=jnp.array([1.0, 2.0]))
    measured = {
        "kinetic": observables.Mean(observables.kinetic_temperature),
        "virial": observables.Mean(observables.virial_temperature),
        "each": observables.Mean(observables.equipartition),
    }
    run = simulate(target, bath, engine.scatter(jnp.zeros(2), 4_000, key=1), steps=400, key=3, observables=measured)
    verdict = engine.thermometers(run)
    assert verdict.passed, verdict
    assert {"kinetic", "virial", "each[0]", "each[1]"} == set(verdict.lines)
    assert verdict["kinetic"].step_bias < -20 * verdict["kinetic"].error  # else this would prove nothing
    assert run.warnings == ()
    assert engine.compare(run).passed  # equipartition has lines there too
    hotter = dataclasses.replace(run, integrator=dataclasses.replace(bath, temperature=0.6 / 1.1))
    assert set(engine.thermometers(hotter).failures) == set(verdict.lines)
    assert len(hotter.warnings) == 4 and "p < 1e-06" in hotter.warnings[0]


def test_thermometers_of_a_potential_without_a_law():
    """No bias is predicted for a plain function: the disagreement is said as it is, and not decided."""
    run = simulate(lambda x: jnp.sum(x**2) / 2, integrators.BAOAB(step_size=1.0), jnp.zeros((2_000, 1)), steps=300)
    found = engine.thermometers(run)
    line = found["kinetic_temperature"]
    assert line.note == "no bias predicted" and line.passed is None and abs(line.z or 0) > 10 and found.passed
    assert found["virial_temperature"].passed  # BAOAB's positions are exact here
    assert any(w.startswith("kinetic_temperature") and "no bias was predicted" in w for w in run.warnings)


def test_equipartition_sees_the_coordinate_that_is_cold():
    """Cold in one coordinate and hot in the other: their mean, the virial temperature, is right by chance."""
    x = np.random.default_rng(2).normal(size=(4_000, 2)) * np.sqrt([0.5, 1.5])
    measured = {"each": observables.Mean(observables.equipartition, every=1),
                "virial": observables.Mean(observables.virial_temperature, every=1)}  # fmt: skip
    scheme = integrators.EulerMaruyama(step_size=1e-4, temperature=1.0)
    run = simulate(potentials.Harmonic(), scheme, x.astype(np.float32), steps=4, observables=measured)
    verdict = engine.thermometers(run)
    assert verdict.failures == ("each[0]", "each[1]"), verdict
    assert verdict["each[0]"].measured == pytest.approx(0.5, rel=0.15)


@pytree
class OneNoise(integrators.EulerMaruyama):
    """Euler and Maruyama with a normal that is the same for all particles: hashed from the step, carried in the state."""

    class State(NamedTuple):
        position: Any
        count: Any

    def init(self, potential: Any, position: Any, noise: Noise) -> State:
        return self.State(position, jnp.zeros(()))

    def step(self, potential: Any, state: State, noise: Noise) -> State:
        xi = jax.random.normal(jax.random.fold_in(jax.random.key(4), state.count.astype(int)), state.position.shape)
        drift = -self.step_size * potential.gradient(state.position)
        return self.State(
            state.position + drift + jnp.sqrt(2 * self.step_size * self.temperature) * xi, state.count + 1
        )


def test_noise_shared_by_all_particles_is_caught():
    """They end in one place: the errors vanish and the thermometers disagree; each with its own noise passes."""
    start = engine.scatter(jnp.zeros(1), 500, key=1)
    for kernel, right in ((OneNoise, False), (integrators.EulerMaruyama, True)):
        run = simulate(potentials.Harmonic(), kernel(step_size=0.2), start, steps=300)
        assert engine.thermometers(run).passed == right
        assert engine.compare(run).passed == right


def test_no_virial_on_a_circle():
    ring = potentials.Cosine()
    bath = integrators.BAOAB(step_size=0.2)
    run = simulate(ring, bath, jnp.zeros((64, 1)), steps=20)
    assert "virial_temperature" not in run.observables and "configurational_temperature" in run.observables
    for measure in (observables.virial_temperature, observables.equipartition):
        with pytest.raises(ValueError, match=r"periodic.*configurational_temperature"):
            simulate(ring, bath, jnp.zeros((8, 1)), steps=1, observables=observables.Mean(measure))
