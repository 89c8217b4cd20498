"""Quadratic energies: stability, temperatures, order, what is exact, coupled coordinates. Linear algebra, no chance."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ..linear import boundary, linear_map
from ..protocols import Integrator
from ..verdict import Line
from .scheme import Free, free, has_number, mass_of, on_mode, probe, with_numbers

RIGHT = 1e-3  # departure of an extrapolated temperature from the bath's that is still no error
EXACT = 1e-9  # relative departure that is still rounding
FRACTIONS = (0.25, 0.5, 0.75)  # of the stability limit in hω, where laws are looked at
SMALL = (1e-4, 1e-6, 1e-8)  # of a natural stiffness, where a scheme must be stable
WARM = 0.6  # times the temperature, at which coupled coordinates are looked at
UNEQUAL = np.array([0.4, 1.0, 2.3])  # times the mass or mobility
# an orthogonal matrix of rationals, the stiffnesses of its columns as parts of the largest stable one, and a centre
TURN, PARTS, CENTER = np.array([[2, -1, 2], [2, 2, -1], [-1, 2, 2]]) / 3, np.array([0.3, 0.1, 0.04]), [0.5, -1.0, 2.0]


class Reading(NamedTuple):
    """The stationary law on one coordinate of stiffness k, against the continuous one; NaN where it has no meaning."""

    positions: float  # k<x²>/T: the configurational temperature over the bath's
    momenta: float  # <p²>/mT: the kinetic temperature over the bath's
    correlation: float  # <xp> √(k/m)/T


def on_quadratics(integrator: Any, limit: float, transport: Free | None) -> dict[str, Line]:
    """All lines on quadratic energies, for a scheme with a bath, and its largest stable stiffness."""
    scale = "hω" if integrator.has_momentum else "μhk"
    reach = reach_of(integrator, limit)
    power = 2 if integrator.has_momentum else 1  # k ~ (hω)², or μhk
    probes = {f: _reading(integrator, reach * f**power) for f in FRACTIONS}
    lines = sampled(integrator, reach)
    lines |= _exactness(integrator, probes, all(_transients(integrator, reach * f**power) for f in FRACTIONS))
    name, plural = ("mass", "masses") if integrator.has_momentum else ("mobility", "mobilities")
    lines["coordinates share no noise"] = _coupled(integrator, reach, np.ones(3), name)
    if has_number(integrator, name):
        lines[f"unequal {plural}"] = _coupled(integrator, reach, UNEQUAL, name)
    lines |= _transport(integrator, transport)
    for fraction, reading in probes.items():
        place = f"{scale} = {_natural(integrator, reach * fraction**power):.3g}"
        x, p = reading.positions, reading.momenta
        lines[f"configurational T/bath at {place}"] = Line(x, 1.0, step_bias=x - 1, passed=None)
        if integrator.has_momentum:
            lines[f"kinetic T/bath at {place}"] = Line(p, 1.0, step_bias=p - 1, passed=None)
    return lines


def reach_of(integrator: Any, limit: float) -> float:
    """The largest stiffness that is looked at."""
    return limit if np.isfinite(limit) else 4.0 * _unit(integrator)


def _unit(integrator: Integrator) -> float:
    """The stiffness at which hω, or μhk, is 1: whatever units the integrator's numbers are in."""
    h = float(integrator.step_size or 1.0)
    return mass_of(integrator) / h**2 if integrator.has_momentum else 1 / (h * float(integrator.mobility or 1.0))


def show_limit(integrator: Integrator, limit: float) -> dict[str, Line]:
    """The limit of stability in natural units."""
    natural = _natural(integrator, limit)
    shown = float(f"{natural:.9g}") if np.isfinite(natural) else "unbounded"
    return {f"stable below {'hω' if integrator.has_momentum else 'μhk'}": Line(shown, "", passed=None)}


def stability(integrator: Integrator) -> float | None:
    """The largest stable stiffness at the integrator's step; None if no small stiffness is stable."""
    stable: Callable[[float], bool] = lambda k: on_mode(integrator, k).radius < 1 + 1e-9  # noqa: E731
    unit = _unit(integrator)
    low = next((unit * part for part in SMALL if stable(unit * part)), None)
    if low is None:
        return None
    high = low
    while stable(high):
        low, high = high, 4 * high
        if high > unit * 1e12:
            return np.inf
    return boundary(stable, low, high, 50)


