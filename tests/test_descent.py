"""Optimisers under the engine do what optax does alone; and the noise that makes descent a sampler."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from heatbath import engine, integrators, potentials
from heatbath.engine.linear import Quadratic, linear_map
from heatbath.integrators import Descent, EulerMaruyama

N, STEPS = 5, 12
RNG = np.random.default_rng(4)
START = {"w": RNG.normal(size=(N, 2, 3)).astype(np.float32), "b": RNG.normal(size=(N, 3)).astype(np.float32)}
TARGET = RNG.normal(size=(2, 3)).astype(np.float32)


def loss(p: Any) -> jax.Array:
    return (
        jnp.sum((p["w"] - TARGET) ** 2 * jnp.array([1.0, 4.0, 0.3]))
        + jnp.sum(p["w"].sum(0) * p["b"])
        + jnp.sum(p["b"] ** 4)
    )


FALLING = optax.cosine_decay_schedule(0.05, 10)
OPTIMIZERS = {
    "momentum on a schedule": lambda: optax.sgd(FALLING, momentum=0.9),
    "nesterov": lambda: optax.sgd(0.02, momentum=0.8, nesterov=True),
    "adam": lambda: optax.adam(3e-2),
    "clipped, decayed": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.05, weight_decay=0.1)),
    "masked": lambda: optax.chain(
        optax.masked(optax.add_decayed_weights(0.3), {"w": True, "b": False}), optax.sgd(0.03)),
    "on a plateau": lambda: optax.chain(optax.sgd(0.02), optax.contrib.reduce_on_plateau(patience=2, rtol=0.1)),
    "injected": lambda: optax.inject_hyperparams(optax.rmsprop)(learning_rate=FALLING, decay=0.95),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_are_those_of_optax(name):
    """Every particle goes where optax alone takes it: its own clipping norm, its own counters."""
    optimizer = OPTIMIZERS[name]()

    def alone(position):
        def step(_, carry):
            x, s = carry
            value, gradient = jax.value_and_grad(loss)(x)
            updates, s = optax.with_extra_args_support(optimizer).update(gradient, s, x, value=value)
            return optax.apply_updates(x, updates), s

        return jax.lax.fori_loop(0, STEPS, step, (position, optimizer.init(position)))[0]

    run = engine.simulate(loss, Descent(optimizer), START, steps=STEPS, observables={})
    expected = jax.jit(lambda start: jax.lax.map(alone, start))(START)
    assert run.time is None and run.momenta is None
    for leaf, right, start in zip(*map(jax.tree.leaves, (run.positions, expected, START)), strict=True):
        np.testing.assert_allclose(leaf, right, rtol=2e-5, atol=2e-6)
        assert np.abs(leaf - start).min(axis=tuple(range(1, leaf.ndim))).max() > 1e-4


def test_decoupled_weight_decay_is_no_part_of_the_energy():
    """adamw comes to rest where the energy still has a slope, adam does not."""
    slopes = {}
    for name, optimizer in (("adam", optax.adam(0.05)), ("adamw", optax.adamw(0.05, weight_decay=0.5))):
        x = engine.simulate(lambda x: jnp.sum((x - 1) ** 2), Descent(optimizer), jnp.zeros((2, 1)), steps=1_500,
                            observables={}).positions  # fmt: skip
        slopes[name] = float(jnp.abs(2 * (x - 1)).max())
    assert slopes["adam"] < 1e-3 and slopes["adamw"] > 0.05, slopes


STIFFNESS = np.array([[1.9, 0.5, -0.2], [0.5, 1.1, 0.3], [-0.2, 0.3, 0.6]])


def check_law(integrator, rate, momentum, temperature):
    """Positions and displacements of the heavy ball against the closed form, mode by mode."""
    step = linear_map(integrator, Quadratic(matrix=STIFFNESS), np.zeros(3))
    k, modes = np.linalg.eigh(STIFFNESS)
    covariance, x = step.stationary()[1], step.position
    moved = x @ (step.drift - np.eye(len(step.drift)))  # x' - x = v', and v has the law of v'
    v_v = moved @ covariance @ moved.T + x @ step.noise @ step.noise.T @ x.T
    x_v = x @ step.drift @ covariance @ moved.T + x @ step.noise @ step.noise.T @ x.T
    near = lambda found, law: np.testing.assert_allclose(found, modes * law @ modes.T, rtol=1e-10, atol=1e-10)  # noqa: E731
    near(x @ covariance @ x.T, temperature / k / (1 - rate * k / 2 / (1 + momentum)))
    near(v_v, 4 * rate * temperature / (2 * (1 + momentum) - rate * k))
    near(x_v, 2 * rate * temperature / (2 * (1 + momentum) - rate * k))


@pytest.mark.parametrize(("rate", "momentum", "temperature"), [(0.7, 0.0, 1.3), (0.7, 0.6, 1.3), (1.4, 0.9, 0.2)])
def test_law_of_the_heavy_ball(rate, momentum, temperature):
    check_law(Descent(learning_rate=rate, momentum=momentum, temperature=temperature), rate, momentum, temperature)


def test_plain_descent_at_a_temperature_is_euler_maruyama():
    plain = Descent(learning_rate=0.7, temperature=1.3)
    check_law(plain, 0.7, 0.0, 1.3)
    maps = [
        linear_map(i, Quadratic(matrix=STIFFNESS), np.zeros(3))
        for i in (plain, EulerMaruyama(step_size=0.7, temperature=1.3))
    ]
    np.testing.assert_allclose(maps[0].drift, maps[1].drift, atol=1e-14)
    np.testing.assert_allclose(np.abs(maps[0].noise), np.abs(maps[1].noise), atol=1e-14)


def test_a_given_noise_scale_is_that_of_the_gradient():
    """optax.sgd with σ = √(2(1 - β)/η) is the heavy ball; it is not known to be, and declares nothing."""
    rate, momentum, temperature = 0.7, 0.6, 1.3
    wrapped = Descent(
        optax.sgd(rate, momentum), temperature=temperature, noise_scale=math.sqrt(2 * (1 - momentum) / rate)
    )
    check_law(wrapped, rate, momentum, temperature)
    assert wrapped.stationary_order is None and wrapped.weak_order is None and wrapped.step_size is None


@pytest.mark.parametrize("wrong", [{"temperature": 1.43}, {"momentum": 0.5}, {"learning_rate": 0.35}])
def test_the_law_tells_one_noise_from_another(wrong):
    numbers = {"learning_rate": 0.7, "momentum": 0.6, "temperature": 1.3} | wrong
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_law(Descent(**numbers), 0.7, 0.6, 1.3)


@pytest.mark.parametrize("momentum", [None, 0.8])
def test_limit_of_stability(momentum):
    limit = 2 * (1 + (momentum or 0.0))
    for factor, stable in ((1 - 1e-6, True), (1 + 1e-6, False)):
        descent = Descent(learning_rate=factor * limit, momentum=momentum, temperature=1.0)
        assert (linear_map(descent, Quadratic(matrix=np.eye(1)), np.zeros(1)).radius < 1) == stable


@pytest.mark.parametrize("momentum", [None, 0.8])
def test_small_rates_are_overdamped_dynamics(momentum):
    """At time t = ηn the mean has decayed by e^(-μkt), μ = 1/(1 - β), and <x²> has grown by as much: weak order 1."""
    mobility, time, errors = 1 / (1 - (momentum or 0.0)), 0.9, []
    for n in (400, 800):
        step = linear_map(Descent(learning_rate=time / n, momentum=momentum, temperature=0.7), Quadratic(matrix=np.eye(1)),
                          np.zeros(1))  # fmt: skip
        power, sigma = np.linalg.matrix_power(step.drift, n), step.stationary()[1]
        grown = (step.position @ (sigma - power @ sigma @ power.T) @ step.position.T)[0, 0]
        errors.append([power[0, 0] - math.exp(-mobility * time), grown - 0.7 * -math.expm1(-2 * mobility * time)])
    np.testing.assert_allclose(np.log2(np.divide(*errors)), 1, atol=0.05)


def test_its_numbers_are_swept_scheduled_and_marked_as_others_are():
    """A ladder of rates, a momentum a particle, a temperature that falls to 0: against the recursion in numpy."""
    rates, momenta, steps = np.array([0.1, 0.4]), np.array([0.0, 0.5, 0.9]), 9
    ball = Descent(
        learning_rate=engine.sweep(rates), momentum=engine.each(momenta), temperature=lambda step: 0.0 * step
    )
    well = potentials.Harmonic(stiffness=jnp.array([1.5, 0.5]))
    run = engine.simulate(well, ball, jnp.ones((3, 2)), steps=steps, observables={})
    x, v = np.ones((2, 3, 2)), np.zeros((2, 3, 2))
    for _ in range(steps):
        v = momenta[:, None] * v - rates[:, None, None] * np.array([1.5, 0.5]) * x
        x = x + v
    np.testing.assert_allclose(run.positions, x, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.ravel(run.time), rates * steps, rtol=1e-6)


def test_noise_without_a_gibbs_law_is_not_compared():
    measured = engine.observables.Mean(engine.observables.potential_energy)
    noisy = Descent(optax.adam(0.05), temperature=0.7, noise_scale=1.0)
    run = engine.simulate(potentials.Harmonic(), noisy, jnp.zeros((8, 2)), steps=20, observables=measured)
    assert float(jnp.std(run.positions)) > 0
    with pytest.raises(ValueError, match="Descent declares no stationary law to compare with"):
        engine.compare(run)


BAD = [
    (lambda: Descent(), ValueError, "takes an optimizer.*or a learning_rate; got neither"),
    (lambda: Descent(momentum=0.9), ValueError, "or a learning_rate; got neither"),
    (
        lambda: Descent(optax.adam(0.1), temperature=1.0),
        ValueError,
        "has no temperature.*noise_scale.*got temperature 1.0",
    ),
    (lambda: Descent(optax.adam(0.1), temperature=engine.sweep([0.0, 1.0])), ValueError, "has no temperature"),
    (lambda: Descent(optax.adam(0.1), learning_rate=0.1), ValueError, "learning_rate is the optimizer's own.*got 0.1"),
    (lambda: Descent(optax.adam(0.1), momentum=0.9), ValueError, "momentum is the optimizer's own.*got 0.9"),
    (lambda: Descent(learning_rate=0.1, noise_scale=2.0), ValueError, "noise_scale belongs to an optimizer; got 2.0"),
    (lambda: Descent(learning_rate=0.1, momentum=1.0), ValueError, r"momentum must be in \[0, 1\); got 1"),
    (lambda: Descent(learning_rate=0.1, momentum=-0.1), ValueError, r"momentum must be in \[0, 1\); got -0.1"),
    (lambda: Descent(learning_rate=0.0), ValueError, "learning_rate must be positive; got 0"),
    (
        lambda: Descent(optax.adam(0.1), temperature=1.0, noise_scale=-1.0),
        ValueError,
        "noise_scale must be positive; got -1",
    ),
    (lambda: Descent(optax.adam), TypeError, "must be an optax.GradientTransformation.*got function"),
]


@pytest.mark.parametrize(("call", "error", "says"), BAD)
def test_bad_input(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_arrays_and_marks_are_checked_as_they_enter():
    for momentum in (engine.each(np.array([0.5, 1.5])), jnp.array(1.5), lambda step: 1.5):
        with pytest.raises(ValueError, match=r"momentum.* must be in \[0, 1\); got 1.5"):
            engine.simulate(
                potentials.Harmonic(), Descent(learning_rate=0.1, momentum=momentum), jnp.zeros((2, 1)), steps=1
            )


def test_it_is_an_integrator_without_momenta():
    """`momentum` is β here, and no momentum in the sense of mechanics is offered under that name."""
    ball = integrators.Descent(learning_rate=0.1, momentum=0.5)
    assert engine.simulate(potentials.Harmonic(), ball, jnp.zeros((2, 1)), steps=0, observables={}).momenta is None
    with pytest.raises(ValueError, match="kinetic_temperature needs momenta"):
        measured = engine.observables.Mean(engine.observables.kinetic_temperature)
        engine.simulate(potentials.Harmonic(), ball, jnp.zeros((2, 1)), steps=0, observables=measured)
