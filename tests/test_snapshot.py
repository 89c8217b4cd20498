"""The shape of a population: p-values that are uniform where all is right, and wrong shapes that fail.

Laws at finite step on the line and on the circle come from the transfer matrix; the digits on the circle were made apart
from the package (analytic.md F.3), by interpolation.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from heatbath import engine, integrators, potentials
from heatbath.engine import Noise, number, pytree
from heatbath.engine.equilibrium import NotKnown
from heatbath.engine.law import predict
from heatbath.engine.snapshot import shapes

P_VALUE = 1e-6
WELL = potentials.DoubleWell(barrier=1.0, tilt=0.3)


def p_values(positions, landscape, temperature, law=None, like=None):
    like = np.zeros(positions.shape[1:]) if like is None else like
    state = landscape.equilibrium(temperature, like)
    law = law or predict(integrators.BAOAB(step_size=1e-3, temperature=temperature), landscape, like)
    u = np.array([float(e) for e in np.asarray(landscape_energy(landscape, positions))])
    return {shape.name: shape.p_value for shape in shapes(positions, u, state, law)}


def landscape_energy(landscape, positions):
    import jax

    with jax.enable_x64(True):
        return jax.jit(jax.vmap(landscape))(jnp.asarray(positions, jnp.float64))


def test_p_values_of_right_populations_are_uniform():
    """300 populations of exact draws: Kolmogorov and Smirnov of the p-values of each test, at p = 1e-6."""
    landscape, n, populations = potentials.Harmonic(stiffness=2.0), 400, 300
    draws = np.asarray(landscape.equilibrium(0.6).sample(3, n * populations), float).reshape(populations, n, 1)
    law = predict(integrators.BAOAB(step_size=1e-3, temperature=0.6), landscape, np.zeros(1))
    state = landscape.equilibrium(0.6)
    found = [shapes(x, x[:, 0] ** 2, state, law) for x in draws]
    for i, name in enumerate(("chi_squared", "kl_divergence", "energy_distribution")):
        p = np.array([population[i].p_value for population in found])
        assert {population[i].name for population in found} == {name}
        # the tails of the discrete and asymptotic laws differ a little: what matters is that none is too small
        assert scipy.stats.kstest(p, "uniform").pvalue > P_VALUE, name
        assert 0.001 <= np.mean(p < 0.05) <= 0.11


def test_a_law_of_equal_moments_and_another_shape_is_seen():
    """A Gaussian with the double well's mean and variance; energies within half a percent are not needed to tell."""
    state = WELL.equilibrium(0.5)
    x = np.random.default_rng(1).normal(state.mean[0], np.sqrt(state.covariance[0, 0]), (4_000, 1))
    right = np.asarray(state.sample(2, 4_000), float)
    assert min(p_values(right, WELL, 0.5).values()) > P_VALUE
    assert max(p_values(x, WELL, 0.5).values()) < P_VALUE


@pytest.mark.parametrize("factor, fails", [(1.0, False), (1.1, True)])
def test_ten_percent_too_hot_is_seen_by_every_test(factor, fails):
    for landscape in (potentials.Harmonic(stiffness=1.5), potentials.Quartic(), potentials.Cosine(amplitude=2.0)):
        x = np.asarray(landscape.equilibrium(0.7 * factor, np.zeros(2)).sample(4, 60_000), float)
        found = p_values(x, landscape, 0.7)
        assert {p < P_VALUE for p in found.values()} == {fails}, found


def test_the_law_at_this_step_explains_what_the_gibbs_state_does_not():
    """Euler and Maruyama at a step whose bias is many errors of 60,000 particles: its law passes, Gibbs' fails."""
    bath = integrators.EulerMaruyama(step_size=0.02, temperature=0.5)
    start = WELL.equilibrium(0.5).sample(5, 60_000)
    run = engine.simulate(WELL, bath, start, steps=1_000, key=6, progress=False)
    verdict = engine.compare(run)
    assert verdict.passed, verdict
    line = verdict["kl_divergence"]
    assert line.step_bias > 5 * line.error  # KL sees the bias, and says that it is the step's
    assert abs(line.measured - line.step_bias) < 5 * line.error
    fine = predict(integrators.BAOAB(step_size=1e-3, temperature=0.5), WELL, np.zeros(1))
    assert p_values(np.asarray(run.positions, float), WELL, 0.5, fine)["chi_squared"] < P_VALUE


