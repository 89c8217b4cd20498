"""Densities, rates and first-passage times of one coordinate, overdamped and underdamped, against independent digits.

The digits come from other discretisations (sinc collocation of 200 to 300 nodes, Fourier series, quadrature) in other code.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from heatbath import engine
from heatbath.engine import ornstein_uhlenbeck as ou
from heatbath.engine.ornstein_uhlenbeck import Gaussian
from heatbath.potentials import DoubleWell, Harmonic, Ring

START = Gaussian(np.array([2.0]), np.array([[0.25]]))


def well(barrier, tilt=0.0):
    return engine.FokkerPlanck(DoubleWell(barrier=barrier, tilt=tilt), temperature=1.0)


def normal(law):
    """The density of a normal law in one dimension, not normalised."""
    return lambda x: np.exp(-((x - law.mean[0]) ** 2) / (2 * law.covariance[0, 0]))


LINE = {
    "barrier 1": (DoubleWell(barrier=1.0), [0.74868167, 6.00411367, 11.66069556]),
    "barrier 5": (DoubleWell(barrier=5.0), [0.05552281, 16.44494249, 26.28310637]),
    "barrier 10": (DoubleWell(barrier=10.0), [7.83570908e-4, 36.1697247, 58.1810735]),
    "tilted": (DoubleWell(barrier=1.0, tilt=0.5), [0.801963997, 6.06951146]),
    "quartic": (lambda x: jnp.sum(x**4) / 4, [1.36859252, 4.45370916, 8.25969372]),
}


@pytest.mark.parametrize("name", LINE)
def test_rates_on_the_line(name):
    potential, exact = LINE[name]
    assert np.allclose(engine.FokkerPlanck(potential, temperature=1.0).rates(len(exact)), exact, rtol=2e-7)
    # rates scale with the mobility, and only with it where energy and temperature scale together
    other = engine.FokkerPlanck(lambda x: 0.7 * potential(x), temperature=0.7, mobility=3.0)
    assert np.allclose(other.rates(len(exact)), 3.0 * 0.7 * np.array(exact), rtol=2e-7)
    hotter = engine.FokkerPlanck(potential, temperature=1.1)
    assert abs(hotter.gap / exact[0] - 1) > 0.01  # a temperature off by 10 % does not pass


@pytest.mark.parametrize("amplitude, exact", [(1.0, [1.16549653, 4.13375275]), (2.0, [1.6473654, 4.54058837]),
                                              (4.0, [3.33421381, 6.27057316])])  # fmt: skip
def test_rates_on_the_circle(amplitude, exact):
    """Every rate twice, once for each parity."""
    fp = engine.FokkerPlanck(lambda x: -amplitude * jnp.cos(x[0]), temperature=1.0, periodic=True, nodes=64)
    assert np.allclose(fp.rates(4), np.repeat(exact, 2), rtol=2e-8)


def test_errors_fall_faster_than_any_power():
    """28 nodes or 34: the error of the gap falls by more than 30, as at order 17 and above."""
    make = lambda n: engine.FokkerPlanck(DoubleWell(barrier=1.0), temperature=1.0, low=-2.8, high=2.8, nodes=n)  # noqa: E731
    coarse, fine = (abs(make(n).gap - well(1.0).gap) for n in (28, 34))
    assert 1e-6 > coarse > 30 * fine


@pytest.mark.parametrize("barrier, to_top, across", [
    (1.0, 1.435859267, 3.569434159), (5.0, 18.09518797505, 36.48353459712), (10.0, 1276.26756271, 2552.70913643),
])  # fmt: skip
def test_first_passage(barrier, to_top, across):
    fp = well(barrier)
    assert np.isclose(fp.first_passage(-1.0, 0.0), to_top, rtol=2e-10)
    assert np.isclose(fp.first_passage(-1.0, 1.0), across, rtol=2e-10)
    assert np.isclose(fp.first_passage(1.0, -1.0), across, rtol=2e-10)  # from the other side
    there = fp.first_passage(-1.0, 0.3) + fp.first_passage(0.3, 0.9)
    assert np.isclose(there, fp.first_passage(-1.0, 0.9), rtol=1e-9)  # a strong Markov process


def test_first_passage_where_the_gap_is_lost_in_rounding():
    """A barrier of 30 T: Kramers' rate with its first correction, 1 + 3T/(8 barrier) + O(T²) for this well."""
    deep = engine.FokkerPlanck(DoubleWell(barrier=30.0), temperature=1.0)
    with pytest.raises(ValueError, match="2/first_passage"):
        _ = deep.gap
    leading = 2 * np.pi / np.sqrt(8 * 30.0 * 4 * 30.0) * np.exp(30.0)
    ratio = deep.first_passage(-1.0, 1.0) / leading
    assert ratio == pytest.approx(1.0, abs=0.03) and ratio != 1.0


