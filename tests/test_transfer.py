"""Exact stationary averages in one nonlinear coordinate, against tables made apart from the package.

The tables (analytic.md F.3) come from interpolation on Chebyshev nodes; the package projects on polynomials that are
orthonormal under the Gibbs density. What the two share is the scheme.
"""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from heatbath import engine, integrators, potentials
from heatbath.engine.linear import linear_map
from heatbath.engine.transfer import NoTransfer, stationary_averages

STEPS = (0.05, 0.025, 0.0125)


@engine.pytree
class LogCosh(engine.Potential):
    """2 log cosh x: <x²> = π²/12 at T = 1."""

    def __call__(self, position):
        return 2 * jnp.sum(jnp.logaddexp(position, -position) - math.log(2))


@engine.pytree
class Stiffening(engine.Potential):
    """x²/2 + x⁴/4."""

    def __call__(self, position):
        return jnp.sum(position**2) / 2 + jnp.sum(position**4) / 4


WELL = potentials.DoubleWell(barrier=1.0)
LANDSCAPES = {  # <x²> at T = 1, and the bias of <x²> at the three steps
    "double well": (WELL, 0.8327454871284, {"EulerMaruyama": (-4.39274e-2, -1.85875e-2, -8.75430e-3),
                                            "LeimkuhlerMatthews": (-9.12810e-4, -1.51791e-4, -3.47276e-5),
                                            "StochasticHeun": (-2.99897e-2, -5.90084e-3, -1.25103e-3)}),
    "stiffening": (Stiffening(), 0.4679199169737, {"EulerMaruyama": (1.41988e-2, 6.84595e-3, 3.36682e-3),
                                                   "LeimkuhlerMatthews": (-1.37758e-4, -3.25780e-5, -7.92728e-6),
                                                   "StochasticHeun": (-3.30284e-3, -7.62279e-4, -1.82583e-4)}),
    "log cosh": (LogCosh(), math.pi**2 / 12, {"EulerMaruyama": (3.44838e-2, 1.69493e-2, 8.40338e-3),
                                              "LeimkuhlerMatthews": (-6.95229e-5, -1.73961e-5, -4.34612e-6),
                                              "StochasticHeun": (-6.57167e-4, -1.69074e-4, -4.28441e-5)}),
}  # fmt: skip


def moments(potential, integrator, state):
    x = state.position[0]
    return jnp.stack([x, x * x])


def with_momentum(potential, integrator, state):
    x, p = state.position[0], state.momentum[0]
    return jnp.stack([x, x * x, x * p, p * p])


def averages(integrator, potential, deviation, *, functions=moments, mean=0.0, accuracy=1e-9):
    return stationary_averages(
        integrator, potential, functions, mean=mean, deviation=deviation, accuracy=accuracy
    ).values


CASES = list(itertools.product(LANDSCAPES, ("EulerMaruyama", "LeimkuhlerMatthews", "StochasticHeun"), range(3)))


@pytest.mark.parametrize(("landscape", "scheme", "i"), CASES)
def test_tables(landscape, scheme, i):
    potential, exact, table = LANDSCAPES[landscape]
    # in the double well the larger steps run away from |x| > √(1 + 1/2h): a slow leak that no law quite settles under
    accuracy = (2e-6, 2e-7, 1e-9)[i] if landscape == "double well" else 1e-9
    integrator = getattr(integrators, scheme)(step_size=STEPS[i])
    x, x2 = averages(integrator, potential, math.sqrt(exact), accuracy=accuracy)
    digit = 10.0 ** (math.floor(math.log10(abs(table[scheme][i]))) - 5)  # the table has six
    assert x2 - exact == pytest.approx(table[scheme][i], abs=digit + accuracy * exact)
    assert abs(x) < 1e-10  # these landscapes are even


RING = {  # -2 cos x at T = 1: the bias of <cos> at h = 0.2, 0.1, 0.05
    "EulerMaruyama": (-5.837830e-2, -2.730618e-2, -1.322594e-2),
    "LeimkuhlerMatthews": (3.368770e-5, 1.424877e-5, 3.877715e-6),
    "StochasticHeun": (4.246397e-3, 1.262076e-3, 3.360167e-4),
}


def cosine(potential, integrator, state):
    return jnp.cos(state.position)


@pytest.mark.parametrize("scheme", RING)
def test_table_of_the_ring(scheme):
    for h, bias in zip((0.2, 0.1, 0.05), RING[scheme], strict=True):
        integrator = getattr(integrators, scheme)(step_size=h)
        (found,) = averages(integrator, potentials.Cosine(amplitude=2.0), 1.0, functions=cosine)
        assert found - 0.697774657964008 == pytest.approx(bias, abs=2e-6 * abs(bias) + 1e-11)


ORDERS = {
    "EulerMaruyama": 1,
    "LeimkuhlerMatthews": 2,
    "StochasticHeun": 2,
    "ImplicitMidpoint": 1,  # the midpoint rule misses half of T∇ΔU/2; the trapezoidal rule does not
    "CrankNicolson": 2,
}


@pytest.mark.parametrize(("scheme", "order"), ORDERS.items())
def test_orders_by_slope(scheme, order):
    """On 2 log cosh x, whose force is bounded with all its derivatives: at h = 0.05 the leading term leads."""
    exact = math.pi**2 / 12
    assert getattr(integrators, scheme)(step_size=0.1).stationary_order == order
    bias = [averages(getattr(integrators, scheme)(step_size=h), LogCosh(), math.sqrt(exact))[1] - exact for h in STEPS]
    assert math.log2(bias[0] / bias[1]) == pytest.approx(order, abs=0.15)
    assert math.log2(bias[1] / bias[2]) == pytest.approx(order, abs=0.15)


