"""Every landscape that claims to know its equilibrium, against quadrature, digits in print, and its own samples.

The quadrature knows only the formula of U in the docstring: it shares nothing with the package.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.special

from heatbath import engine, potentials

P_VALUE = 1e-6
DRAWS = 300_000
MATRIX = np.array([[2.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 0.7]])
# barrier, tilt, temperature: symmetric and tilted either way, shallow and deep, cold and hot, and hardly a double well
WELLS = [(1, 0, 1), (2.5, 0, 1), (5, 0, 1), (1, 0, 0.25), (1, 0.5, 0.5), (2, 0.3, 0.5), (1.5, -0.4, 2), (8, 0.2, 0.1),
         (20, 0, 0.01), (0.01, 0, 5), (0.1, -3, 1), (1, 30, 0.7)]  # fmt: skip
HARMONICS = [(3.0, 0.5, 4), (np.array([0.5, 2.0, 7.0]), np.array([1.0, -2.0, 0.0]), 3), (MATRIX, 0.25, 3)]


def harmonic(stiffness, center):
    return potentials.Harmonic(stiffness=stiffness, center=center)


@functools.cache
def well_by_quadrature(barrier, tilt, temperature):
    """log Z, <U>, heat capacity, mean and variance of one coordinate of barrier (x² - 1)² + tilt x."""
    energy = lambda x: barrier * (x * x - 1) ** 2 + tilt * x  # noqa: E731
    turns = [float(r.real) for r in np.roots([4 * barrier, 0, -4 * barrier, tilt]) if abs(r.imag) < 1e-9]
    lowest, edge = min(map(energy, turns)), max(map(abs, turns))
    while min(energy(edge), energy(-edge)) < lowest + 60 * temperature:  # exp(-60) is nothing
        edge *= 1.1
    # 40 pieces of 40 points of Gauss and Legendre, and as many between each minimum's neighbours
    width = 8 * math.sqrt(temperature / barrier)
    near = [np.linspace(x - width, x + width, 41) for x in turns]
    ends = np.unique(np.concatenate([np.linspace(-edge, edge, 41), *near]))
    half, middle = np.diff(ends)[:, None] / 2, (ends[1:] + ends[:-1])[:, None] / 2
    nodes, weights = np.polynomial.legendre.leggauss(40)
    x = middle + half * nodes
    weight = half * weights * np.exp((lowest - energy(x)) / temperature)
    z = weight.sum()
    mean, mean_energy = (weight * x).sum() / z, (weight * energy(x)).sum() / z
    variance = (weight * (x - mean) ** 2).sum() / z
    capacity = (weight * (energy(x) - mean_energy) ** 2).sum() / z / temperature**2
    return math.log(z) - lowest / temperature, mean_energy, capacity, mean, variance


def test_the_quadrature_itself():
    """In 30 digits, once."""
    with mpmath.workdps(30):
        u = lambda x: 2 * (x * x - 1) ** 2 + 0.5 * x  # noqa: E731
        integral = lambda f: mpmath.quad(lambda x: f(x) * mpmath.exp(-2 * u(x)), [-4, -1, 0, 1, 4])  # noqa: E731
        z = integral(lambda x: 1)
        mean, mean_energy = integral(lambda x: x) / z, integral(u) / z
        variance = integral(lambda x: x * x) / z - mean**2
        capacity = 4 * (integral(lambda x: u(x) ** 2) / z - mean_energy**2)
        exact = [float(q) for q in (mpmath.log(z), mean_energy, capacity, mean, variance)]
    np.testing.assert_allclose(well_by_quadrature(2, 0.5, 0.5), exact, rtol=1e-13)


@pytest.mark.parametrize(("barrier", "tilt", "temperature"), WELLS)
def test_double_well_against_quadrature(barrier, tilt, temperature):
    log_z, mean_energy, capacity, mean, variance = well_by_quadrature(barrier, tilt, temperature)
    well = potentials.DoubleWell(barrier=barrier, tilt=tilt)
    for d, like in ((1, None), (6, {"a": jnp.zeros((2, 2)), "b": jnp.zeros(2)})):
        state = well.equilibrium(temperature, like)
        near = lambda value, wanted: np.testing.assert_allclose(value, wanted, rtol=1e-9, atol=1e-11)  # noqa: E731
        assert state.dimension == d
        near(state.log_partition, d * log_z)
        near(state.free_energy, -d * temperature * log_z)
        near(state.mean_energy, d * mean_energy)
        near(state.entropy, d * (mean_energy / temperature + log_z))
        near(state.heat_capacity, d * capacity)
        near(state.mean, np.full(d, mean))
        near(state.covariance, variance * np.eye(d))


@pytest.mark.parametrize(
    ("barrier", "temperature", "digits"),
    [  # analytic.md B; and Z in closed form by Bessel functions
        (1, 1, {"z": 1.97373215009, "x2": 0.8327454871284, "u": 0.4172545128716, "f": -0.6799262428938,
                "s": 1.097180755765, "c": 0.2229076972315}),
        (2.5, 1, {"z": 1.245245532043, "x2": 0.871362908042, "u": 0.5715927298949, "c": 0.4863563057634}),
        (5, 1, {"z": 0.8340588041069, "x2": 0.9368339404118, "u": 0.5658302979408}),
        (1, 0.25, {"x2": 0.9176708607452}),
        (1, 0.5, {"x2": 0.8521361521783}),
        (1, 2, {"x2": 0.8934649695742}),
    ],
)  # fmt: skip
def test_digits_in_print(barrier, temperature, digits):
    state, b = potentials.DoubleWell(barrier=barrier).equilibrium(temperature), barrier / temperature
    measured = {"z": math.exp(state.log_partition), "x2": state.covariance[0, 0], "u": state.mean_energy,
                "f": state.free_energy, "s": state.entropy, "c": state.heat_capacity}  # fmt: skip
    for name, value in digits.items():
        assert measured[name] == pytest.approx(value, rel=5e-12)
    bessel = math.pi / 2 * (scipy.special.ive(-0.25, b / 2) + scipy.special.ive(0.25, b / 2))
    assert measured["z"] == pytest.approx(bessel, rel=1e-12)


def test_digits_of_the_tilted_well():
    state = potentials.DoubleWell(barrier=1, tilt=0.5).equilibrium(1)
    assert math.exp(state.log_partition) == pytest.approx(2.184823167973, rel=1e-12)
    assert state.mean[0] == pytest.approx(-0.3969278247944, rel=1e-12)
    assert potentials.DoubleWell(tilt=0.5).equilibrium(0.5).mean[0] == pytest.approx(-0.6987355816211, rel=1e-12)


@pytest.mark.parametrize(("stiffness", "center", "d"), HARMONICS, ids=["scalar", "diagonal", "matrix"])
@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_harmonic(stiffness, center, d, temperature):
    """By normal modes: each is a Gaussian integral in one coordinate."""
    k = stiffness if np.ndim(stiffness) == 2 else np.diag(np.broadcast_to(stiffness, d))
    modes, turn = np.linalg.eigh(k)
    gauss = lambda k: mpmath.quad(lambda x: mpmath.exp(-k * x * x / 2 / temperature), [-mpmath.inf, 0, mpmath.inf])  # noqa: E731
    log_z = sum(math.log(gauss(k)) for k in modes)
    state = harmonic(stiffness, center).equilibrium(temperature, np.zeros(d))
    measured = (state.log_partition, state.free_energy, state.mean_energy, state.entropy, state.heat_capacity)
    expected = (log_z, -temperature * log_z, d * temperature / 2, d / 2 + log_z, d / 2)
    np.testing.assert_allclose(measured, expected, rtol=1e-11)
    np.testing.assert_allclose(state.mean, np.broadcast_to(center, d), rtol=1e-15)
    np.testing.assert_allclose(turn.T @ state.covariance @ turn, np.diag(temperature / modes), rtol=1e-12, atol=1e-12)
    if np.ndim(stiffness):  # the dimension is the landscape's own
        assert harmonic(stiffness, center).equilibrium(temperature).log_partition == pytest.approx(log_z, rel=1e-12)


@pytest.mark.parametrize(("barrier", "tilt", "temperature"), WELLS[:8])
def test_identities(barrier, tilt, temperature):
    """Thermodynamics as differences, none of which uses how the numbers were computed."""
    at = lambda t=temperature, a=barrier, f=tilt: potentials.DoubleWell(barrier=a, tilt=f).equilibrium(t)  # noqa: E731
    state, (mean,), variance = at(), at().mean, at().covariance[0, 0]
    # by Simpson's weights for a derivative, (8 (f₁ - f₋₁) - (f₂ - f₋₂)) / 12δ, to δ⁴
    slope = lambda f, d: (8 * (f(d) - f(-d)) - (f(2 * d) - f(-2 * d))) / (12 * d)  # noqa: E731
    d = 2e-3 * temperature
    near = lambda value, wanted: np.testing.assert_allclose(value, wanted, rtol=1e-8, atol=1e-9)  # noqa: E731
    near(state.free_energy, state.mean_energy - temperature * state.entropy)
    near(state.heat_capacity, slope(lambda e: at(t=temperature + e).mean_energy, d))
    near(-state.entropy, slope(lambda e: at(t=temperature + e).free_energy, d))
    near(mean, slope(lambda e: at(f=tilt + e).free_energy, d))
    near(-variance / temperature, slope(lambda e: at(f=tilt + e).mean[0], d))
    x2 = variance + mean**2
    near((state.mean_energy - tilt * mean) / barrier, slope(lambda e: at(a=barrier + e).free_energy, 2e-3 * barrier))
    # the virial, <x U'> = 4a <x⁴ - x²> + f <x> = T, with <x⁴> from the mean energy
    x4 = (state.mean_energy - tilt * mean) / barrier + 2 * x2 - 1
    near(4 * barrier * (x4 - x2) + tilt * mean, temperature)


def p_of_gaussian_mean(values, mean, variance):
    return float(2 * scipy.special.ndtr(-abs(np.mean(values) - mean) * math.sqrt(values.size / variance)))


def p_of_cdf(values, cdf):
    """Kolmogorov and Smirnov."""
    f, steps = cdf(np.sort(values)), np.arange(values.size + 1) / values.size
    return float(scipy.special.kolmogorov(max((steps[1:] - f).max(), (f - steps[:-1]).max()) * math.sqrt(values.size)))


def p_of_well_draws(draws, barrier, tilt, temperature):
    """p-values of exact draws of a double well, (n, 2): shape, mean, energy, independence."""
    _, mean_energy, capacity, mean, variance = well_by_quadrature(barrier, tilt, temperature)
    grid = np.linspace(draws.min() - 1e-3, draws.max() + 1e-3, 200_001)
    energy = lambda x: barrier * (x * x - 1) ** 2 + tilt * x  # noqa: E731
    density = np.exp(-(energy(grid) - mean_energy) / temperature)
    below = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])  # what lies outside is under 1/n
    x = draws.astype(np.float64)
    deviate = (x - mean) / math.sqrt(variance)
    return {
        "shape": p_of_cdf(x.ravel(), lambda x: np.interp(x, grid, below / below[-1])),
        "mean": p_of_gaussian_mean(x, mean, variance),
        "energy": p_of_gaussian_mean(energy(x), mean_energy, capacity * temperature**2),
        "coordinates": p_of_gaussian_mean(deviate[:, 0] * deviate[:, 1], 0, 1),
        "particles": p_of_gaussian_mean(deviate[1:] * deviate[:-1], 0, 1),
    }


@pytest.mark.parametrize(("barrier", "tilt", "temperature"), [WELLS[i] for i in (4, 6, 8, 10)])
def test_draws_of_the_double_well(barrier, tilt, temperature):
    well, like = potentials.DoubleWell(barrier=barrier, tilt=tilt), np.zeros(2)
    draws = np.asarray(well.equilibrium(temperature, like).sample(11, DRAWS // 2))
    assert draws.shape == (DRAWS // 2, 2) and draws.dtype == np.float32
    found = p_of_well_draws(draws, barrier, tilt, temperature)
    assert {name: p for name, p in found.items() if p < P_VALUE} == {}


def test_a_double_well_ten_percent_too_hot_is_seen():
    hot = np.asarray(potentials.DoubleWell(barrier=1, tilt=0.5).equilibrium(0.55, np.zeros(2)).sample(11, DRAWS // 2))
    found = p_of_well_draws(hot, 1, 0.5, 0.5)
    assert found["energy"] < P_VALUE and found["shape"] < P_VALUE
    assert min(found["coordinates"], found["particles"]) >= P_VALUE  # and that alone is wrong


def p_of_harmonic_draws(draws, k, center, temperature):
    """p-values of exact draws of a harmonic well, from what must be independent standard normals, and from the energy."""
    xi = (draws.astype(np.float64) - center) @ np.linalg.cholesky(k / temperature)
    n, d = xi.shape
    found = {"energy": p_of_cdf(np.sum(xi**2, axis=1), lambda u: scipy.special.gammainc(d / 2, u / 2))}
    found["variance of the ensemble mean"] = float(scipy.special.gammaincc(d / 2, np.sum(xi.sum(axis=0) ** 2) / n / 2))
    for i, j in itertools.combinations_with_replacement(range(d), 2):
        found[f"moment {i}{j}"] = p_of_gaussian_mean(xi[:, i] * xi[:, j], float(i == j), 1.0 + (i == j))
    return found | {f"shape {i}": p_of_cdf(xi[:, i], scipy.special.ndtr) for i in range(d)}


@pytest.mark.parametrize(("stiffness", "center", "d"), HARMONICS, ids=["scalar", "diagonal", "matrix"])
def test_draws_of_the_harmonic_well(stiffness, center, d):
    k = stiffness if np.ndim(stiffness) == 2 else np.diag(np.broadcast_to(stiffness, d))
    well, like = harmonic(stiffness, center), np.zeros(d)
    found = p_of_harmonic_draws(np.asarray(well.equilibrium(0.6, like).sample(5, DRAWS)), k, center, 0.6)
    assert {name: p for name, p in found.items() if p < P_VALUE} == {}
    if d == 4:
        hot = np.asarray(well.equilibrium(0.66, like).sample(5, DRAWS))
        assert p_of_harmonic_draws(hot, k, center, 0.6)["energy"] < P_VALUE


@pytest.mark.parametrize("landscape", [potentials.DoubleWell(tilt=0.3), harmonic(2.0, 0.5)], ids=["well", "harmonic"])
def test_draws_have_the_tree_and_belong_to_their_particle(landscape):
    like = {"a": jnp.zeros((2, 2)), "b": jnp.zeros(3)}
    many, few = (landscape.equilibrium(0.7, like).sample(3, n) for n in (500, 20))
    assert jax.tree.map(jnp.shape, many) == {"a": (500, 2, 2), "b": (500, 3)}
    assert jax.tree.all(jax.tree.map(lambda m, f: np.array_equal(m[:20], f), many, few))
    again, other = (landscape.equilibrium(0.7, like).sample(jax.random.key(s), 20) for s in (3, 4))
    assert np.array_equal(again["b"], few["b"]) and not np.any(np.asarray(other["b"]) == few["b"])


@pytest.mark.parametrize(("barrier", "tilt", "temperature"), [WELLS[i] for i in (4, 7)])
def test_log_density_is_normalised(barrier, tilt, temperature):
    with jax.enable_x64(True):
        nodes, weights = np.polynomial.legendre.leggauss(400)
        for landscape in (potentials.DoubleWell(barrier=barrier, tilt=tilt), harmonic(barrier + 2.0, tilt)):
            one = landscape.equilibrium(temperature)
            two = landscape.equilibrium(temperature, jnp.zeros(2))
            half = 9 * math.sqrt(two.covariance[0, 0]) + 1
            x = half * nodes
            density = np.exp(jax.vmap(one.log_density)(x[:, None]))
            assert half * weights @ density == pytest.approx(1, rel=1e-9)
            assert half * weights @ (density * x) == pytest.approx(one.mean[0], rel=1e-9, abs=1e-9)
            pair = two.log_density(jnp.array([0.3, -0.8]))
            assert pair == pytest.approx(sum(float(one.log_density(jnp.array([c]))) for c in (0.3, -0.8)), rel=1e-12)


@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_sums_and_multiples(factor):
    """Value and gradient; and factor × U at T has the density of U at T/factor."""
    well, bowl = potentials.DoubleWell(barrier=2.0, tilt=0.3), harmonic(np.array([1.0, 4.0]), 0.2)
    plain = lambda x: jnp.sum(jnp.sin(x))  # noqa: E731
    energy = factor * (well + bowl * 0.5 + plain)
    with jax.enable_x64(True):
        x = np.array([[0.3, -1.2], [1.7, 0.4], [-0.9, 0.8]])
        u = 2 * (x**2 - 1) ** 2 + 0.3 * x + 0.25 * np.array([1, 4]) * (x - 0.2) ** 2 + np.sin(x)
        du = 8 * x * (x**2 - 1) + 0.3 + 0.5 * np.array([1, 4]) * (x - 0.2) + np.cos(x)
        for i in range(3):
            value, gradient = energy.value_and_gradient(x[i])
            np.testing.assert_allclose([value, energy(x[i])], factor * u[i].sum(), rtol=1e-13)
            np.testing.assert_allclose(gradient, factor * du[i], rtol=1e-13)
            np.testing.assert_allclose(energy.gradient(x[i]), jax.grad(energy)(x[i]), rtol=1e-13)
        for landscape, scaled in (
            (well, potentials.DoubleWell(barrier=2.0 * factor, tilt=0.3 * factor)),
            (bowl, harmonic(factor * np.array([1.0, 4.0]), 0.2)),
        ):
            cold, state = landscape.equilibrium(0.7 / factor, np.zeros(2)), scaled.equilibrium(0.7, np.zeros(2))
            assert state.log_partition == pytest.approx(cold.log_partition, rel=1e-12)
            assert state.mean_energy == pytest.approx(factor * cold.mean_energy, rel=1e-9)
            for here in x:
                expected = -(factor * landscape)(here) / 0.7 - cold.log_partition
                assert cold.log_density(here) == pytest.approx(float(expected), rel=1e-12)
                assert state.log_density(here) == pytest.approx(float(expected), rel=1e-12)
    assert isinstance(sum([well, bowl]), engine.Potential)  # Python's sum starts from 0


@pytest.mark.parametrize("temperature", [0, 0.0, -1.0, math.nan, math.inf, [1.0, 2.0], np.ones(1)])
@pytest.mark.parametrize("landscape", [potentials.DoubleWell(), potentials.Harmonic()], ids=["well", "harmonic"])
def test_temperatures_that_are_refused(landscape, temperature):
    with pytest.raises(ValueError, match="temperature must be one positive number; got"):
        landscape.equilibrium(temperature)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: potentials.DoubleWell(barrier=0.0), "barrier must be positive; got 0"),
        (lambda: potentials.DoubleWell(tilt=math.nan), "tilt must be finite; got"),
        (
            lambda: potentials.DoubleWell().equilibrium(1.0).sample(0, 0),
            "n must be a whole number of at least 1; got 0",
        ),
        (lambda: potentials.DoubleWell().equilibrium(1.0).sample(-1, 5), r"key must be in \[0, 2\*\*32\)"),
        (lambda: harmonic(-1.0, 0.0).equilibrium(1.0), "stiffness must be positive"),
        (lambda: harmonic(np.array([1.0, 0.0]), 0.0).equilibrium(1.0), "stiffness must be positive"),
        (lambda: harmonic(np.array([[1.0, 2.0], [0.0, 1.0]]), 0.0).equilibrium(1.0), "symmetric"),
        (lambda: harmonic(np.array([[1.0, 2.0], [2.0, 1.0]]), 0.0).equilibrium(1.0), "stiffness must be positive"),
        (lambda: harmonic(MATRIX, 0.0).equilibrium(1.0, np.zeros(2)), "for 2 coordinate"),
    ],
)
def test_what_else_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("barrier, tilt, temperature", [(1.0, 0.0, 1e-7), (1.0, 1e5, 1.0)])
def test_a_well_too_narrow_for_the_quadrature_is_refused(barrier, tilt, temperature):
    with pytest.raises(ValueError, match="narrower than the grid"):
        potentials.DoubleWell(barrier=barrier, tilt=tilt).equilibrium(temperature)
    assert potentials.DoubleWell(barrier=1e4).equilibrium(1.0).mean_energy == pytest.approx(0.5, rel=1e-3)


def test_log_density_is_in_float64():
    state, x = potentials.DoubleWell(barrier=1.0, tilt=0.3).equilibrium(0.7), np.array([0.3])
    exact = -((0.3**2 - 1) ** 2 + 0.3 * 0.3) / 0.7 - state.log_partition
    assert float(state.log_density(x)) == pytest.approx(exact, abs=1e-14)
    assert np.asarray(jax.vmap(state.log_density)(jnp.array([[0.3]])))[0] == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: potentials.Harmonic().equilibrium("a"), "one positive number; got 'a'"),
        (
            lambda: potentials.DoubleWell().equilibrium(1.0).bin_probabilities([0.0, 1.0], coordinate=1),
            "coordinate must be a whole number from 0 to 0; got 1",
        ),
        (lambda: potentials.EntropicWell().equilibrium(1e8).sample(1, 100_000), "overflow float32"),
        (lambda: potentials.Harmonic().equilibrium(True), "one positive number; got True"),
        (lambda: potentials.Harmonic(stiffness=jnp.ones(2)).equilibrium(1.0, jnp.zeros(3)), r"stiffness.*\(3, 3\)"),
        (lambda: potentials.Harmonic(center=jnp.ones(2)).equilibrium(1.0, jnp.zeros(3)), r"center.*\(3,\).*\(2,\)"),
        (lambda: potentials.Harmonic().equilibrium(1.0).sample(0, 2.5), "n must be a whole number.*2.5"),
        (lambda: potentials.Harmonic().equilibrium(1.0).density(0.0, coordinate=1.5), "coordinate must be.*1.5"),
    ],
)
def test_what_an_equilibrium_refuses(call, says):
    with pytest.raises(ValueError, match=says):
        call()
