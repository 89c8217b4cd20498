"""Printed digits of dynamics on landscapes: relaxation, correlations, spreading, Kramers' formulas, passages, currents."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_divergence import OVERDAMPED
from test_landscape_digits import printed
from test_transfer import averages

from heatbath import engine, integrators
from heatbath.engine import ornstein_uhlenbeck as ou
from heatbath.engine.linear import linear_map
from heatbath.engine.observables.first_passage import OVERSHOOT
from heatbath.engine.ornstein_uhlenbeck import Gaussian
from heatbath.potentials import Cosine, DoubleWell, Harmonic


def test_distance_and_dissipation_of_an_overdamped_spring():
    """W₂² = m² + (√V - 1)² to N(0, 1), and -dKL/dt = μT × the relative Fisher information."""
    now = ou.overdamped(1.0, temperature=1.0).at(np.array([0.0, 0.5, 1.0, 2.0]), OVERDAMPED)
    squared = now.mean[:, 0] ** 2 + (np.sqrt(now.covariance[:, 0, 0]) - 1) ** 2
    for value, digits in zip(squared, ("4.25", "1.49373813", ".54405642", ".07331006"), strict=True):
        printed(value, digits)
    density = lambda x: np.exp(-((x - 2.0) ** 2) / 0.5)  # noqa: E731
    printed(engine.FokkerPlanck(Harmonic(), temperature=1.0).entropy_production(density, 1.0)[0], ".5528075")


@pytest.mark.parametrize(
    ("friction", "x", "v"),
    [
        (0.5, ".60705484917", ".27570905516"),
        (2.0, ".73575888234", ".00000000000"),
        (3.0, ".78664559930", "-.03118121368"),
    ],
)
def test_autocorrelations_of_an_underdamped_spring(friction, x, v):
    """analytic.md C.1, which misprints one of them: it has .27570915506."""
    process = ou.underdamped(1.0, temperature=1.0, friction=friction)
    seen = [process.at(1.0, Gaussian(np.eye(2)[i], np.zeros((2, 2)))).mean[i] for i in (0, 1)]
    printed(seen[0], x)
    printed(seen[1], v)
    assert np.linalg.inv(process.drift)[0, 0] == pytest.approx(friction)  # ∫ C dt over C(0): γ/ω²


def test_spreading_of_a_free_particle():
    """2T/(mγ) [t - (1 - exp(-γt))/γ]: the scheme's exact discrete law at three steps, extrapolated to none."""

    @functools.cache
    def spread(time: float, steps: int) -> float:
        law = linear_map(integrators.BAOAB(step_size=time / steps), Harmonic(stiffness=0.0), jnp.zeros(1))
        covariance = law.momentum.T @ law.momentum
        for _ in range(steps):
            covariance = law.drift @ covariance @ law.drift.T + law.noise @ law.noise.T
        return float((law.position @ covariance @ law.position.T)[0, 0])

    for time, digits in ((0.1, ".00967483607"), (1.0, ".73575888234"), (10.0, "18.0000907999")):
        n = max(20, round(20 * time))
        first, second, third = (spread(time, n * k) for k in (1, 2, 4))
        fourth, sixth = (4 * second - first) / 3, (4 * third - second) / 3
        printed((16 * sixth - fourth) / 15, digits)


# Kramers' problem


@pytest.mark.parametrize(
    ("barrier", "friction", "digits", "sizes"),
    [
        pytest.param(2.5, 0.3, ".040266", {"functions": 100, "hermite": 120}, marks=pytest.mark.slow),
        (2.5, 3.0, ".0728841434", {}),
        pytest.param(5.0, 0.1, ".00220", {"functions": 110, "hermite": 160}, marks=pytest.mark.slow),
    ],
)
def test_underdamped_gap(barrier, friction, digits, sizes):
    printed(engine.Kramers(DoubleWell(barrier=barrier), temperature=1.0, friction=friction, **sizes).gap, digits)