def test_trapped_in_one_well_fails_the_shape():
    bath = integrators.BAOAB(step_size=0.05, temperature=0.1)
    deep = potentials.DoubleWell(barrier=1.0)
    run = engine.simulate(deep, bath, engine.scatter(jnp.ones(1), 2_000, scale=0.1, key=1), steps=500, key=2)
    verdict = engine.compare(run)
    assert {"chi_squared", "kl_divergence"} <= set(verdict.failures)
    assert abs(verdict["kl_divergence"].measured - np.log(2)) < 0.05  # half of the equilibrium is missing


RING = potentials.Cosine(amplitude=2.0)


@pytest.mark.parametrize(
    "scheme, biases",
    [
        (integrators.BAOAB, {0.4: -1.0826e-4, 0.2: -3.0353e-5, 0.1: -7.8280e-6}),
        (integrators.BAOA, {0.4: -1.0826e-4, 0.2: -3.0353e-5}),
        (integrators.EulerMaruyama, {0.2: -5.837830e-2, 0.1: -2.730618e-2}),
        (integrators.LeimkuhlerMatthews, {0.2: 3.368770e-5}),
        (integrators.ABOBA, {0.4: -6.6080e-3, 0.2: -1.5961e-3, 0.1: -3.9579e-4}),
    ],
)
def test_digits_on_the_circle(scheme, biases):
    exact = scipy.special.iv(1, 2) / scipy.special.iv(0, 2)
    for h, bias in biases.items():
        law = predict(scheme(step_size=h, temperature=1.0), RING, np.zeros(1))
        assert law.position[0] - exact == pytest.approx(bias, rel=5e-5, abs=1e-6)  # the law is good to 2e-6
        assert law.virial is None


def test_bins_of_a_law_have_its_moments():
    line, linear = (
        integrators.LeimkuhlerMatthews(step_size=0.05, temperature=0.5),
        integrators.OBABO(step_size=0.6, temperature=0.5),
    )
    for landscape, bath in ((WELL, line), (potentials.Harmonic(stiffness=2.0), linear)):
        law, state = predict(bath, landscape, np.zeros(1)), landscape.equilibrium(0.5)
        edges = np.linspace(-4, 4, 801)
        p, centers = law.bins(state, edges, 0), (edges[1:] + edges[:-1]) / 2
        assert p.sum() == pytest.approx(1, abs=1e-7)
        assert p @ centers == pytest.approx(law.position[0], abs=1e-6)
        # Sheppard: grouping adds w²/12
        assert p @ centers**2 - (p @ centers) ** 2 - 0.01**2 / 12 == pytest.approx(law.position_variance[0], rel=1e-5)


def test_where_a_quasi_stationary_law_escapes_is_said():
    """Euler and Maruyama on (x² - 1)² run away from √(1 + 1/2h) (analytic.md A.2)."""
    h = 0.02
    law = predict(integrators.EulerMaruyama(step_size=h, temperature=0.5), potentials.DoubleWell(), np.zeros(1))
    assert law.escape is not None and law.escape.distance == pytest.approx(np.sqrt(1 + 1 / (2 * h)), rel=0.02)
    u = (law.escape.distance**2 - 1) ** 2
    log_z = potentials.DoubleWell().equilibrium(0.5).log_partition
    assert law.escape.log10_density == pytest.approx((-u / 0.5 - log_z) / np.log(10), rel=1e-6)
    assert "quasi-stationary" in str(law.escape)
    smooth = predict(integrators.EulerMaruyama(step_size=0.05), potentials.LogCosh(), np.zeros(1))
    assert smooth.escape is None


def test_few_particles_have_no_shape():
    state = WELL.equilibrium(0.5)
    law = predict(integrators.BAOAB(step_size=0.05, temperature=0.5), WELL, np.zeros(1))
    assert shapes(np.zeros((20, 1)), np.zeros(20), state, law) == []


def test_without_a_law_nothing_is_decided():
    state = WELL.equilibrium(0.5)
    found = shapes(np.asarray(state.sample(1, 1_000), float), np.zeros(1_000), state, None)
    assert [shape.decides for shape in found] == [False, False]
    assert found[1].line.step_bias is None


@pytree
class Hot(integrators.EulerMaruyama):
    """Euler and Maruyama whose noise is that of a bath that is too hot, by 10 %."""

    excess: Any = number("positive", default=1.1)

    def step(self, potential, state, noise):
        return super().step(potential, state, Noise(tuple(jnp.sqrt(self.excess) * xi for xi in noise.normals)))


