"""Bias and rates of every scheme on nonlinear landscapes, to the digits in print, through the public certificate.

The tables (analytic.md F.3) come from interpolation on Chebyshev nodes, the certificate from projections; they share
nothing but the scheme. A new scheme is one more entry.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from heatbath import engine, integrators
from heatbath.engine import Integrator, Noise, NoiseSpec, number, pytree
from heatbath.integrators import Phase

pytestmark = pytest.mark.slow  # minutes, most of them to compile


@pytree
class OnSite(Integrator):
    """Grønbech-Jensen and Farago's first form, with momentum and position at one moment, as the table reads them."""

    step_size: Any = number("positive")
    friction: Any = number("positive", default=1.0)
    temperature: Any = number("non-negative", default=1.0)
    noise = init_noise = NoiseSpec(normals=1)
    has_momentum, weak_order, stationary_order, gradients = True, 1, 2, 2

    def init(self, potential: Any, position: Any, noise: Noise) -> Any:
        return Phase(position, jnp.sqrt(self.temperature) * noise.normals[0], None)

    def momentum(self, state: Any) -> Any:
        return state.momentum

    def kinetic_energy(self, state: Any) -> Any:
        return jnp.sum(state.momentum**2) / 2

    def step(self, potential: Any, state: Any, noise: Noise) -> Any:
        (x, p, _), h, half = state, self.step_size, self.friction * self.step_size / 2
        a, b = (1 - half) / (1 + half), 1 / (1 + half)
        eta, here = jnp.sqrt(4 * half * self.temperature) * noise.normals[0], -potential.gradient(x)
        new = x + b * h * (p + h / 2 * here + eta / 2)
        return Phase(new, a * p + h / 2 * (a * here - potential.gradient(new)) + b * eta, None)


class Row(NamedTuple):
    """What is in print: column (or "rate"), and one number a step, of a bias unless it is a rate or a pushed circle."""

    landscape: str
    column: str
    steps: tuple[float, ...]
    digits: str


RING, LINE, UNDERDAMPED = (0.2, 0.1, 0.05), (0.05, 0.025, 0.0125), (0.4, 0.2, 0.1)
WELL, STIFF, COSH, CIRCLE = "(x² - 1)²", "x²/2 + x⁴/4", "2 log cosh x", "-2 cos x"
PUSHED, HEAVY = "-2 cos x, pushed by 1", "-2 cos x at γ = 5"
TABLES: dict[str, tuple[Any, list[Row]]] = {
    "EulerMaruyama": (integrators.EulerMaruyama(step_size=0.1), [
        Row(CIRCLE, "cos x", RING, "-5.837830e-2 -2.730618e-2 -1.322594e-2"),
        Row(CIRCLE, "rate", RING, "1.54260677 1.59026688 1.61763848"),
        Row(PUSHED, "sin x", (0.1, 0.05), "0.323456352 0.324170873"),
        Row(WELL, "x²", LINE, "-4.39274e-2 -1.85875e-2 -8.75430e-3"),
        Row(STIFF, "x²", LINE, "1.41988e-2 6.84595e-3 3.36682e-3"),
        Row(COSH, "x²", LINE, "3.44838e-2 1.69493e-2 8.40338e-3")]),
    "LeimkuhlerMatthews": (integrators.LeimkuhlerMatthews(step_size=0.1), [
        Row(CIRCLE, "cos x", RING, "3.368770e-5 1.424877e-5 3.877715e-6"),
        Row(CIRCLE, "rate", RING, "1.56637095 1.61162720 1.63078368"),
        Row(PUSHED, "sin x", (0.1, 0.05), "0.333262910 0.328928041"),
        Row(WELL, "x²", LINE, "-9.12810e-4 -1.51791e-4 -3.47276e-5"),
        Row(STIFF, "x²", LINE, "-1.37758e-4 -3.25780e-5 -7.92728e-6"),
        Row(COSH, "x²", LINE, "-6.95229e-5 -1.73961e-5 -4.34612e-6")]),
    "StochasticHeun": (integrators.StochasticHeun(step_size=0.1), [
        Row(CIRCLE, "cos x", RING, "4.246397e-3 1.262076e-3 3.360167e-4"),
        Row(CIRCLE, "rate", RING, "1.60787833 1.63760893 1.64494249"),
        Row(PUSHED, "sin x", (0.1, 0.05), "0.324773931 0.324512290"),
        Row(WELL, "x²", LINE, "-2.99897e-2 -5.90084e-3 -1.25103e-3"),
        Row(STIFF, "x²", LINE, "-3.30284e-3 -7.62279e-4 -1.82583e-4"),
        Row(COSH, "x²", LINE, "-6.57167e-4 -1.69074e-4 -4.28441e-5")]),
    "BAOAB": (integrators.BAOAB(step_size=0.1), [
        Row(CIRCLE, "cos x", UNDERDAMPED, "-1.0826e-4 -3.0353e-5 -7.8280e-6"),
        Row(CIRCLE, "p²/mT", UNDERDAMPED, "-5.5894e-2 -1.3960e-2 -3.4892e-3"),
        Row(HEAVY, "cos x", UNDERDAMPED, "1.302e-5 2.066e-6 4.36e-7")]),
    "BAOA": (integrators.BAOA(step_size=0.1), [
        Row(CIRCLE, "cos x", UNDERDAMPED, "-1.0826e-4 -3.0353e-5 -7.8280e-6"),
        Row(CIRCLE, "p²/mT", UNDERDAMPED, "4.3158e-5 2.5403e-6 1.6472e-7")]),
    "ABOBA": (integrators.ABOBA(step_size=0.1), [
        Row(CIRCLE, "cos x", UNDERDAMPED, "-6.6080e-3 -1.5961e-3 -3.9579e-4"),
        Row(CIRCLE, "p²/mT", UNDERDAMPED, "5.8419e-2 1.4111e-2 3.4985e-3")]),
    "OBA": (integrators.Splitting(scheme="OBA", step_size=0.1), [
        Row(CIRCLE, "cos x", UNDERDAMPED, "3.2914e-2 2.4921e-2 1.4459e-2"),
        Row(CIRCLE, "p²/mT", UNDERDAMPED, "7.6605e-2 1.6217e-2 3.7570e-3")]),
    "GronbechJensen": (integrators.GronbechJensen(step_size=0.1), [
        Row(CIRCLE, "cos x", UNDERDAMPED, "-1.0526e-4 -3.0158e-5 -7.8157e-6")]),
    "GJF, on site": (OnSite(step_size=0.1), [
        Row(CIRCLE, "cos x", UNDERDAMPED, "-1.0526e-4 -3.0158e-5 -7.8157e-6"),
        Row(CIRCLE, "p²/mT", UNDERDAMPED, "-5.5893e-2 -1.3960e-2 -3.4892e-3")]),
    "SymplecticEuler": (integrators.SymplecticEuler(step_size=0.1), [
        Row(CIRCLE, "cos x", UNDERDAMPED, "-2.7060e-2 -5.7149e-3 -1.3387e-3"),
        Row(CIRCLE, "p²/mT", UNDERDAMPED, "0.34238 0.12855 0.056509")]),
    "UnderdampedEulerMaruyama": (integrators.UnderdampedEulerMaruyama(step_size=0.1), [
        Row(CIRCLE, "cos x", UNDERDAMPED[1:], "-0.13274 -0.058005"),
        Row(CIRCLE, "p²/mT", UNDERDAMPED[1:], "0.45896 0.20952")]),
}  # fmt: skip


