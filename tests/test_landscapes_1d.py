"""Landscapes that are one function summed over coordinates, against quadrature, digits in print, and their own samples.

The quadrature knows only the formula of U in the docstring, on panels of Gauss and Legendre that shrink towards 0 where
the package uses uniform and doubly exponential grids.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from registry import POTENTIALS

from heatbath import engine
from heatbath.engine.equilibrium import NotKnown
from heatbath.engine.pytree import number, pytree, upcast
from heatbath.potentials import (
    BetaLogit,
    Coordinatewise,
    Cosine,
    DoubleWell,
    Laplace,
    LogCosh,
    LogGamma,
    Power,
    Quartic,
    Torus,
    TripleWell,
)

DRAWS = 2**17
Z_MOST = 5.5  # two-sided p = 4e-8 each: 1e-5 for all 250 of this file together
PAIR = np.zeros(2)
TEMPERATURES = (0.4, 2.5)


class Landscape(NamedTuple):
    """A potential, and its energy of one coordinate as its docstring has it, in plain numpy."""

    potential: Any
    energy: Callable
    bounds: tuple[float, float] | None = None  # of an angle


softplus = lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))  # noqa: E731
LANDSCAPES = {
    "quartic": Landscape(Quartic(), lambda x: x**4 / 4),
    "power 0.5": Landscape(Power(exponent=0.5), lambda x: 2 * np.sqrt(np.abs(x))),
    "power 1.5": Landscape(Power(exponent=1.5), lambda x: np.abs(x) ** 1.5 / 1.5),
    "power 7": Landscape(Power(exponent=7.0), lambda x: np.abs(x) ** 7 / 7),
    "laplace": Landscape(Laplace(scale=0.6), lambda x: np.abs(x) / 0.6),
    "log cosh": Landscape(LogCosh(amplitude=2.0), lambda x: 2 * (softplus(2 * x) - x - math.log(2))),
    "log cosh, flat": Landscape(LogCosh(amplitude=0.3), lambda x: 0.3 * (softplus(2 * x) - x - math.log(2))),
    "log gamma": Landscape(LogGamma(a=3.0), lambda x: np.exp(x) - 3 * x),
    "log gamma, flat": Landscape(LogGamma(a=0.5), lambda x: np.exp(x) - 0.5 * x),
    "beta logit": Landscape(BetaLogit(a=3.0, b=2.0), lambda x: 3 * softplus(-x) + 2 * softplus(x)),
    "beta logit, skew": Landscape(BetaLogit(a=0.4, b=9.0), lambda x: 0.4 * softplus(-x) + 9 * softplus(x)),
    "double well": Landscape(DoubleWell(barrier=1.5, tilt=0.2), lambda x: 1.5 * (x**2 - 1) ** 2 + 0.2 * x),
    "triple well": Landscape(
        TripleWell(barrier=1.2, tilt=-0.3), lambda x: 27 / 4 * 1.2 * x**2 * (x**2 - 1) ** 2 - 0.3 * x
    ),
    "cosine": Landscape(Cosine(amplitude=1.5), lambda x: -1.5 * np.cos(x), (-math.pi, math.pi)),
    "torus": Landscape(Torus(length=3.0), lambda x: 0 * x, (0.0, 3.0)),
}
CLOSED = [name for name, l in LANDSCAPES.items() if type(l.potential).log_partition is not Coordinatewise.log_partition]
CONFINED = [name for name, l in LANDSCAPES.items() if l.bounds is None]
each_landscape = pytest.mark.parametrize("name", LANDSCAPES)


class Law(NamedTuple):
    """What the quadrature finds of one coordinate: points and their probabilities, the ends of its panels, log Z."""

    x: np.ndarray
    p: np.ndarray
    ends: np.ndarray
    log_z: float

    def mean(self, values):
        return float(self.p @ values)


@functools.cache
def law(name, temperature):
    landscape = LANDSCAPES[name]
    if landscape.bounds is not None:
        ends = np.linspace(*landscape.bounds, 33)
    else:
        lowest, sides = landscape.energy(np.linspace(-2, 2, 2001)).min(), []
        for side in (-1.0, 1.0):
            edge = side
            while landscape.energy(edge) < lowest + 120 * temperature:
                edge *= 2
            sides.append(edge * 2.0 ** -np.arange(70))
        ends = np.concatenate([sides[0], [0.0], sides[1][::-1]])
    half, nodes, weights = np.diff(ends)[:, None] / 2, *np.polynomial.legendre.leggauss(80)
    x = (ends[:-1, None] + half * (1 + nodes)).ravel()
    exponent = -landscape.energy(x) / temperature
    p = (half * weights).ravel() * np.exp(exponent - exponent.max())
    return Law(x, p / p.sum(), ends, math.log(p.sum()) + exponent.max())


def near(value, wanted, rtol=1e-10, atol=1e-10):
    np.testing.assert_allclose(value, wanted, rtol=rtol, atol=atol)


def features(name, x):
    """What the moments are of."""
    landscape = LANDSCAPES[name]
    if landscape.bounds is None:
        return np.stack([x])
    angle = 2 * math.pi / np.diff(landscape.bounds) * x
    return np.stack([np.cos(angle), np.sin(angle)])


@pytest.mark.parametrize("name", ["power 0.5", "log gamma", "beta logit, skew", "triple well"])
def test_the_quadrature_itself(name):
    """By the tanh-sinh rule of mpmath, once."""
    landscape, found = LANDSCAPES[name], law(name, 0.4)
    weight = lambda x: mpmath.mpf(float(np.exp(-landscape.energy(float(x)) / 0.4 - found.log_z)))  # noqa: E731
    places = [found.ends[0], -20, -4, -1, 0, 1, min(4, found.ends[-1]), found.ends[-1]]
    places = sorted({max(place, found.ends[0]) for place in places})
    integral = lambda f: float(mpmath.quad(lambda x: f(x) * weight(x), places, maxdegree=8))  # noqa: E731
    near([integral(lambda x: 1), integral(lambda x: x * x)], [1, found.mean(found.x**2)], rtol=1e-9)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@each_landscape
def test_equilibrium(name, temperature):
    found, state = law(name, temperature), LANDSCAPES[name].potential.equilibrium(temperature, PAIR)
    energy = LANDSCAPES[name].energy(found.x)
    mean_energy = found.mean(energy)
    near(state.log_partition, 2 * found.log_z)
    near(state.free_energy, -2 * temperature * found.log_z)
    near(state.mean_energy, 2 * mean_energy)
    near(state.entropy, 2 * (mean_energy / temperature + found.log_z))
    near(state.heat_capacity, 2 * found.mean((energy - mean_energy) ** 2) / temperature**2, rtol=1e-9)
    values = features(name, found.x)
    mean = values @ found.p
    near(state.mean, np.repeat(mean, 2), rtol=1e-9)
    near(
        state.covariance, np.kron((values - mean[:, None]) * found.p @ (values - mean[:, None]).T, np.eye(2)), rtol=1e-9
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_and_the_grid_agree(name, temperature):
    with jax.enable_x64(True):
        landscape = upcast(LANDSCAPES[name].potential)
        grid = Coordinatewise.log_partition(landscape, temperature, PAIR)
        near(float(landscape.log_partition(np.float64(temperature), PAIR)), float(grid), rtol=1e-11)
        for closed, summed in zip(
            landscape.moments(temperature, PAIR), Coordinatewise.moments(landscape, temperature, PAIR), strict=True
        ):
            near(closed, summed, rtol=1e-11)


def printed(text):
    """A number in print, and half a unit of its last place (one whole, for digits that were cut and not rounded)."""
    return pytest.approx(float(text), abs=1.01 * 10.0 ** -len(text.partition(".")[2]), rel=0)


@pytest.mark.parametrize(
    ("landscape", "digits"),
    [
        (Quartic(), {"z": "2.563693352041", "x2": ".6759782400673", "s": "1.191448934418", "u": ".25", "x4": "1.0"}),
        (LogCosh(amplitude=2.0), {"z": "2.0", "x2": ".8224670334241", "c": ".7101318663035", "x4": "2.841098488492"}),
        (Cosine(amplitude=1.0), {"cos": ".4463899658965"}),
        (Cosine(amplitude=2.0), {"cos": ".697774657964008"}),
        (Cosine(amplitude=4.0), {"cos": ".8635226110246"}),
        (BetaLogit(a=3.0, b=2.0), {"x": ".5", "var": "1.039868133696"}),
        (LogGamma(a=3.0), {"x": ".9227843350985", "var": ".3949340668482"}),
        (Laplace(), {"z": "2.0", "x2": "2.0"}),
        (Torus(length=2.5), {"s": "0.916290731874"}),  # ln 2.5
        (DoubleWell(barrier=1.0), {"x4": "1.082745487128"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, engine.Potential) else "",
)
def test_digits_in_print(landscape, digits):
    """analytic.md B, all at T = 1."""
    state = landscape.equilibrium(1.0)
    of = {
        "z": lambda: math.exp(state.log_partition),
        "u": lambda: state.mean_energy,
        "s": lambda: state.entropy,
        "c": lambda: state.heat_capacity,
        "x": lambda: state.mean[0],
        "var": lambda: state.covariance[0, 0],
        "cos": lambda: state.mean[0],
        "x2": lambda: state.expectation(lambda x: x[0] ** 2),
        "x4": lambda: state.expectation(lambda x: x[0] ** 4),
    }
    for name, text in digits.items():
        assert float(of[name]()) == printed(text), name


@pytree
class Series(Coordinatewise):
    """A landscape of a user's own: x²/2 + quartic x⁴/4 + ripple cos 3x."""

    quartic: Any = number("non-negative", default=0.0)
    ripple: Any = number(default=0.0)

    def one(self, x: Any) -> Any:
        return x * x / 2 + self.quartic * x**4 / 4 + self.ripple * jnp.cos(3 * x)

    def support(self, temperature: Any, xp: Any = np) -> tuple[Any, Any]:
        width = xp.sqrt(120 * temperature + 4 * abs(self.ripple))
        return -width, width


