"""SGHMC by linear algebra: its noise correction, the figures of its paper, and what it refuses. No Monte Carlo."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from heatbath import engine, integrators, potentials
from heatbath.engine import Integrator, Noise, NoiseSpec, Potential, number, pytree
from heatbath.engine.linear import Quadratic, linear_map

STIFFNESS = np.array([[1.9, 0.5, -0.2], [0.5, 1.1, 0.3], [-0.2, 0.3, 0.6]])
MASS = np.array([0.5, 1.3, 3.0])


@pytree
class Shifted(Potential):
    """An energy whose gradient is off by a vector."""

    potential: Any
    shift: Any

    def __call__(self, position: Any) -> Any:
        return self.potential(position)

    def value_and_gradient(self, position: Any) -> Any:
        value, gradient = self.potential.value_and_gradient(position)
        return value, gradient + self.shift


@pytree
class Jolted(Integrator):
    """An integrator on a gradient with Gaussian noise, drawn for each gradient that a step uses."""

    inner: Any
    deviation: Any = number("non-negative")
    has_momentum = True
    init_noise = NoiseSpec(normals=1)

    @property
    def noise(self) -> NoiseSpec:
        return NoiseSpec(normals=self.inner.noise.normals + 2)

    def init(self, potential: Any, position: Any, noise: Any) -> Any:
        return self.inner.init(potential, position, noise)

    def step(self, potential: Any, state: Any, noise: Any) -> Any:
        first, second, *rest = noise.normals
        state = self.inner.refresh(Shifted(potential=potential, shift=self.deviation * first), state)
        return self.inner.step(Shifted(potential=potential, shift=self.deviation * second), state, Noise(tuple(rest)))

    def momentum(self, state: Any) -> Any:
        return state.momentum


def law(integrator, stiffness=STIFFNESS):
    step = linear_map(integrator, Quadratic(matrix=stiffness), np.zeros(len(stiffness)))
    return step.stationary()[1]


@pytest.mark.parametrize("k, mass, friction, temperature, h", [(1.0, 1.0, 1.0, 1.0, 0.5), (3.7, 0.6, 0.4, 0.3, 0.7)])
def test_symplectic_euler(k, mass, friction, temperature, h):
    """analytic.md A.3: k<x²>/T, <p²>/mT, <xp>, and the largest stable step."""
    bath = integrators.SymplecticEuler(step_size=h, friction=friction, temperature=temperature, mass=mass)
    w, gh = h * h * k / mass, friction * h
    expected = np.array([2 * (2 - gh) / k, 4 * mass, 2 * h]) * temperature / (4 - 2 * gh - w)
    np.testing.assert_allclose(law(bath, np.array([[k]]))[[0, 1, 0], [0, 1, 1]], expected, rtol=1e-10)
    for factor, stable in ((1 - 1e-6, True), (1 + 1e-6, False)):
        limit = factor * (4 - 2 * gh) * mass / h**2
        assert (linear_map(bath, Quadratic(matrix=np.array([[limit]])), np.zeros(1)).radius < 1) == stable


def test_digits_in_print():
    """analytic.md A.3 at m = k = γ = T = 1, h = 1/2."""
    found = law(integrators.SymplecticEuler(step_size=0.5), np.eye(1))[[0, 1, 0], [0, 1, 1]]
    np.testing.assert_allclose(found, [1.0909090909, 1.4545454545, 0.3636363636], rtol=0, atol=6e-11)


@pytest.mark.parametrize("mass", [1.7, MASS], ids=["scalar", "diagonal"])
def test_a_known_gradient_noise_leaves_no_trace(mass):
    """Whatever the step, the law is that of the exact gradient; V may differ from coordinate to coordinate."""
    numbers = {"step_size": 0.7, "friction": 1.1, "temperature": 1.6, "mass": mass}
    deviation = np.array([0.9, 0.3, 1.1])
    noisy = Jolted(inner=integrators.SGHMC(**numbers, gradient_variance=deviation**2), deviation=deviation)
    exact = law(integrators.SymplecticEuler(**numbers))
    np.testing.assert_allclose(law(noisy), exact, rtol=1e-10, atol=1e-12)
    with pytest.raises(AssertionError):  # the mutant: a variance taken for a standard deviation
        wrong = integrators.SGHMC(**numbers, gradient_variance=deviation)
        np.testing.assert_allclose(law(Jolted(inner=wrong, deviation=deviation)), exact, rtol=1e-2)


@pytest.mark.parametrize("variance", [0.0, 0.4, 1.3])
def test_a_wrong_variance_heats(variance):
    """T becomes T + h(σ² - V)/2γm, exactly: above it where V leaves something out, below it where V is too large."""
    h, friction, temperature, mass, sigma = 0.6, 0.8, 0.9, 1.7, 0.8
    numbers = {"step_size": h, "friction": friction, "mass": mass}
    noisy = integrators.SGHMC(temperature=temperature, gradient_variance=variance, **numbers)
    heated = temperature + h * (sigma**2 - variance) / (2 * friction * mass)
    expected = law(integrators.SymplecticEuler(temperature=heated, **numbers))
    np.testing.assert_allclose(law(Jolted(inner=noisy, deviation=sigma)), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "inner, deviation, digits",
    [
        (integrators.SGHMC(step_size=0.1, friction=3.0, gradient_variance=4.0), 2.0, 1.0015964268),
        (integrators.Verlet(step_size=0.1), 2.0, 1.5780681142),
        (integrators.Verlet(step_size=0.1), 0.0, 1.0025062657),
    ],
    ids=["SGHMC", "HMC on noisy gradients without a test", "HMC without a test"],
)
def test_figure_1_of_the_paper(inner, deviation, digits):
    """<x²> on U = x²/2 where the momentum is drawn anew every 50 steps: analytic.md E.6.

    A gradient that a state keeps does not matter: the next step draws its noise anew.
    """
    step = linear_map(Jolted(inner=inner, deviation=deviation), Quadratic(matrix=np.eye(1)), np.zeros(1))
    power, spread = np.eye(len(step.drift)), np.zeros_like(step.drift)
    for _ in range(50):
        power, spread = step.drift @ power, step.drift @ spread @ step.drift.T + step.noise @ step.noise.T
    np.testing.assert_allclose((power[0, 1] ** 2 + spread[0, 0]) / (1 - power[0, 0] ** 2), digits, rtol=0, atol=6e-11)


def test_figure_3a_of_the_paper():
    """Mean absolute error of the covariance [[1, 0.9], [0.9, 1]] under gradient noise of unit variance: analytic.md E.6."""
    digits = [0.00735294, 0.00239362, 0.000831, 0.000295, 0.000106]
    target = np.array([[1, 0.9], [0.9, 1]])
    for i, printed in enumerate(digits):
        h, alpha = np.sqrt(0.05 * 0.36**i), 0.05 * 0.6**i
        bath = integrators.SGHMC(step_size=float(h), friction=float(alpha / h), gradient_variance=1.0)
        found = law(Jolted(inner=bath, deviation=1.0), np.linalg.inv(target))[:2, :2]
        assert np.abs(found - target).mean() == pytest.approx(printed, abs=6e-9 if i < 2 else 6e-7)


def start(**numbers):
    bath = integrators.SGHMC(**{"step_size": 0.1, "friction": 0.5, **numbers})
    return engine.simulate(potentials.Harmonic(), bath, jnp.zeros((4, 2)), steps=0, progress=False)


@pytest.mark.parametrize(
    "variance",
    [10.1, np.array([1.0, 10.1]), jnp.array([1.0, 10.1]), lambda step: 10.1],
    ids=["number", "numpy", "jax", "schedule"],
)
def test_a_noise_of_negative_variance_is_refused(variance):
    with pytest.raises(ValueError, match=r"gradient_variance must not exceed .*step_size.*; got 1\.01 times that"):
        start(gradient_variance=variance)
    start(gradient_variance=9.9)
    start(gradient_variance=0.0, friction=0.0)  # no bath, and none asked for
    with pytest.raises(ValueError, match="got inf times"):
        start(gradient_variance=1.0, friction=0.0)


def test_plain_numbers_are_refused_at_construction():
    with pytest.raises(ValueError, match="gradient_variance must not exceed"):
        integrators.SGHMC(step_size=1.0, gradient_variance=2.1)