def last_digit(printed: str) -> float:
    """One unit of the last digit of a number in print."""
    mantissa, _, exponent = printed.partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def rows_of(name: str, integrator: Any) -> list[tuple[Row, np.ndarray, np.ndarray]]:
    """Every row of a scheme, with what was found and how wrong that may be."""
    rows = TABLES[name][1]
    asked = {row.landscape: row.steps for row in rows}
    tables = engine.certify(integrator, methods=("transfer",), landscapes=asked).tables
    found = []
    for row in rows:
        table = tables[row.landscape]
        if row.column == "rate":
            found.append((row, table.rates, table.error))
        else:
            column = table.names.index(row.column)
            exact = 0.0 if row.landscape == PUSHED else table.exact[column]
            found.append((row, table.values[:, column] - exact, table.error * np.abs(table.values[:, column])))
    return found


@pytest.mark.parametrize("name", TABLES)
def test_digits_in_print(name):
    for row, found, error in rows_of(name, TABLES[name][0]):
        for value, printed, wrong in zip(found, row.digits.split(), error, strict=True):
            assert value == pytest.approx(float(printed), abs=1.01 * last_digit(printed) + 3 * wrong), row


def test_units_do_not_matter():
    """Temperature, mobility and the integrator's own step only set the units of the tables."""
    warm = integrators.EulerMaruyama(step_size=3.0, temperature=0.02, mobility=0.4)
    for row, found, error in rows_of("EulerMaruyama", warm):
        np.testing.assert_allclose(found, np.array(row.digits.split(), float), rtol=1e-4, atol=2 * error.max())


def test_the_tables_know_one_scheme_from_another():
    for row, found, error in rows_of("LeimkuhlerMatthews", TABLES["EulerMaruyama"][0]):
        assert np.abs(found - np.array(row.digits.split(), float)).min() > 1e-4 + error.max(), row


def test_the_fourth_order_window_of_baoab():
    """At high friction the configurational bias falls like h⁴ before the second order returns (γh < 1)."""
    asked = dict.fromkeys((HEAVY, CIRCLE), UNDERDAMPED[:2])
    tables = engine.certify(TABLES["BAOAB"][0], methods=("transfer",), landscapes=asked).tables
    heavy, light = (np.log2(np.divide(*tables[name].bias[:, 0])) for name in (HEAVY, CIRCLE))
    assert heavy > 2.5 and light < 2