def test_digits_of_landscapes_of_ones_own():
    state = Series(quartic=1.0).equilibrium(1.0)
    x2, x4 = state.expectation(lambda x: jnp.stack([x[0] ** 2, x[0] ** 4]))
    assert math.exp(state.log_partition) == printed("1.935247818497")
    assert (x2, x4) == (printed(".4679199169737"), printed(".5320800830263"))
    assert state.mean_energy == printed(".3669799792434")
    rippled = Series(ripple=1.0).equilibrium(1.0)
    assert math.exp(rippled.log_partition) == printed("3.142081555171")
    assert rippled.covariance[0, 0] == printed("1.090155032296")


def test_digits_of_which_well():
    edges = np.linspace(0, 6, 25)
    right = [DoubleWell(tilt=0.5).equilibrium(t).bin_probabilities(edges).sum() for t in (1.0, 0.5)]
    assert right == [printed(".3043154540101"), printed(".1505841185884")]


def test_what_only_one_landscape_has():
    """Laws that name the parameters, at T ≠ 1; the weights of three equal wells by their entropy."""
    sigma = BetaLogit(a=3.0, b=2.0).equilibrium(0.7).expectation(lambda x: jax.nn.sigmoid(x[0]))
    assert sigma == pytest.approx(3 / 5, rel=1e-12)
    assert LogGamma(a=3.0).equilibrium(0.7).expectation(lambda x: jnp.exp(x[0])) == pytest.approx(3, rel=1e-12)
    with mpmath.workdps(20):
        for amplitude, temperature in ((1.5, 0.4), (-2.0, 0.7)):  # a negative one has its well at π
            state, b = Cosine(amplitude=amplitude).equilibrium(temperature), amplitude / temperature
            assert math.exp(state.log_partition) == pytest.approx(
                float(2 * mpmath.pi * mpmath.besseli(0, b)), rel=1e-12
            )
            near(state.mean, [float(mpmath.besseli(1, b) / mpmath.besseli(0, b)), 0], rtol=1e-12)
    cold = TripleWell().equilibrium(1e-3).bin_probabilities(np.linspace(-2, 2, 801))
    assert cold[300:500].sum() == pytest.approx(0.5, abs=2e-3)  # √13.5⁻¹ : √54⁻¹ = 2 : 1, and 1 more on the other side
    with jax.enable_x64(True):
        well, top = TripleWell(barrier=1.7), jnp.array([math.sqrt(1 / 3)])
        assert float(well(top)) == pytest.approx(1.7, rel=1e-12) and float(well.gradient(top)[0]) == pytest.approx(0)