def test_formulas_of_kramers():
    """From curvatures and energies of the landscape itself; the formulas err by a tenth at barriers of 5 T."""
    well = DoubleWell(barrier=5.0)
    with jax.enable_x64(True):
        curvature = jax.vmap(jax.hessian(well))(np.array([[1.0], [0.0]]))[:, 0, 0]
        bottom, top = np.sqrt(abs(float(curvature[0]))), np.sqrt(abs(float(curvature[1])))
        for barrier, digits in ((5.0, "5.962848"), (2.5, "4.216370")):
            # ∮ p dx of the orbit that touches the barrier, from 0 to √2 and back: x = √2 sin s
            s, weight = np.polynomial.legendre.leggauss(40)
            s, weight = (s + 1) * np.pi / 4, weight * np.pi / 4
            x = np.sqrt(2) * np.sin(s)
            energy = np.asarray(jax.vmap(DoubleWell(barrier=barrier))(x[:, None]))
            action = 2 * weight @ (np.sqrt(2 * np.maximum(barrier - energy, 0)) * np.sqrt(2) * np.cos(s))
            printed(action, digits)
    arrhenius = bottom / np.pi * np.exp(-5.0)  # 2k of transition-state theory
    for friction, digits in ((1.0, ".012132567"), (3.0, ".009757589"), (10.0, ".005181225")):
        printed(arrhenius * (np.sqrt(friction**2 / 4 + top**2) - friction / 2) / top, digits)
    printed(0.1 * 8 / 3 * np.sqrt(5.0) * arrhenius, ".0080884")
    exact = engine.FokkerPlanck(well, temperature=1.0)
    printed(1 / exact.first_passage(-1.0, 0.0), ".05526331")
    assert bottom * top / np.pi * np.exp(-5.0) / exact.gap == pytest.approx(1.093, abs=1e-3)
    tenfold = engine.FokkerPlanck(DoubleWell(barrier=10.0), temperature=1.0)
    assert np.sqrt(80 * 40) / np.pi * np.exp(-10.0) / tenfold.gap == pytest.approx(1.043, abs=1e-3)


SLOPE = jax.jit(jax.vmap(DoubleWell(barrier=5.0).gradient))


def passage(step: float, level: float, nodes: int = 400) -> float:
    """Mean time of Euler and Maruyama over (x² - 1)², five times, from -1 to `level` or beyond: (I - K)τ = h."""
    with jax.enable_x64(True):
        y, weight = np.polynomial.legendre.leggauss(nodes)
        low = -2.6
        half = (level - low) / 2
        points = np.append(low + half * (y + 1), -1.0)
        mean = points - step * np.asarray(SLOPE(points[:, None]))[:, 0]
    kernel = np.exp(-((points[:-1] - mean[:, None]) ** 2) / (4 * step)) / np.sqrt(4 * np.pi * step) * half * weight
    tau = np.linalg.solve(np.eye(nodes) - kernel[:-1], np.full(nodes, step))
    return float(step + kernel[-1] @ tau)


def test_first_passages_in_discrete_time():
    """In percent of the diffusion's: at the barrier top O(√h), with the level moved and at the far minimum O(h)."""
    exact = engine.FokkerPlanck(DoubleWell(barrier=5.0), temperature=1.0)
    top, far = (exact.first_passage(-1.0, level) for level in (0.0, 1.0))
    assert pytest.approx(0.5825971579, abs=1e-10) == OVERSHOOT
    table = ((0.004, 14.32, -3.3, -2.48), (0.002, 11.15, -1.4, -1.07), (0.001, 8.27, -0.63, -0.49),
             (0.0005, 6.00, -0.29, None))  # fmt: skip
    for step, plain, moved, other in table:
        percent = lambda level, time, h=step: 100 * (passage(h, level) / time - 1)  # noqa: E731
        assert percent(0.0, top) == pytest.approx(plain, abs=0.0051)
        assert percent(-OVERSHOOT * np.sqrt(2 * step), top) == pytest.approx(
            moved, abs=0.051 if step > 0.001 else 0.0051
        )
        if other is not None:
            assert percent(1.0, far) == pytest.approx(other, abs=0.0051)


# the tilted circle


@engine.pytree
class Pushed(Cosine):
    """-2 cos x, and a force of 1 that no energy gives."""

    def value_and_gradient(self, position):
        value, gradient = super().value_and_gradient(position)
        return value, gradient - 1.0


def sine(potential, integrator, state):
    return jnp.sin(state.position)


@pytest.mark.parametrize(
    ("scheme", "digits"),
    [("EulerMaruyama", ".353087"), ("StochasticHeun", ".350452"), ("LeimkuhlerMatthews", ".333474")],
)
def test_velocities_at_a_finite_step(scheme, digits):
    """v = μ(f - V<sin x>); Leimkuhler and Matthews' order is lost out of equilibrium."""
    integrator = getattr(integrators, scheme)(step_size=0.1)
    (mean,) = averages(integrator, Pushed(amplitude=2.0), 1.0, functions=sine)
    printed(1 - 2 * mean, digits)


@pytest.mark.parametrize(
    ("amplitude", "tilt", "digits"),
    [(1, 0.5, "2.50822230"), (1, 2, "2.68365617"), (2, 0.5, "3.14914798"), (2, 1, "4.82465495"), (2, 2, "5.07716906")],
)
def test_the_uncertainty_product(amplitude, tilt, digits):
    """2 D × entropy production / v², 2 at least (Barato and Seifert 2015)."""
    state = Cosine(amplitude=float(amplitude), tilt=float(tilt)).steady_state(1.0)
    printed(2 * state.diffusion * state.entropy_production / state.velocity**2, digits)
