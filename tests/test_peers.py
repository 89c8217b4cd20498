"""Kernels of BlackJAX and jax-md as integrators, from benchmarks/adapters.py: held to their temperature."""

import importlib.util
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath import engine, integrators, potentials
from heatbath.engine.linear import Quadratic

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "benchmarks"))
import adapters

needs = {name: pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed: extra peers")
         for name in ("blackjax", "jax_md")}  # fmt: skip
SPRING = potentials.Harmonic()


H = 0.1
EULER = 1 / (1 - H / 2)  # what Euler and Maruyama's scheme samples, over T


def virial(kernel, temperature):
    """The virial temperature over the bath's, and its error: 1,000 particles from equilibrium draws on a spring."""
    start = SPRING.equilibrium(temperature, like=jnp.zeros(2)).sample(1, 1_000)
    measured = engine.observables.Mean(engine.observables.virial_temperature, burn_in=100)
    bath = kernel(step_size=H, temperature=temperature)
    found = engine.simulate(SPRING, bath, start, steps=300, key=2, observables=measured, progress=False).observables
    return found.mean / temperature, found.error / temperature


@needs["blackjax"]
def test_the_temperature_of_blackjax_sghmc_is_inert():
    """In 1.7.1 T ≈ 1 whatever is asked; `sgld`, through the same adapter and test, has the T it is given."""
    for t in (0.25, 4.0):
        value, error = virial(adapters.BlackJaxSGHMC, t)
        assert abs(value - 1) > 20 * error and abs(value * t - 1.2) < 0.15, (t, value, error)
        value, error = virial(adapters.BlackJaxSGLD, t)
        assert abs(value - EULER) < 5 * error < 0.2, (t, value, error)


@needs["blackjax"]
def test_blackjax_sghmc_has_a_temperature_of_its_own_at_any_step():
    """It drifts before its first kick: of L steps the force sees L - 1, so T L/(L - 1) is sampled as h → 0."""
    quadratic, zero = Quadratic(matrix=np.eye(1)), np.zeros(1)
    words = jax.random.bits(jax.random.key(0), (20_000, 2), jnp.uint32)
    length = 2
    bath = adapters.BlackJaxSGHMC(step_size=1e-3, length=length)

    def step(x, words):
        return bath.step(quadratic, adapters.Alone(x), engine.Noise(words=words)).position

    with jax.enable_x64(True):  # x' = a x + noise
        slope = float(step(zero + 1.0, words[0])[0] - step(zero, words[0])[0])
        spread = float(jnp.var(jax.vmap(lambda w: step(zero, w))(words)))
    ratio = spread / (1 - slope**2) * (length - 1) / length
    assert abs(ratio - 1) < 5 * np.sqrt(2 / len(words)) + 0.005, (length, ratio)


@needs["blackjax"]
@pytest.mark.parametrize("kernel", [adapters.BlackJaxMALA, adapters.BlackJaxHMC, adapters.BlackJaxMCLMC])
def test_others_of_blackjax_sample_at_their_temperature(kernel):
    value, error = virial(kernel, 0.25)
    bias = 0.01 if kernel is adapters.BlackJaxMCLMC else 0.0  # of second order; the others are exact
    assert abs(value - 1) < 5 * error + bias and error < 0.04, (value, error)


@needs["jax_md"]
def test_jax_md_samples_as_ours_do():
    """One step of `nvt_langevin` without noise is BAOAB's; with noise its positions are exact."""
    well, ours = potentials.DoubleWell(), integrators.BAOAB(step_size=0.2, friction=0.0, temperature=0.7)
    theirs = adapters.JaxMdLangevin(step_size=0.2, friction=0.0, temperature=0.7)
    noise, x = engine.Noise(normals=(jnp.array([0.3, -1.0]),), words=jnp.zeros(2, jnp.uint32)), jnp.array([0.5, -1.2])
    steps = [bath.step(well, bath.init(well, x, noise), noise) for bath in (ours, theirs)]
    np.testing.assert_allclose(steps[0].position, steps[1].position, rtol=2e-6)
    np.testing.assert_allclose(steps[0].momentum, steps[1].momentum, rtol=2e-6)
    value, error = virial(adapters.JaxMdLangevin, 4.0)
    assert abs(value - 1) < 5 * error < 0.2, (value, error)


@needs["jax_md"]
@pytest.mark.slow
def test_peers_are_benchmarked_beside_ours():
    """jax-md's `brownian` is Euler and Maruyama's scheme: the same bias and efficiency, with noise of its own."""
    made = engine.benchmark(
        {"ours": integrators.EulerMaruyama, "theirs": adapters.JaxMdBrownian}, [SPRING], step_sizes=[0.4], particles=64,
        gradients=400, progress=False,
    )  # fmt: skip
    ours, theirs = (made.of("Harmonic", name)[0] for name in ("ours", "theirs"))
    assert ours["law"] and not theirs["law"]  # words are no linear map
    assert abs(theirs["bias"] - ours["predicted"]) < 5 * theirs["bias_error"]
    assert abs(theirs["samples_per_gradient"] / ours["samples_per_gradient"] - 1) < 5 * 2 * np.sqrt(1 / 63)


@needs["blackjax"]
def test_blackjax_takes_the_gradient_of_the_potential():
    """So it is counted, and may be overridden."""
    asked = []

    @engine.pytree
    class Noting(engine.Potential):
        def __call__(self, position):
            return jnp.sum(position**2) / 2

        def value_and_gradient(self, position):
            asked.append(1)
            return super().value_and_gradient(position)

    bath = adapters.BlackJaxMALA(step_size=0.1)
    state = bath.init(Noting(), jnp.ones(2), engine.Noise())
    asked.clear()
    bath.step(Noting(), state, engine.Noise(words=jnp.zeros(2, jnp.uint32)))
    assert len(asked) == bath.gradients == 1