def _natural(integrator: Integrator, stiffness: float) -> float:
    """A stiffness as hω = h√(k/m), or as μhk = the relative change of x in a step without noise at small k."""
    if not np.isfinite(stiffness):
        return np.inf
    if integrator.has_momentum:
        return float(integrator.step_size) * np.sqrt(stiffness / mass_of(integrator))
    small = 1e-6 * stiffness
    return (1 - on_mode(integrator, small).radius) / small * stiffness


def _reading(integrator: Integrator, stiffness: float) -> Reading:
    step, temperature = on_mode(integrator, stiffness), float(integrator.temperature)
    covariance = step.stationary()[1]
    x = float((step.position @ covariance @ step.position.T)[0, 0])
    if step.momentum is None:
        return Reading(stiffness * x / temperature, np.nan, np.nan)
    mass = mass_of(integrator)
    p = float((step.momentum @ covariance @ step.momentum.T)[0, 0])
    xp = float((step.position @ covariance @ step.momentum.T)[0, 0])
    return Reading(stiffness * x / temperature, p / mass / temperature, xp * np.sqrt(stiffness / mass) / temperature)


def sampled(integrator: Any, reach: float) -> dict[str, Line]:
    """What is sampled as the step goes to 0, at a fixed stiffness and friction; how fast that is approached; and that T
    enters as it should."""
    h = float(integrator.step_size)
    stiffness = reach * (0.2**2 if integrator.has_momentum else 0.2)
    readings: list[Reading] = []
    orders: list[float] = []
    while len(readings) < 16:  # halved until the order has settled
        readings.append(_reading(with_numbers(integrator, step_size=h / 2 ** (2 + len(readings))), stiffness))
        if len(readings) < 3:
            continue
        first, second = (readings[i].positions - readings[i + 1].positions for i in (-3, -2))
        if abs(second) < EXACT:
            break
        orders.append(float(np.log2(first / second)) if first * second > 0 else np.nan)
        if len(orders) > 1 and abs(orders[-1] - orders[-2]) < 0.02:
            break
    declared, order = integrator.stationary_order, orders[-1] if orders else np.nan
    limit = lambda name: _limit(*(getattr(reading, name) for reading in readings[-3:]))  # noqa: E731
    lines = {"T sampled/bath as h → 0": Line(limit("positions"), 1.0, passed=abs(limit("positions") - 1) < RIGHT)}
    if integrator.has_momentum:
        kinetic = limit("momenta")
        lines["momenta sampled/bath as h → 0"] = Line(kinetic, 1.0, passed=abs(kinetic - 1) < RIGHT)
    exact = not orders  # no bias at all, as far as a quadratic energy can tell
    ok = declared is not None and (exact or order > declared - 0.3)
    shown = "none" if declared is None else float(declared)
    # the leading term may be so small, at low friction for one, that the next one still leads at the smallest step
    note = "better here" if declared is not None and order > declared + 0.3 else ""
    lines["stationary order"] = Line("exact here" if exact else order, shown, passed=ok, note=note)
    return lines | {"fluctuations grow like T": _proportional(integrator, reach)}


def _limit(a: float, b: float, c: float) -> float:
    """The limit of values at steps h, h/2 and h/4 whose errors are led by any one power of h (Aitken)."""
    second = (c - b) - (b - a)
    return c if abs(second) < EXACT else c - (c - b) ** 2 / second


def _proportional(integrator: Any, reach: float) -> Line:
    """At four times the temperature the covariance is four times as large: else T enters with a wrong power."""
    hot = with_numbers(integrator, temperature=4 * float(integrator.temperature))
    cold, warm = (_reading(i, reach / 16).positions for i in (integrator, hot))
    ratio = warm / cold if cold > 0 else np.nan  # a scheme that draws no noise does not fluctuate
    return Line(ratio, 1.0, passed=abs(ratio - 1) < EXACT)


def _exactness(integrator: Integrator, probes: dict[float, Reading], transients: bool) -> dict[str, Line]:
    """What is sampled exactly at every probe, against what is declared."""
    near = lambda value, target: all(abs(getattr(r, value) - target) < EXACT for r in probes.values())  # noqa: E731
    found = {"positions": near("positions", 1.0)}
    if integrator.has_momentum:
        found["momenta"] = near("momenta", 1.0)
        found["jointly"] = found["positions"] and found["momenta"] and near("correlation", 0.0)
    found["transients"] = transients
    lines = {}
    for what, holds in found.items():
        declared = what in integrator.exact
        note = "" if holds == declared else "declared, but not so" if declared else "better than declared"
        lines[f"exact for {what}"] = Line("yes" if holds else "no", "yes" if declared else "no",
                                          passed=holds or not declared, note=note)  # fmt: skip
    return lines


