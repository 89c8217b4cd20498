"""Cyclical step sizes: their values, and a run under them against one under the same values written out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from heatbath import engine, integrators, potentials

PEAK, PERIOD = 0.3, 7


def written_out(steps):
    """Eq. (1) of the paper, whose steps count from 1, in float64."""
    return np.array([PEAK / 2 * (np.cos(np.pi * ((k - 1) % PERIOD) / PERIOD) + 1) for k in range(1, steps + 1)])


def test_its_values():
    schedule, steps = engine.cyclical(PEAK, period=PERIOD), np.arange(30)
    expected = written_out(30)
    np.testing.assert_allclose([schedule(int(k)) for k in steps], expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(schedule))(jnp.asarray(steps)), expected, rtol=1e-6)
    assert expected[0] == expected[PERIOD] == PEAK and np.all(expected > 0)


def test_late_in_a_long_cycle_the_step_is_small_and_not_zero():
    schedule, period = engine.cyclical(1.0, period=10**6), 10**6
    np.testing.assert_allclose(schedule(jnp.int32(period - 1)), (np.pi / 2 / period) ** 2, rtol=1e-5)


def run(step_size, temperature):
    bath = integrators.EulerMaruyama(step_size=step_size, temperature=temperature)
    return engine.simulate(potentials.DoubleWell(), bath, jnp.full((6, 2), 0.5), steps=20, key=1, observables={})


def test_a_run_under_it_is_one_under_its_values():
    """With the bath off for the first 5 of 7 steps; and the time of a run is the sum of its steps."""
    schedule = engine.cyclical(PEAK, period=PERIOD)
    values = np.asarray(jax.vmap(schedule)(jnp.arange(20)), float)
    cold = lambda k: jnp.where(k % PERIOD < 5, 0.0, 0.8)  # noqa: E731
    chills = np.where(np.arange(20) % PERIOD < 5, 0.0, 0.8)
    cyclical, explicit = run(schedule, cold), run(lambda k: values[k], lambda k: chills[k])
    np.testing.assert_array_equal(cyclical.positions, explicit.positions)
    assert cyclical.time == pytest.approx(written_out(20).sum(), rel=1e-6)
    other = run(lambda k: values[k] if k != 12 else PEAK / 2, lambda k: chills[k])
    assert not np.array_equal(cyclical.positions, other.positions)


def test_optax_takes_it():
    optimizer = optax.sgd(engine.cyclical(PEAK, period=PERIOD))
    x = jnp.array([1.0])
    state, found = optimizer.init(x), []
    for _ in range(10):
        updates, state = optimizer.update(jnp.array([-1.0]), state, x)
        found.append(float(updates[0]))
    np.testing.assert_allclose(found, written_out(10), rtol=1e-6)


@pytest.mark.parametrize("period", [0, -3, 2.5, True, "7"])
def test_a_period_is_a_whole_number(period):
    with pytest.raises(ValueError, match=f"period must be a whole number of steps, at least 1; got {period!r}"):
        engine.cyclical(PEAK, period=period)


def test_a_peak_is_positive():
    with pytest.raises(ValueError, match=r"peak must be positive; got -0\.3"):
        engine.cyclical(-PEAK, period=PERIOD)
