"""Nonlinear landscapes in one coordinate, by transfer matrices: stationary bias and its order, order at fixed times."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..protocols import Integrator, Potential
from ..pytree import number, pytree, static
from ..transfer import NoTransfer, stationary_averages
from ..verdict import Line
from .scheme import Free, mass_of, with_numbers
from .structure import silent

ORDER = 0.15  # departure of a fitted order from the declared one that is still no error
# relative accuracy of averages: of verdicts, of tables that were asked for, and that is taken at worst
ACCURACY, FINEST, ACCEPT = 1e-8, 1e-9, 3e-5
SEEN = 30.0  # errors above zero, that a bias must be to enter the fit
ROUNDING = 1e-7  # of averages in natural units that are 0
LATER = 4
HALVINGS = 3  # more steps where the leading term does not lead yet

SHAPES: dict[str, Callable] = {
    "2 log cosh x": lambda x: 2 * (jnp.logaddexp(x, -x) - np.log(2)),
    "(x² - 1)²": lambda x: (x * x - 1) ** 2,
    "x²/2 + x⁴/4": lambda x: x**2 / 2 + x**4 / 4,
    "-2 cos x": lambda x: -2 * jnp.cos(x),
    "x²/2 + cos 3x": lambda x: x**2 / 2 + jnp.cos(3 * x),
}
VARIANTS = {  # shape, constant force, γ in natural units: a force that no energy on the circle has, and a heavy bath
    "-2 cos x, pushed by 1": ("-2 cos x", 1.0, 1.0),
    "-2 cos x at γ = 5": ("-2 cos x", 0.0, 5.0),
}
LEADS = {  # natural steps at which the leading term of the bias leads, overdamped and with momenta
    "2 log cosh x": ((0.2, 0.1, 0.05), (0.4, 0.2, 0.1)),
    "-2 cos x": ((0.2, 0.1, 0.05), (0.4, 0.2, 0.1)),
}
WELL = {"(x² - 1)²": ((0.02, 0.01), (0.2, 0.1))}  # moderate steps, for information


@pytree
class Landscape(Potential):
    """energy × shape(x/length), summed over coordinates; on the circle a force may push, as no energy can."""

    shape: str = static()
    energy: Any = number("positive", default=1.0)
    length: Any = number("positive", default=1.0)
    force: Any = number(default=0.0)

    def __call__(self, position: Any) -> jax.Array:
        return self.energy * jnp.sum(SHAPES[self.shape](position / self.length))

    def value_and_gradient(self, position: Any) -> Any:
        value, gradient = super().value_and_gradient(position)
        return value, gradient - self.force

    @property
    def period(self) -> Any:
        return 2 * np.pi * self.length if self.shape == "-2 cos x" else None


class Table(NamedTuple):
    """Averages at several steps in natural units, T = μ = 1 or T = m = γ = 1: rows are steps, columns are `names`."""

    names: tuple[str, ...]
    steps: np.ndarray  # (steps,)
    values: np.ndarray  # (steps, names)
    exact: np.ndarray  # (names,): without bias
    error: np.ndarray  # (steps,) relative, of the values
    rates: np.ndarray  # (steps,) of relaxation, in natural units; NaN with momenta
    later: np.ndarray  # (steps, names) at time `LATER` × the first step, from x = 1

    @property
    def bias(self) -> np.ndarray:
        """(steps, names)."""
        return self.values - self.exact

    def order(self, of: int) -> float | None:
        """The order of the bias of one column at the smallest steps that show one; None where none is seen."""
        scale = np.abs(self.exact[of])
        bias, seen = self.bias[:, of], SEEN * self.error * scale + ROUNDING * (scale < ROUNDING)
        last = np.flatnonzero(np.abs(bias) > seen)
        return _slope(*bias[last[-2:]]) if len(last) > 1 else None

    @property
    def weak_order(self) -> float:
        """The order of averages at the fixed time, from the two last of its differences between steps."""
        change = np.abs(np.diff(self.later[:, :2], axis=0)).sum(axis=1)
        return _slope(change[-2], change[-1])


def _slope(coarse: Any, fine: Any) -> float:
    return float(np.log2(coarse / fine)) if coarse * fine > 0 else np.nan


def _measured(potential: Any, integrator: Any, state: Any) -> jax.Array:
    """The landscape's two functions of x, and the kinetic temperature over the bath's."""
    x = state.position[0] / potential.length
    angles = potential.shape == "-2 cos x"
    values = [jnp.cos(x), jnp.sin(x)] if angles else [x * x, x]
    if integrator.has_momentum:
        values.append(2 * integrator.kinetic_energy(state) / potential.energy)
    return jnp.stack(values)


def table(
    integrator: Any, shape: str, steps: Any, limit: Free, *, accuracy: float = ACCURACY, more: Callable | None = None
) -> Table:
    """Stationary averages on a landscape at several natural steps, in units in which T and the transport are 1.

    shape: of `SHAPES` or `VARIANTS`. limit: the scheme's transport at small steps, which sets the units. more: called with
    the table so far, asks for a step half as large. Raises `NoTransfer`.
    """
    temperature = float(integrator.temperature)
    shape, force, friction = VARIANTS.get(shape, (shape, 0.0, 1.0))
    if integrator.has_momentum:
        if not (limit.friction > 0 and np.isfinite(limit.friction)):
            raise NoTransfer("the units of its landscapes come from a friction, and none is known")
        time = friction / limit.friction
        length = time * np.sqrt(temperature / mass_of(integrator))
    else:
        time = float(integrator.step_size) / 0.2
        length = np.sqrt(limit.mobility * temperature * time)
    if not (length > 0 and np.isfinite(length)):
        raise NoTransfer("the units of its landscapes come from its mobility, and no force moves it")
    names = (("cos x", "sin x") if shape == "-2 cos x" else ("x²", "x")) + ("p²/mT",) * integrator.has_momentum
    mean, deviation, exact = _exact(shape)
    exact = np.append(exact * (np.nan if force else 1), [1.0] * integrator.has_momentum)
    landscape = Landscape(
        shape=shape, energy=temperature, length=float(length), force=float(force * temperature / length)
    )
    steps, rows = list(steps), []
    for step in steps:  # which may grow
        try:
            found = stationary_averages(
                with_numbers(integrator, step_size=step * time), landscape, _measured, mean=mean * length,
                deviation=deviation * length, accuracy=accuracy, accept=ACCEPT,
            )  # fmt: skip
        except np.linalg.LinAlgError as error:
            raise NoTransfer(f"{type(integrator).__name__} leads out of the finite numbers on {shape}") from error
        rate = np.nan if integrator.has_momentum else -np.log(found.radius) / step
        rows.append((found.values, found.error, rate, found.after(float(length), round(LATER * steps[0] / step))))
        values, error, rates, later = (np.array(column) for column in zip(*rows, strict=True))
        so_far = Table(names, np.array(steps[: len(rows)]), values, exact, error, rates, later)
        if len(rows) == len(steps) and (more is None or not more(so_far)):
            return so_far
        if len(rows) == len(steps):
            steps.append(step / 2)
    raise ValueError("a table needs at least one step")


def _exact(shape: str) -> tuple[float, float, np.ndarray]:
    """Mean, deviation, and averages of the two functions in the Gibbs state at T = 1, by the trapezoid rule."""
    wide = np.linspace(-30, 30, 60_001) if shape != "-2 cos x" else np.linspace(-np.pi, np.pi, 2001)[1:]
    with jax.enable_x64(True):
        energy = np.asarray(SHAPES[shape](wide))
    weight = np.exp(energy.min() - energy)
    average = lambda f: float(np.sum(weight * f) / np.sum(weight))  # noqa: E731
    mean = average(wide)
    functions = (np.cos(wide), np.sin(wide)) if shape == "-2 cos x" else (wide**2, wide)
    return mean, np.sqrt(average(wide**2) - mean**2), np.array([average(f) for f in functions])


def refusal(integrator: Integrator) -> str:
    """What an integrator says that takes no energies but quadratic ones; nothing from others."""
    zero = jnp.zeros(integrator.least_coordinates)
    try:
        jax.eval_shape(integrator.init, Landscape(shape="-2 cos x"), zero, silent(integrator.init_noise, zero))
    except ValueError as error:
        return str(error)
    return ""


def on_landscapes(integrator: Integrator, limit: Free, asked: dict | None) -> tuple[dict[str, Line], dict[str, Table]]:
    """Lines and tables, or the tables asked for; raises `NoTransfer` for a scheme that a transfer matrix cannot take."""
    if said := refusal(integrator):
        raise NoTransfer(said)
    if asked is not None:
        return {}, {shape: table(integrator, shape, steps, limit, accuracy=FINEST) for shape, steps in asked.items()}
    declared, weak = integrator.stationary_order, integrator.weak_order
    lines, tables = {}, {}
    refused: NoTransfer | None = None
    for shape, choices in LEADS.items():
        steps, name = choices[integrator.has_momentum], f"stationary order on {shape}"
        shown = "none" if declared is None else float(declared)

        def more(found: Table, first: int = len(steps), fixed: bool = shape == "-2 cos x") -> bool:
            off = _off(found.order(0), declared) or (fixed and _off(found.weak_order, weak))
            return len(found.steps) < first + HALVINGS and off

        try:
            found = tables[shape] = table(integrator, shape, steps, limit, more=more)
        except NoTransfer as error:
            refused, lines[name] = error, Line("unknown", shown, passed=None, note=str(error))
            continue
        order = found.order(0)
        right = declared is not None and not _off(order, declared)
        lines[name] = Line("exact here" if order is None else order, shown, passed=right)
        lines[f"<{found.names[1]}> on {shape}"] = _centred(found, declared)
    if refused is not None and not tables:
        raise refused
    if weak is not None and "-2 cos x" in tables:
        measured = tables["-2 cos x"].weak_order
        note = "better here" if measured > weak + ORDER else ""
        lines["weak order at a fixed time"] = Line(measured, float(weak), passed=measured > weak - ORDER, note=note)
    for shape, choices in WELL.items():
        try:
            found = tables[shape] = table(integrator, shape, choices[integrator.has_momentum], limit)
        except NoTransfer:
            continue  # steps run away from a quartic wall: no law, and no fault
        for step, bias in zip(found.steps, found.bias[:, 0], strict=True):
            exact = float(found.exact[0])
            lines[f"<x²> on {shape} at h = {step:g}"] = Line(exact + bias, exact, step_bias=bias, passed=None)
    return lines, tables


def _centred(found: Table, declared: float | None) -> Line:
    """The odd average of a symmetric landscape: 0, or as small as the declared order makes it.

    The even ones cannot see a law that leans to one side: to first order its error there is 0.
    """
    order, value = found.order(1), float(found.bias[-1, 1])
    falls = order is None or (declared is not None and order > declared - ORDER)
    return Line(0.0 if order is None else value, 0.0, passed=falls)


def _off(order: float | None, declared: float | None) -> bool:
    """Whether a fitted order is not the declared one; no visible bias is any order."""
    if order is None or declared is None:
        return False
    return not abs(order - declared) < ORDER
