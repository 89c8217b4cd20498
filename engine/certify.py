"""Is an integrator right? Exact answers on quadratic energies, held against what its class declares."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .checks import check_integrator, check_step
from .linear import LinearMap, NotLinear, Quadratic, linear_map
from .marks import is_mark
from .protocols import Integrator, Noise, Potential
from .pytree import named_leaves, pytree, static
from .verdict import Line, Verdict

RIGHT = 1e-3  # departure of an extrapolated temperature from the bath's that is still no error
EXACT = 1e-9  # relative departure that is still rounding
FRACTIONS = (0.25, 0.5, 0.75)  # of the stability limit in hω, where laws are looked at


class Reading(NamedTuple):
    """The stationary law on one coordinate of stiffness k, against the continuous one; NaN where it has no meaning."""

    positions: float  # k<x²>/T: the configurational temperature over the bath's
    momenta: float  # <p²>/mT: the kinetic temperature over the bath's
    correlation: float  # <xp> √(k/m)/T


def certify(integrator: Integrator) -> Verdict:
    """Certify an integrator by linear algebra on quadratic energies: deterministic, float64, no Monte Carlo.

    Lines: whether a step is linear in state and noise (if not, nothing more can be said exactly); gradients a step as
    counted and as declared; the largest stable step; the temperatures it samples as the step goes to 0; the order of its
    stationary bias; which of positions, momenta, and both jointly, it samples exactly at finite steps; that coordinates
    do not share noise and fluctuations are proportional to T; and, for information, the configurational and kinetic
    temperature at a quarter, half and three quarters of the stability limit. `weak_order` is not judged. `.passed` says
    whether every declaration holds; `.require()` raises if not.

    The integrator's own step size, temperature, friction and mass are used; they must be plain numbers.
    """
    check_integrator(integrator)
    for name, _, leaf in named_leaves(integrator, is_mark):
        if is_mark(leaf) or callable(leaf) or np.size(leaf) != 1:
            raise ValueError(f"certify takes an integrator of plain numbers; {name} is {leaf!r}")
    lines = {"gradients a step": _count(integrator)}
    title = f"certificate of {getattr(integrator, 'scheme', type(integrator).__name__)}: exact, on quadratic energies"
    bath = integrator.temperature is not None and float(integrator.temperature) > 0 and any(integrator.noise)
    title += "" if bath else "; no bath, hence no stationary law"
    try:
        _map(integrator, 1e-3)
        limit = _stability(integrator)
    except NotLinear as error:
        lines["linear"] = Line("no", "yes", passed=False, note=str(error))
        return Verdict(title, lines)
    lines["linear"] = Line("yes", "yes")
    if limit is None:
        lines["stable"] = Line("never", "for small steps", passed=False)
        return Verdict(title, lines)
    scale = "hω" if integrator.has_momentum else "μhk"
    natural = _natural(integrator, limit)
    shown = float(f"{natural:.9g}") if np.isfinite(natural) else "unbounded"
    lines[f"stable below {scale}"] = Line(shown, "", passed=None)
    if not bath:
        return Verdict(title, lines)
    reach = limit if np.isfinite(limit) else 4.0 / float(integrator.step_size) ** 2
    power = 2 if integrator.has_momentum else 1  # k ~ (hω)², or μhk
    probes = {f: _reading(integrator, reach * f**power) for f in FRACTIONS}
    lines |= _temperature_and_order(integrator, reach)
    lines |= _exactness(integrator, probes)
    lines["fluctuations grow like T"] = _proportional(integrator, reach)
    lines["coordinates share no noise"] = _independence(integrator, reach)
    for fraction, reading in probes.items():
        place = f"{scale} = {_natural(integrator, reach * fraction**power):.3g}"
        x, p = reading.positions, reading.momenta
        lines[f"configurational T/bath at {place}"] = Line(x, 1.0, step_bias=x - 1, passed=None)
        if integrator.has_momentum:
            lines[f"kinetic T/bath at {place}"] = Line(p, 1.0, step_bias=p - 1, passed=None)
    return Verdict(title, lines)


def _map(integrator: Integrator, stiffness: float) -> LinearMap:
    return linear_map(integrator, Quadratic(matrix=np.array([[stiffness]])), jnp.zeros(1))


@pytree
class Counting(Potential):
    """A quadratic energy that notes every gradient asked of it while a step is traced."""

    asked: list = static()
    quadratic = True

    def __call__(self, position: Any) -> jax.Array:
        return jnp.sum(position**2) / 2

    def value_and_gradient(self, position: Any) -> Any:
        self.asked.append(1)
        return super().value_and_gradient(position)


def _count(integrator: Integrator) -> Line:
    """Gradients asked for while a step is traced, against the declared number."""
    counting = Counting(asked=[])
    zero = jnp.zeros(1)
    noise = lambda spec: Noise((zero,) * spec.normals, jnp.zeros(spec.scalars), jnp.full(spec.uniforms, 0.5),  # noqa: E731
                               jnp.zeros(spec.words, jnp.uint32))  # fmt: skip
    state = integrator.init(counting, zero, noise(integrator.init_noise))
    counting.asked.clear()
    new = jax.eval_shape(lambda state: integrator.step(counting, state, noise(integrator.noise)), state)
    check_step(integrator, state, new)
    asked = len(counting.asked)
    return Line(float(asked), float(integrator.gradients), passed=asked == integrator.gradients)


def _stability(integrator: Integrator) -> float | None:
    """The largest stable stiffness at the integrator's step; None if no small stiffness is stable."""
    stable: Callable[[float], bool] = lambda k: _map(integrator, k).radius < 1 + 1e-9  # noqa: E731
    unit = 1 / float(integrator.step_size or 1.0) ** 2
    low = unit * 1e-4
    if not stable(low):
        return None
    high = low
    while stable(high):
        low, high = high, 4 * high
        if high > unit * 1e12:
            return np.inf
    for _ in range(50):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if stable(middle) else (low, middle)
    return low