@pytest.mark.parametrize("start", [START, 2.0], ids=["normal", "a point"])
def test_density_in_time_of_an_ornstein_uhlenbeck_process(start):
    """T ≠ 1, mobility ≠ 1, off centre."""
    fp = engine.FokkerPlanck(Harmonic(stiffness=1.5, center=0.3), temperature=0.8, mobility=2.0)
    exact = ou.overdamped(1.5, temperature=0.8, mobility=2.0, center=0.3)
    law, density = (Gaussian(np.array([2.0]), np.zeros((1, 1))), 2.0) if start == 2.0 else (start, normal(start))
    times = np.array([0.4, 0.02, 0.1, 1.5])
    now = exact.at(times, law)
    mean = fp.average(lambda x: x, density, times)
    assert np.allclose(mean, now.mean[:, 0], atol=1e-9)
    assert np.allclose(fp.average(lambda x: x**2, density, times) - mean**2, now.covariance[:, 0, 0], atol=1e-9)
    assert np.allclose(fp.divergence(density, times), exact.divergence(times, law), atol=1e-9)
    assert np.allclose(fp.density(density, 1e3), fp.equilibrium, atol=1e-12)


def test_diffusion_on_a_circle():
    """Without an energy <cos q x> of particles released at a point decays as exp(-q² D t)."""
    fp = engine.FokkerPlanck(lambda x: 0.0 * x[0], temperature=0.5, mobility=3.0, periodic=True, nodes=80)
    times = np.array([0.05, 0.3])
    for q in (1, 2):
        exact = np.cos(q * 0.7) * np.exp(-(q**2) * 1.5 * times)
        assert np.allclose(fp.average(lambda x, q=q: np.cos(q * x), 0.7, times), exact, atol=1e-12)


@pytest.mark.parametrize("tilt", [0.0, 0.5])
def test_entropy_produced_is_the_divergence_lost(tilt):
    """Its time integral, by Gauss and Legendre, against the difference of the ends; and the divergence only falls."""
    fp = well(2.0, tilt)
    nodes, weights = np.polynomial.legendre.leggauss(24)
    start = lambda x: np.exp(-20 * (x - 0.7) ** 2)  # noqa: E731
    for low, high in ((0.0, 0.2), (0.2, 1.0)):
        times = (low + high + (high - low) * nodes) / 2
        produced = (high - low) / 2 * weights @ fp.entropy_production(start, times)
        before, after = fp.divergence(start, [low, high])
        assert before > after > 0
        assert np.isclose(produced, before - after, rtol=1e-7)


UNDERDAMPED = [  # barrier, friction, gap, relative accuracy of the digits or of the default sizes
    (1.0, 1.0, 0.3006310854, 2e-9),
    (1.0, 10.0, 0.0736297282, 2e-9),
    (2.5, 1.0, 0.0783138942, 1e-7),
    (2.5, 10.0, 0.0315583302, 3e-9),
    (5.0, 1.0, 0.00954551539, 5e-6),
    (5.0, 3.0, 0.00927143579, 2e-9),
    (5.0, 10.0, 0.00484749394, 1e-9),
    (5.0, 30.0, 0.001818147529, 1e-9),
]


@pytest.mark.parametrize("barrier, friction, exact, accuracy", UNDERDAMPED)
def test_kramers_gap(barrier, friction, exact, accuracy):
    found = engine.Kramers(DoubleWell(barrier=barrier), temperature=1.0, friction=friction)
    assert abs(found.gap / exact - 1) < accuracy
    assert abs(found.gap - exact) < found.gap_error + 2e-10  # what it says of itself
    heavier = engine.Kramers(DoubleWell(barrier=barrier), temperature=1.0, friction=friction / 2, mass=4.0)
    assert np.isclose(2 * heavier.gap, found.gap, rtol=1e-9)  # time in units of √mass


def test_kramers_turnover():
    """The rate has its maximum between friction 1 and 3; at low friction the sizes say that they are too small."""
    gap = {
        g: engine.Kramers(DoubleWell(barrier=5.0), temperature=1.0, friction=g).gap for g in (0.3, 1.0, 2.0, 3.0, 10.0)
    }
    assert gap[0.3] < gap[1.0] < gap[2.0] > gap[3.0] > gap[10.0]
    coarse = engine.Kramers(DoubleWell(barrier=5.0), temperature=1.0, friction=0.3)
    fine = engine.Kramers(DoubleWell(barrier=5.0), temperature=1.0, friction=0.3, functions=90, hermite=100)
    assert abs(coarse.gap - 0.005158423) < coarse.gap_error and coarse.gap_error > 1e-5
    assert abs(fine.gap / 0.005158423 - 1) < 2e-4


