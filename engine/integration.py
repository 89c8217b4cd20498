"""Thermodynamic integration: free-energy differences, and evidence, from averages along a ladder."""

from dataclasses import dataclass

import numpy as np

from .compare import means
from .marks import Sweep, is_mark
from .measured import temperatures_of
from .observables import EnergyDerivative, Mean
from .observables.statistics import Moments
from .pytree import named_leaves
from .run import Run


@dataclass(frozen=True, repr=False)
class Integration:
    """ln Z along a ladder, relative to its first rung. All arrays are (rungs,).

    parameter: what was swept, and values: its values. log_partition, error: ln Z and its standard error; quadrature: an
    estimate of what the rungs' spacing adds. integrand, integrand_error: d ln Z/dβ = -<U> for temperatures, or
    d ln Z/dλ = -<∂U/∂λ>/T. `difference` is from first to last: between likelihood powers 0 and 1, the log evidence.
    """

    parameter: str
    values: np.ndarray
    log_partition: np.ndarray
    error: np.ndarray
    quadrature: np.ndarray
    integrand: np.ndarray
    integrand_error: np.ndarray

    @property
    def difference(self) -> tuple[float, float]:
        """ln Z of the last rung minus that of the first, and its error, of statistics and quadrature together."""
        return float(self.log_partition[-1]), float(np.hypot(self.error[-1], self.quadrature[-1]))

    def __repr__(self) -> str:
        lines = [
            f"{self.parameter:>16}  {'integrand':>12}  {'error':>8}  {'ln Z':>12}  {'error':>8}  {'quadrature':>10}"
        ]
        columns = (self.values, self.integrand, self.integrand_error, self.log_partition, self.error, self.quadrature)
        for value, slope, spread, total, error, rule in zip(*columns, strict=True):
            lines.append(
                f"{value:>16.6g}  {slope:>12.6g}  {spread:>8.2g}  {total:>12.6g}  {error:>8.2g}  {rule:>10.2g}"
            )
        return "\n".join(lines)

    __str__ = __repr__


def thermodynamic_integration(run: Run, *, after: int | None = None) -> Integration:
    """ln Z along the ladder of a run, by integrating what its average energies say, slopes included.

        temperatures:  Δ ln Z = -∫ <U> dβ,  β = 1/T,  d<U>/dβ = -Var U;  the difference of F/T is minus that
        any number λ of the potential:  Δ ln Z = -∫ <∂U/∂λ>/T dλ,  slope [<∂²U/∂λ²> - Var(∂U/∂λ)/T]/T of the integral's

    The rule is cubic Hermite, h(g₀ + g₁)/2 + h²(g₀' - g₁')/12 an interval, exact for cubic g. Its error h⁵ g⁗/720 is
    estimated from what neighbours' values and slopes say of each rung; with two rungs by the second term itself.

    run: with one `engine.sweep`, of an integrator's temperature or of a number of the potential, in rising or falling
    order. The run must have measured `Mean(potential_energy)` for temperatures, else `Mean(EnergyDerivative(name))`.
    For the evidence of a `Posterior` with normalised prior and likelihood sweep `likelihood_power` from 0 to 1 at T = 1,
    with more rungs near 0. after: the step after which observations count; the second half of the run if not given. The
    bias of the integrator's step is not corrected. Raises ValueError where something else was swept or measured.
    Kirkwood (1935); Gelman and Meng, Statist. Sci. 13, 163 (1998).
    """
    if not isinstance(run, Run):
        raise TypeError(
            f"thermodynamic_integration takes a Run, as engine.simulate returns it; got {type(run).__name__}"
        )
    name, values, thermal = _swept(run)
    after = run.second_half() if after is None else after
    t = temperatures_of(run, after)
    place, mean = _measured(run, name, thermal)
    s = 1 / values if thermal else values
    along, across = _cubic(s)

    def curve(sums: Moments) -> tuple[np.ndarray, np.ndarray]:
        """g = d ln Z/ds and its slope, (1, rung, ...)."""
        average, variance = mean.mean_of(sums), mean.variance_of(sums)
        if thermal:
            return -average, variance
        per = (1 / t).reshape(1, -1, *(1,) * (average.ndim - 2))
        return -average[:1] * per, (variance[:1] * per - average[1:]) * per

    def statistic(sums: Moments) -> np.ndarray:
        g, slope = curve(sums)
        total = np.einsum("oi,ki...->ko...", along, g) + np.einsum("oi,ki...->ko...", across, slope)
        return np.concatenate([total, g, slope])

    _, sums = run.records[place].after(after)
    if sums is None:
        raise ValueError(
            f"no observation after step {after} in a run of {run.step}: run longer, or give an earlier `after`"
        )
    estimate = mean.estimate(statistic, sums, run.settings[place].unit)
    (total, g, slope), (error, g_error, _) = estimate.value, estimate.error
    return Integration(name, values, total, error, _quadrature(s, g, slope), g, g_error)