def _natural(integrator: Integrator, stiffness: float) -> float:
    """A stiffness as hω = h√(k/m), or as μhk = the relative change of x in a step without noise at small k."""
    if not np.isfinite(stiffness):
        return np.inf
    if integrator.has_momentum:
        return float(integrator.step_size) * np.sqrt(stiffness / _mass(integrator))
    small = 1e-6 * stiffness
    return (1 - _map(integrator, small).radius) / small * stiffness


def _mass(integrator: Any) -> float:
    """The mass, from the kinetic energy of the momentum that is drawn at temperature 1."""
    integrator = dataclasses.replace(integrator, temperature=1.0)
    with jax.enable_x64(True):
        quadratic = Quadratic(matrix=np.eye(1))
        state = integrator.init(quadratic, jnp.zeros(1), Noise((jnp.ones(1),) * integrator.init_noise.normals))
        p = float(jnp.sum(jnp.asarray(integrator.momentum(state))))
        return p**2 / 2 / float(jnp.asarray(integrator.kinetic_energy(state)))


def _reading(integrator: Integrator, stiffness: float) -> Reading:
    step, temperature = _map(integrator, stiffness), float(integrator.temperature)
    covariance = step.stationary()[1]
    x = float((step.position @ covariance @ step.position.T)[0, 0])
    if step.momentum is None:
        return Reading(stiffness * x / temperature, np.nan, np.nan)
    mass = _mass(integrator)
    p = float((step.momentum @ covariance @ step.momentum.T)[0, 0])
    xp = float((step.position @ covariance @ step.momentum.T)[0, 0])
    return Reading(stiffness * x / temperature, p / mass / temperature, xp * np.sqrt(stiffness / mass) / temperature)