def test_the_table_knows_one_scheme_from_another():
    """The noise of one step used twice or once, and a temperature off by 10 %: far outside the digits."""
    _, exact, table = LANDSCAPES["stiffening"]
    hot = integrators.LeimkuhlerMatthews(step_size=0.025, temperature=1.1)
    for integrator in (integrators.EulerMaruyama(step_size=0.025), hot):
        bias = averages(integrator, Stiffening(), math.sqrt(exact))[1] - exact
        assert abs(bias - table["LeimkuhlerMatthews"][1]) > 1e-3


@pytest.mark.parametrize("word", ["BAOAB", "OBABO", "OBA", "AOBOA"])
def test_underdamped_schemes_on_a_quadratic_energy(word):
    """Two methods that share nothing but the step: the transfer matrix and the Lyapunov equation."""
    stiffness, center, temperature = 1.7, 0.4, 0.6
    well = potentials.Harmonic(stiffness=stiffness, center=center)
    scheme = integrators.Splitting(scheme=word, step_size=0.5, friction=0.8, temperature=temperature, mass=1.3)
    found = averages(scheme, well, math.sqrt(temperature / stiffness), functions=with_momentum, mean=center)
    step = linear_map(scheme, well, np.zeros(1))
    (mean, covariance), x, p = step.stationary(), step.position[0], step.momentum[0]
    law = [x @ mean, x @ covariance @ x + (x @ mean) ** 2, x @ covariance @ p, p @ covariance @ p]
    np.testing.assert_allclose(found, law, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["EulerMaruyama", "LeimkuhlerMatthews"])
def test_overdamped_schemes_on_a_quadratic_energy(name):
    well = potentials.Harmonic(stiffness=1.7, center=0.4)
    scheme = getattr(integrators, name)(step_size=0.3, temperature=0.6, mobility=0.7)
    mean, covariance = linear_map(scheme, well, np.zeros(1)).of_position()
    found = averages(scheme, well, math.sqrt(0.6 / 1.7), mean=0.4)
    np.testing.assert_allclose(found, [mean[0], covariance[0, 0] + mean[0] ** 2], rtol=0, atol=1e-8)


@pytest.mark.parametrize(("word", "limit"), [("BAOAB", "LeimkuhlerMatthews"), ("OBABO", "EulerMaruyama")])
def test_infinite_friction_is_an_overdamped_scheme(word, limit):
    """Where a step forgets the momentum, words are overdamped schemes with μh = h²/2m: another basis, the same law."""
    h, mass, mobility = 0.2, 1.4, 0.7
    word = integrators.Splitting(scheme=word, step_size=h, friction=1e4, mass=mass)
    scheme = getattr(integrators, limit)(step_size=h * h / 2 / mass / mobility, mobility=mobility)
    found = [averages(s, potentials.DoubleWell(tilt=0.5), 0.9, mean=-0.4, accuracy=1e-7) for s in (word, scheme)]
    np.testing.assert_allclose(*found, atol=2e-7)
    assert abs(found[0][0] + 0.3969278247944) > 1e-5  # a bias large enough to be worth the comparison


def test_a_cyclic_shift_has_the_same_positions():
    """BAOA is BAOAB seen half a kick earlier; the kinetic temperature tells them apart."""
    laws = {word: averages(integrators.Splitting(scheme=word, step_size=0.25, friction=0.7), Stiffening(), 0.68,
                           functions=with_momentum, accuracy=1e-7) for word in ("BAOAB", "BAOA")}  # fmt: skip
    np.testing.assert_allclose(laws["BAOAB"][:2], laws["BAOA"][:2], atol=1e-6)
    assert laws["BAOAB"][3] < 0.98 < laws["BAOA"][3]
    assert abs(laws["BAOAB"][2]) < 1e-6 and laws["BAOA"][2] == pytest.approx(0.25 / 2, abs=0.005)  # <xp> = hT/2


@pytest.mark.parametrize(
    ("integrator", "potential"),
    [
        (integrators.EulerMaruyama(step_size=1.0), WELL),
        (integrators.LeimkuhlerMatthews(step_size=0.5), Stiffening()),
        (integrators.BAOAB(step_size=1.5), WELL),
        # unstable linear schemes have moments that solve the equations (T/k/(1 - z/2) < 0) and mean nothing
        (integrators.EulerMaruyama(step_size=2.1), potentials.Harmonic()),
        (integrators.EulerMaruyama(step_size=2.5), potentials.Harmonic()),
        (integrators.BAOAB(step_size=2.2), potentials.Harmonic()),
    ],
)
def test_steps_that_are_far_too_large_have_no_law(integrator, potential):
    with pytest.raises(NoTransfer):
        averages(integrator, potential, 1.0, accuracy=2e-6)


def test_schemes_that_it_does_not_describe():
    @engine.pytree
    class Hungry(integrators.EulerMaruyama):
        noise = engine.NoiseSpec(normals=1, uniforms=1)

    for integrator in (Hungry(step_size=0.1), integrators.Splitting(scheme="OAOBO", step_size=0.1)):
        with pytest.raises(NoTransfer, match="takes one or two normals"):
            averages(integrator, WELL, 0.9)