def _swept(run: Run) -> tuple[str, np.ndarray, bool]:
    """The one number that decides about the equilibrium and was swept: name, values (rungs,), whether it is the bath's."""
    found = [(name, leaf.values) for name, _, leaf in named_leaves(run.potential, is_mark) if isinstance(leaf, Sweep)]
    thermal = isinstance(getattr(run.integrator, "temperature", None), Sweep)
    if thermal:
        found.append(("temperature", run.integrator.temperature.values))
    if len(found) != 1 or np.ndim(found[0][1]) != 1:
        names = [name for name, _ in found]
        raise ValueError(
            "thermodynamic integration needs one engine.sweep, of the temperature or of one number of the potential; got "
            f"sweeps of {names}" if names else "thermodynamic integration needs a ladder: temperature=engine.sweep(values), "
            "or a number of the potential such as likelihood_power=engine.sweep(values); got a run without"
        )  # fmt: skip
    name, values = found[0][0], np.asarray(found[0][1], float)
    steps = np.diff(values)
    if len(values) < 2 or not (np.all(steps > 0) or np.all(steps < 0)):
        raise ValueError(f"{name} must rise or fall from rung to rung, two rungs at least; got {values}")
    return name, values, thermal


def _measured(run: Run, name: str, thermal: bool) -> tuple[int, Mean]:
    """The place of the average that is integrated."""
    for place, _, mean in means(run):
        derivative = isinstance(mean.measure, EnergyDerivative) and mean.measure.parameter == name
        if mean.measure.exact_at == "potential_energy" if thermal else derivative:
            return place, mean
    needed = "potential_energy" if thermal else f'EnergyDerivative("{name}")'
    raise ValueError(
        f"integration over {name} needs observables={{'energy': observables.Mean(observables.{needed})}}; the run has means "
        f"of {[name for _, name, _ in means(run)]}"
    )


def _cubic(s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rule as matrices (rungs, rungs): integrals from the first to each rung, from values and from slopes."""
    n, h = len(s), np.diff(s)
    values, slopes = np.zeros((n, n)), np.zeros((n, n))
    for i in range(n - 1):
        values[i + 1], slopes[i + 1] = values[i], slopes[i]
        values[i + 1, i : i + 2] += h[i] / 2
        slopes[i + 1, i : i + 2] += h[i] ** 2 / 12 * np.array([1, -1])
    return values, slopes


def _quadrature(s: np.ndarray, g: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Size of the rule's error up to each rung: its fourth derivative is what neighbours' cubic misses at a rung."""
    h, n = np.diff(s), len(s)
    if n == 2:
        return np.abs(np.array([0.0, h[0] ** 2 / 12 * (slope[0] - slope[1])]))
    left, right = s[1:-1] - s[:-2], s[2:] - s[1:-1]
    u = left / (left + right)
    cubic = (
        (1 + 2 * u) * (1 - u) ** 2 * g[:-2] + u**2 * (3 - 2 * u) * g[2:]
        + (left + right) * (u * (1 - u) ** 2 * slope[:-2] - u**2 * (1 - u) * slope[2:])
    )  # fmt: skip
    fourth = np.abs(24 * (g[1:-1] - cubic) / (left * right) ** 2)
    worst = np.maximum(np.append(fourth, fourth[-1]), np.insert(fourth, 0, fourth[0]))  # of each interval's ends
    return np.append(0.0, np.cumsum(np.abs(h) ** 5 * worst / 720))