@pytest.mark.parametrize("scheme, right", [(integrators.EulerMaruyama, True), (Hot, False)])
def test_a_kernel_that_is_too_hot_does_not_explain_itself(scheme, right):
    """Its own law says what it does, but the bias does not shrink with the step."""
    for landscape in (potentials.Harmonic(stiffness=1.5), WELL, RING):
        start = landscape.equilibrium(0.5).sample(5, 4_000)
        run = engine.simulate(landscape, scheme(step_size=0.01, temperature=0.5), start, steps=1_500, key=6)
        assert engine.compare(run).passed == right


DESIGN = np.stack([np.ones(12), np.linspace(-1, 1, 12), np.linspace(-1, 1, 12) ** 2], 1)
COUPLED = [
    (potentials.Harmonic(stiffness=2.0), jnp.zeros((3,)), 0.5),
    (potentials.Funnel(), jnp.zeros(10), 1.0),
    (potentials.EntropicWell(), jnp.zeros(3), 0.3),
    (potentials.BayesianLinear(features=DESIGN, targets=np.sin(DESIGN[:, 1])), jnp.zeros(3), 1.0),
    (potentials.Phi4Chain(sites=4), jnp.zeros(4), 0.5),
    (potentials.RotorChain(), jnp.zeros(16), 1.0),
    (potentials.GaussianMixture(means=np.eye(3), scales=np.ones(3), weights=np.ones(3)), jnp.zeros(3), 1.0),
]


@pytest.mark.parametrize("landscape, like, temperature", COUPLED, ids=lambda value: type(value).__name__)
def test_populations_of_three_coordinates_and_more(landscape, like, temperature):
    """Exact draws, of a shape alone, stay where they are; in a bath that is too hot they do not."""
    state = landscape.equilibrium(temperature, jax.ShapeDtypeStruct(like.shape, jnp.float32))
    start, bath = state.sample(1, 2_000), integrators.BAOAB(step_size=0.02, friction=1.0, temperature=temperature)
    run = engine.simulate(landscape, bath, start, steps=400, key=2, progress=False)
    verdict = engine.compare(run)
    assert verdict.passed and len(verdict.lines) >= 7, verdict
    twice = Hot(step_size=0.01, temperature=temperature, excess=2.0)
    hot = engine.simulate(landscape, twice, start, steps=400, key=2, progress=False)
    assert not engine.compare(hot).passed


def test_what_is_not_known_is_said():
    """All in one mode of a mixture, whose mean energy nobody knows: positions see it; thermometers alone are no verdict."""
    modes = {"means": np.array([[-3.0, 0, 0], [3.0, 0, 0]]), "scales": np.full(2, 0.5), "weights": np.ones(2)}
    landscape, start = potentials.GaussianMixture(**modes), jnp.tile(jnp.array([3.0, 0, 0]), (500, 1))
    run = engine.simulate(landscape, integrators.BAOAB(step_size=0.02, friction=1.0), start, steps=300, key=1)
    verdict = engine.compare(run)
    assert {"position[0]", "position.variance[0]"} <= set(verdict.failures)
    assert any(flag.startswith("potential_energy is not compared") for flag in verdict.flags)
    between = integrators.BAOAB(step_size=0.02, friction=1.0, temperature=0.7)
    with pytest.raises(NotKnown, match="moments of a mixture in 3 coordinates"):
        engine.compare(engine.simulate(landscape, between, start, steps=20, key=1))


def test_bins_wider_than_the_density():
    for edges in ([-100.0, 0.0, 100.0], [-3e4, 0.0, 3e4]):
        found = potentials.Harmonic().equilibrium(1.0).bin_probabilities(edges)
        np.testing.assert_allclose(found, 0.5, atol=1e-9)
    np.testing.assert_allclose(
        potentials.DoubleWell().equilibrium(0.1).bin_probabilities([-20.0, 0.0, 20.0]), 0.5, atol=1e-9
    )
    knob = potentials.EntropicWell()
    np.testing.assert_allclose(knob.equilibrium(knob.crossover).bin_probabilities([-3.0, 0.0, 3.0]), 0.5, atol=1e-8)
    square = potentials.Harmonic(stiffness=np.array([1.0, 2.0])).equilibrium(0.7).expectation(lambda x: x**2)
    np.testing.assert_allclose(square, [0.7, 0.35], rtol=1e-12)