@each_landscape
def test_marginals_bins_and_expectations(name, temperature=1.3):
    found, state = law(name, temperature), LANDSCAPES[name].potential.equilibrium(temperature, PAIR)
    near(state.density(found.x, coordinate=1), np.exp(-LANDSCAPES[name].energy(found.x) / temperature - found.log_z))
    # bins are 80 points each of the same panels, so what they hold needs no other quadrature
    inside = slice(10, -10) if LANDSCAPES[name].bounds is None else slice(None)
    ends = found.ends[inside] if LANDSCAPES[name].bounds is None else found.ends
    start = int(np.searchsorted(found.ends, ends[0]))
    of_panels = found.p.reshape(-1, 80).sum(axis=1)[start : start + len(ends) - 1]
    near(state.bin_probabilities(ends), of_panels, rtol=1e-8)
    if LANDSCAPES[name].bounds is None:
        probe, other = lambda x: jnp.tanh(1 + x), lambda x: jnp.tanh(x) ** 2
    else:
        turn = 2 * math.pi / np.diff(LANDSCAPES[name].bounds)[0]
        probe, other = lambda x: jnp.cos(1 + turn * x), lambda x: jnp.sin(turn * x) ** 2
    product, square = state.expectation(lambda x: (probe(x[0]) * other(x[1]), other(x)))
    with jax.enable_x64(True):
        first, second = found.mean(np.asarray(probe(found.x))), found.mean(np.asarray(other(found.x)))
    near(product, first * second, rtol=1e-9)
    near(square, [second, second], rtol=1e-9)


