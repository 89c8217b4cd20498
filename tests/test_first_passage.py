"""First passages against the chain, the diffusion and the trajectory itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_reducers import SPRING, WELL, worst

from heatbath import engine
from heatbath.engine import observables
from heatbath.engine.observables import (
    FirstPassage,
    Series,
)
from heatbath.integrators import EulerMaruyama


def passage(level, steps, h=0.02, n=4000, **options):
    bath = EulerMaruyama(step_size=h, temperature=1.0)
    measured = FirstPassage(lambda x: x[0], level=level, **options)
    return engine.simulate(SPRING, bath, jnp.full((n, 1), -1.0), steps=steps, key=4, observables=measured)


def exact_passage(level, h, low=-6.0, points=400):
    """Mean time in which Euler-Maruyama goes from -1 to `level` or above: (I - K)τ = h on Gauss-Legendre nodes."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    x, half = low + (nodes + 1) * (level - low) / 2, (level - low) / 2
    density = lambda a: np.exp(-((x - a * (1 - 1.5 * h)) ** 2) / (4 * h)) / np.sqrt(4 * np.pi * h)  # noqa: E731
    tau = np.linalg.solve(np.eye(points) - np.array([density(a) for a in x]) * weights * half, np.full(points, h))
    return h + (density(-1.0) * weights * half) @ tau


def test_first_passage_of_the_chain_and_of_the_diffusion():
    """From -1 to 0.5 in a harmonic well: the chain's exact time, and with the level moved the diffusion's."""
    from scipy import integrate, special

    plain, moved = (passage(0.5, 3000, overshoot=overshoot).observables for overshoot in (False, True))
    assert plain.crossed == 4000 and plain.waiting == 0 and not plain.flags
    score, limit = worst(plain.mean, plain.error, exact_passage(0.5, 0.02), plain.dof)
    assert score < limit
    # dx = -1.5x dt + √2 dW: ∫ dy e^{0.75y²} ∫_{-∞}^y e^{-0.75z²} dz
    root = np.sqrt(0.75)
    inner = lambda y: np.exp(root**2 * y * y) * np.sqrt(np.pi) / 2 / root * special.erfc(-root * y)  # noqa: E731
    diffusion = integrate.quad(inner, -1.0, 0.5)[0]
    assert abs(plain.mean - diffusion) > 0.1 * diffusion  # what the docstring warns of
    assert abs(moved.mean - diffusion) < 0.03 * diffusion + 5 * moved.error < 0.12 * diffusion


@pytest.mark.parametrize("n", [6, 300])
def test_first_passage_against_the_trajectory(n):
    measured = {
        "trajectory": Series(lambda x: x, every=1),
        "up": FirstPassage(lambda x: x, level=0.9, burn_in=3),
        "down": FirstPassage(lambda x: x[:1], level=-0.9, rising=False, every=2),
    }
    bath = EulerMaruyama(step_size=0.02, temperature=engine.sweep([0.3, 1.5]))
    run = engine.simulate(WELL, bath, jnp.zeros((n, 2)), steps=60, key=n, observables=measured)
    x = run.observables["trajectory"].values
    for name, beyond, first, every in (
        ("up", x >= np.float32(0.9), 3, 1),
        ("down", x[..., :1] <= np.float32(-0.9), 1, 2),
    ):
        found, seen = run.observables[name], beyond[first::every]
        ever = seen.any(axis=0)
        looks = np.where(ever, seen.argmax(axis=0) + 1, len(seen))  # (rungs, n, k)
        assert np.array_equal(found.crossed, ever.sum(axis=1)) and 0 < ever.mean() < 1
        assert np.array_equal(found.waiting, n - ever.sum(axis=1)) and "have not crossed" in found.flags[0]
        np.testing.assert_allclose(found.survival[-1], 1 - ever.mean(axis=1), atol=1e-12)
        with np.errstate(divide="ignore"):
            expected = 0.02 * every * looks.sum(axis=1) / ever.sum(axis=1)
        np.testing.assert_allclose(found.mean, expected, rtol=1e-12)
        np.testing.assert_allclose(found.rate, 1 / expected, rtol=1e-12)
        late = run.results(after=40)[name]
        assert np.array_equal(late.crossed, found.crossed) and len(late.steps) < len(found.steps)


def test_the_rate_of_those_that_wait():
    """Exponential times, cut off early: exposure over passages is still their mean."""
    late = engine.simulate(
        lambda x: 0.0 * x[0], EulerMaruyama(step_size=1.0, temperature=0.5), jnp.zeros((5000, 1)), steps=30, key=1,
        observables=FirstPassage(Jump(), level=1.6449),
    ).observables  # fmt: skip
    assert late.waiting > 500
    score, limit = worst(late.mean, late.error, 20.0, late.dof)
    assert score < limit and worst(late.mean, late.error, 21.0 * 1.1, late.dof)[0] > limit


@engine.pytree
class Jump(observables.Measurement):
    """A number that is a new standard normal at every step: passage over 1.6449 takes 20 steps on average."""

    def __call__(self, potential, integrator, state):
        x = jax.lax.bitcast_convert_type(state.position[0], jnp.uint32)
        y = (x * np.uint32(2654435761)) ^ (x >> np.uint32(15))
        y = (y * np.uint32(2246822519)) ^ (y >> np.uint32(13))
        return jax.scipy.special.ndtri(((y >> np.uint32(8)).astype(jnp.float32) + 0.5) / 2**24)