def _transients(integrator: Integrator, stiffness: float) -> bool:
    """Whether covariances now, a step and two steps later are those of the continuous dynamics, exp(Gt) Σ, for one mode.

    overdamped: G = -μk, Σ = T/k;    else G = ((0, 1/m), (-k, -γ)), Σ = diag(T/k, mT)
    """
    from scipy.linalg import expm

    step, h, t = on_mode(integrator, stiffness), float(integrator.step_size), float(integrator.temperature)
    if step.momentum is None:
        rate, read = integrator.mobility, step.position
        generator, law = np.array([[-stiffness * float(rate or 1.0)]]), np.array([[t / stiffness]])
    else:
        rate, read, mass = integrator.friction, np.concatenate([step.position, step.momentum]), mass_of(integrator)
        generator = np.array([[0, 1 / mass], [-stiffness, -float(rate or 0.0)]])
        law = np.diag([t / stiffness, mass * t])
    covariance, scale = step.stationary()[1], np.sqrt(np.outer(np.diag(law), np.diag(law)))
    for steps in range(3):
        found = read @ np.linalg.matrix_power(step.drift, steps) @ covariance @ read.T
        if np.abs((found - expm(generator * h * steps) @ law) / scale).max() > EXACT:
            return False
    return True


def _coupled(integrator: Integrator, reach: float, factors: np.ndarray, name: str) -> Line:
    """Three coupled coordinates off centre, at another temperature: they must behave as their normal modes do alone.

    Else noise or force is mixed between coordinates, or a mass or mobility is missing somewhere.
    """
    scale = np.sqrt(1 / factors if name == "mass" else factors)  # the modes are those of scale K scale
    matrix = TURN @ np.diag(PARTS * reach) @ TURN.T / np.outer(scale, scale)
    warm = with_numbers(integrator, temperature=WARM * float(integrator.temperature))
    temperature = float(warm.temperature)
    many = with_numbers(warm, **{name: float(getattr(warm, name) or 1.0) * factors})
    step = linear_map(many, probe(matrix, center=CENTER), jnp.zeros(3))
    mean, covariance = step.stationary()
    alone = [_reading(warm, k) for k in PARTS * reach]
    variances = np.array([r.positions for r in alone]) / (PARTS * reach)
    expected = temperature * TURN @ np.diag(variances) @ TURN.T * np.outer(scale, scale)
    errors = [np.abs(step.position @ mean - CENTER).max()]
    errors.append(_apart(step.position @ covariance @ step.position.T, expected))
    if step.momentum is not None:
        kinetic = temperature * mass_of(warm) * np.array([r.momenta for r in alone])
        expected = TURN @ np.diag(kinetic) @ TURN.T / np.outer(scale, scale)
        errors.append(_apart(step.momentum @ covariance @ step.momentum.T, expected))
    worst = max(errors)
    return Line("yes" if worst < EXACT else f"no ({worst:.2g})", "yes", passed=bool(worst < EXACT))


def _apart(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest departure, relative to the largest entry; infinite where there is nothing to depart from."""
    scale = np.abs(expected).max()
    return float(np.abs(found - expected).max() / scale) if scale > 0 else np.inf


def _transport(integrator: Any, limit: Free | None) -> dict[str, Line]:
    """Diffusion and drift of a free particle: right as h → 0, and how far off at the integrator's own step."""
    own = free(integrator)
    if own is None or limit is None or limit.mobility == 0:
        return {}
    temperature = float(integrator.temperature)
    einstein = limit.diffusion / limit.mobility / temperature
    lines = {"free D/(μT) as h → 0": Line(einstein, 1.0, passed=abs(einstein - 1) < RIGHT)}
    friction, mobility, exact = integrator.friction, integrator.mobility, limit.mobility
    if integrator.has_momentum and friction is not None and float(friction) > 0:
        exact = 1 / (mass_of(integrator) * float(friction))
        ratio = limit.mobility / exact
        lines["mobility × mγ as h → 0"] = Line(ratio, 1.0, passed=abs(ratio - 1) < RIGHT)
    elif not integrator.has_momentum and mobility is not None:
        exact = float(mobility)
        ratio = limit.mobility / exact
        lines["mobility/μ as h → 0"] = Line(ratio, 1.0, passed=abs(ratio - 1) < RIGHT)
    for name, value in (("free diffusion", own.diffusion / temperature), ("drift under a force", own.mobility)):
        lines[f"{name}/exact"] = Line(value / exact, 1.0, step_bias=value / exact - 1, passed=None)
    return lines