def test_three_coordinates_have_no_quadrature():
    with pytest.raises(NotKnown, match="no quadrature for 3 coordinates"):
        Quartic().equilibrium(1.0, np.zeros(3)).expectation(jnp.sum)


SEPARABLE = [case for case in POTENTIALS if isinstance(case.make(), Coordinatewise)]
CORNERED = {"Laplace", "Power"}  # no curvature at the corner, or an infinite one
assert {type(l.potential).__name__ for l in LANDSCAPES.values()} == {case.name for case in SEPARABLE}


@pytest.mark.parametrize("case", SEPARABLE, ids=lambda case: case.name)
def test_identities(case):
    """Between averages and derivatives, none of which uses how either was computed; of the registered landscapes."""
    temperature = 0.7
    with jax.enable_x64(True):
        landscape = upcast(case.make())
        state = landscape.equilibrium(temperature)

        def averaged(x):
            energy, gradient = landscape.value_and_gradient(x)
            curvature = jax.jvp(landscape.gradient, (x,), (jnp.ones(1),))[1][0]
            return {"energy": energy, "square": energy**2, "virial": x[0] * gradient[0], "force": gradient[0],
                    "force2": gradient[0] ** 2, "curvature": curvature,
                    "by parameter": jax.grad(lambda l: l(x))(landscape)}  # fmt: skip

        found = state.expectation(averaged)
        slopes = jax.jit(jax.grad(lambda l: -temperature * l.log_partition(np.float64(temperature), np.zeros(1))))(
            landscape
        )
    assert state.free_energy == pytest.approx(state.mean_energy - temperature * state.entropy, rel=1e-12)
    near(found["energy"], state.mean_energy)
    near((found["square"] - found["energy"] ** 2) / temperature**2, state.heat_capacity, rtol=1e-8)
    near(found["force"], 0)
    if state.potential.period is None:
        near(found["virial"], temperature)
    if case.name not in CORNERED:
        near(found["force2"], temperature * found["curvature"])
    if case.name != "Torus":  # whose parameter is the domain's: no energy, and yet a pressure
        near(jax.tree.leaves(found["by parameter"]), jax.tree.leaves(slopes), rtol=1e-9)
    else:
        near(slopes.length, -temperature / 3.0)


@pytree
class Corner(Coordinatewise):
    """|x - 0.3|, whose corner no node knows of."""

    def one(self, x: Any) -> Any:
        return abs(x - 0.3)

    def support(self, temperature: Any, xp: Any = np) -> tuple[Any, Any]:
        return -60 * temperature, 60 * temperature