def test_kramers_at_high_friction_is_fokker_planck():
    """γ × gap differs from the overdamped rate at mobility 1 by O(1/γ²)."""
    exact = well(1.0).gap
    apart = [
        g * engine.Kramers(DoubleWell(barrier=1.0), temperature=1.0, friction=g).gap / exact - 1 for g in (30.0, 60.0)
    ]
    assert 3.8 < apart[0] / apart[1] < 4.2 and abs(apart[1]) < 2e-3


def test_kramers_in_time_of_an_ornstein_uhlenbeck_process():
    target, numbers = dict(stiffness=1.5, center=0.3), dict(temperature=0.8, friction=0.6, mass=2.0)
    found = engine.Kramers(Harmonic(**target), **numbers, functions=32, hermite=32)
    exact = ou.underdamped(**target, **numbers)
    start = Gaussian(np.array([1.3, 0.0]), np.diag([0.3, 1.6]))
    times = np.array([1.0, 0.0, 2.5])  # in any order
    law, density = exact.at(times, start), normal(start)
    mean, (momentum, square) = found.average(lambda x: x, density, times), found.momentum(density, times)
    assert np.allclose(mean, law.mean[:, 0], atol=1e-6)
    assert np.allclose(found.average(lambda x: x**2, density, times) - mean**2, law.covariance[:, 0, 0], atol=1e-5)
    assert np.allclose(momentum, law.mean[:, 1], atol=1e-6)
    assert np.allclose(square - momentum**2, law.covariance[:, 1, 1], atol=1e-5)
    rates = np.sort_complex(np.linalg.eigvals(exact.drift))
    assert np.allclose(np.sort_complex(found.rates(2)), rates, atol=1e-7)


def fp(potential=DoubleWell(), **options):  # noqa: B008
    return engine.FokkerPlanck(potential, **{"temperature": 1.0, **options})


BAD = [
    (lambda: fp(temperature=0.0), "temperature must be positive; got 0"),
    (lambda: fp(mobility=-1.0), "mobility must be positive; got -1"),
    (lambda: fp(nodes=8), "nodes must be .* at least 16; got 8"),
    (lambda: fp(low=1.0, high=-1.0), "low must be below high.*got 1.0 and -1.0"),
    (lambda: fp(lambda x: 0.0 * x[0]), "does not confine.*low and high"),
    (lambda: fp(lambda x: 0.5 * x[0] - jnp.cos(x[0]), periodic=True), "rises by 3.14.*current"),
    (lambda: fp(DoubleWell(barrier=5.0), nodes=24).gap, "more nodes than 24"),
    (lambda: fp(low=-1.2, high=1.2).gap, "low and high .*-1.2 and 1.2"),
    (lambda: fp(DoubleWell(barrier=20.0)).gap, "first_passage"),
    (lambda: fp(Ring()), "one coordinate; Ring has 2"),
    (lambda: fp().rates(0), "count must be from 1 to 127.*got 0"),
    (lambda: fp().density(0.5, 0.0), "start at a point has no density at time 0"),
    (lambda: fp().density(9.0, 1.0), "start must lie within .*got 9"),
    (lambda: fp().density(np.ones(7), 1.0), "density at the 256 nodes"),
    (lambda: fp().density(lambda x: x, 1.0), "non-negative density"),
    (lambda: fp(Harmonic(), low=-12.0, high=12.0).density(np.ones_like, 1.0), "rounding"),
    (lambda: fp().density(np.ones_like, -1.0), "times must be finite and not negative"),
    (lambda: fp().first_passage(-1.0, 9.0), "start and level must lie within"),
    (lambda: fp(lambda x: jnp.cos(x[0]), periodic=True).first_passage(0.0, 1.0), "for the line"),
    (lambda: engine.Kramers(DoubleWell(), temperature=1.0, friction=0.0), "friction must be positive; got 0"),
    (lambda: engine.Kramers(DoubleWell(), temperature=1.0, friction=1.0, functions=200), "functions must be from 2 to 128"),
    (lambda: engine.Kramers(DoubleWell(), temperature=1.0, friction=1.0).rates(99), "count must be from 1 to 12; got 99"),
    (lambda: ou.overdamped(-1.0, temperature=1.0), "stiffness must be a positive number.*-1"),
]  # fmt: skip


@pytest.mark.parametrize("call, says", BAD, ids=[says for _, says in BAD])
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()