def _temperature_and_order(integrator: Any, reach: float) -> dict[str, Line]:
    """What is sampled as the step goes to 0, at a fixed stiffness and friction; and how fast that is approached."""
    h = float(integrator.step_size)
    stiffness = reach * (0.2**2 if integrator.has_momentum else 0.2)
    readings: list[Reading] = []
    orders: list[float] = []
    while len(readings) < 16:  # halved until the order has settled
        readings.append(_reading(integrator.with_step_size(h / 2 ** (2 + len(readings))), stiffness))
        if len(readings) < 3:
            continue
        first, second = (readings[i].positions - readings[i + 1].positions for i in (-3, -2))
        if abs(second) < EXACT:
            break
        orders.append(float(np.log2(first / second)) if first * second > 0 else np.nan)
        if len(orders) > 1 and abs(orders[-1] - orders[-2]) < 0.02:
            break
    declared, order = integrator.stationary_order, orders[-1] if orders else np.nan
    limit = lambda name: _extrapolated(*(getattr(reading, name) for reading in readings[-3:]))  # noqa: E731
    lines = {"T sampled/bath as h → 0": Line(limit("positions"), 1.0, passed=abs(limit("positions") - 1) < RIGHT)}
    if integrator.has_momentum:
        kinetic = limit("momenta")
        lines["momenta sampled/bath as h → 0"] = Line(kinetic, 1.0, passed=abs(kinetic - 1) < RIGHT)
    exact = not orders  # no bias at all, as far as a quadratic energy can tell
    ok = declared is not None and (exact or abs(order - declared) < 0.3)
    shown = "none" if declared is None else float(declared)
    return lines | {"stationary order": Line("exact here" if exact else order, shown, passed=ok)}


def _extrapolated(coarse: float, middle: float, fine: float) -> float:
    """The limit of values at steps h, h/2 and h/4: positions and momenta may approach theirs at different orders."""
    first, second = middle - coarse, fine - middle
    order = max(1, round(np.log2(first / second))) if first * second > 0 else 1
    return fine + second / (2.0**order - 1)


def _proportional(integrator: Any, reach: float) -> Line:
    """At four times the temperature the covariance is four times as large: else T enters with a wrong power."""
    hot = dataclasses.replace(integrator, temperature=4 * float(integrator.temperature))
    cold, warm = (_reading(i, reach / 16).positions for i in (integrator, hot))
    return Line(warm / cold, 1.0, passed=abs(warm / cold - 1) < EXACT)


def _exactness(integrator: Integrator, probes: dict[float, Reading]) -> dict[str, Line]:
    """What is sampled exactly at every probe, against what is declared."""
    near = lambda value, target: all(abs(getattr(r, value) - target) < EXACT for r in probes.values())  # noqa: E731
    found = {"positions": near("positions", 1.0)}
    if integrator.has_momentum:
        found["momenta"] = near("momenta", 1.0)
        found["jointly"] = found["positions"] and found["momenta"] and near("correlation", 0.0)
    lines = {}
    for what, holds in found.items():
        declared = what in integrator.exact
        note = "" if holds == declared else "declared, but not so" if declared else "better than declared"
        lines[f"exact for {what}"] = Line("yes" if holds else "no", "yes" if declared else "no",
                                          passed=holds or not declared, note=note)  # fmt: skip
    return lines


def _independence(integrator: Integrator, reach: float) -> Line:
    """Two coupled coordinates must behave as their two normal modes do alone: else noise or force is mixed."""
    k = np.array([0.3, 0.1]) * reach
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    step = linear_map(integrator, Quadratic(matrix=turn @ np.diag(k) @ turn.T), jnp.zeros(2))
    together = turn.T @ step.of_position()[1] @ turn
    alone = np.diag([_reading(integrator, k_i).positions * float(integrator.temperature) / k_i for k_i in k])
    worst = float(np.abs(together - alone).max() / np.abs(alone).max())
    return Line("yes" if worst < EXACT else f"no ({worst:.2g})", "yes", passed=worst < EXACT)