@pytest.mark.parametrize("name", ["log cosh", "beta logit"])
def test_nothing_overflows_far_away(name):
    """In float32, where exp and cosh give up at 89."""
    value, gradient = LANDSCAPES[name].potential.value_and_gradient(jnp.array([1e4, -1e4]))
    assert float(value) == pytest.approx(float(LANDSCAPES[name].energy(np.array([1e4, -1e4])).sum()), rel=1e-6)
    near(np.abs(gradient), [2.0, 2.0] if name == "log cosh" else [2.0, 3.0], rtol=1e-6)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5, 2.0, 3.0])
def test_the_corner_pushes_nowhere(exponent):
    value, gradient = Power(exponent=exponent).value_and_gradient(jnp.array([0.0, -4.0]))
    assert float(value) == pytest.approx(4**exponent / exponent, rel=1e-6)
    near(gradient, [0.0, -(4 ** (exponent - 1))], rtol=1e-6)


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, [1.0, 2.0]])
@pytest.mark.parametrize("name", ["power 1.5", "log gamma", "cosine", "torus"])
def test_temperatures_that_are_refused(name, temperature):
    with pytest.raises(ValueError, match="temperature must be one positive number; got"):
        LANDSCAPES[name].potential.equilibrium(temperature)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Power(exponent=0.0), "exponent must be positive; got 0"),
        (lambda: Power(exponent=-2.0), "exponent must be positive; got -2"),
        (lambda: Laplace(scale=-1.0), "scale must be positive; got -1"),
        (lambda: LogCosh(amplitude=0.0), "amplitude must be positive; got 0"),
        (lambda: LogGamma(a=0.0), "a must be positive; got 0"),
        (lambda: BetaLogit(a=1.0, b=-1.0), "b must be positive; got -1"),
        (lambda: TripleWell(barrier=0.0), "barrier must be positive; got 0"),
        (lambda: Torus(length=0.0), "length must be positive; got 0"),
        # what arrives as an array is only looked at where it is used
        (lambda: LogGamma(a=jnp.float32(-1.0)).equilibrium(1.0), "a must be positive; got -1"),
        (lambda: Power(exponent=np.array(math.nan)).equilibrium(1.0), "exponent must be positive and finite; got nan"),
        (lambda: DoubleWell(barrier=np.array([1.0, 2.0])).equilibrium(1.0), r"barrier must be one number.*\(2,\)"),
        (lambda: Cosine(tilt=0.5).equilibrium(1.0), r"tilt must be 0.*got 0\.5.*steady_state\(temperature\)"),
        (lambda: Cosine(tilt=0.5).steady_state(0.0), "temperature must be positive; got 0"),
        (lambda: Cosine(tilt=0.5).steady_state(1.0, mobility=-1.0), "mobility must be positive; got -1"),
        (lambda: Cosine(tilt=0.5).steady_state(np.ones(2)), r"temperature must be one number; got shape \(2,\)"),
        (lambda: Cosine(tilt=0.5).steady_state(1e-4), "do not converge at temperature 0.0001.*come out as .* nodes"),
        (lambda: Cosine(amplitude=400.0, tilt=1.0).steady_state(1.0), "leave the range of float64.*come out as 0, "),
        (lambda: Cosine(amplitude=371.0).steady_state(1.0), "leave the range of float64.*come out as 0, 0 from"),
        (lambda: Cosine(amplitude=math.inf), "amplitude must be finite; got inf"),
    ],
)
def test_what_else_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Corner().equilibrium(1.0),
        lambda: TripleWell().equilibrium(1e-8),
        lambda: Cosine(amplitude=1e7).equilibrium(1.0),
        lambda: LogGamma(a=1e9).equilibrium(1.0).sample(0, 3),  # whose moments are known all the same
        lambda: Cosine(amplitude=1e5).equilibrium(1.0, PAIR).expectation(jnp.sum),  # fewer nodes for two coordinates
    ],
)
def test_what_the_grid_cannot_resolve_is_refused(make):
    with pytest.raises(NotKnown, match="narrower than the grid of its quadrature"):
        make()
