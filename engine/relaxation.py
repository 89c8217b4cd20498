"""Relaxation: how fast a population forgets where it began, as the divergence from equilibrium and its decay."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .checks import check_steps
from .compare import realised
from .divergence import need_particles, wasserstein
from .reference import Moments, Reference, equilibrium_of, phase, reference_of
from .run import Run
from .simulate import simulate

GROUPS = 16  # of particles, left out one by one for the error of the rate
SIGNIFICANT = 5.0  # errors above zero, that a divergence must be to enter the fit
LINEAR = 0.1  # below, a divergence is a square of the slowest modes
FINE = 1024  # bins of the quantiles


@dataclass(frozen=True)
class Relaxation:
    """How a population relaxed. steps, times, kl, error: (records,), kl being the divergence from `reference`.

    floor: the error of kl that a population in equilibrium has. rate, rate_error: of kl's decay, from the records in
    `window` (first and last time), to be held against twice the spectral gap; NaN where too few stand out of the noise.
    wasserstein, wasserstein_error: W₂ of positions in one dimension, else None; wasserstein_floor is its size in
    equilibrium. estimator: how kl was estimated.
    """

    steps: np.ndarray
    times: np.ndarray
    kl: np.ndarray
    error: np.ndarray
    floor: float
    rate: float
    rate_error: float
    window: tuple[float, float]
    wasserstein: np.ndarray | None
    wasserstein_error: np.ndarray | None
    wasserstein_floor: float | None
    estimator: str
    reference: str

    def __str__(self) -> str:
        lines = [f"divergence from the {self.reference}, by {self.estimator}"]
        lines += [
            f"{'step':>10}  {'time':>10}  {'KL':>10}  {'error':>8}" + ("" if self.wasserstein is None else "  W2")
        ]
        for i, (step, time, kl, error) in enumerate(zip(self.steps, self.times, self.kl, self.error, strict=True)):
            distance = "" if self.wasserstein is None else f"  {self.wasserstein[i]:.4g}"
            lines.append(f"{step:>10,}  {time:>10.4g}  {kl:>10.4g}  {error:>8.2g}{distance}")
        fitted = (
            f"from times {self.window[0]:.4g} to {self.window[1]:.4g}" if np.isfinite(self.rate) else "too few records"
        )
        return "\n".join([*lines, f"floor {self.floor:.2g}; rate {self.rate:.4g} ± {self.rate_error:.2g} ({fitted})"])

    __repr__ = __str__


def relaxation(
    potential: Callable,
    integrator: Any,
    positions: Any,
    *,
    steps: int,
    every: int,
    key: Any = 0,
    reference: str = "equilibrium",
) -> Relaxation:
    """Divergence of a population from its equilibrium as a function of time, with errors, and the rate of its decay.

    potential: a `Solvable` landscape. integrator, positions, key: as for `simulate`. steps: how many; every: between two
    records, the first of which is the start. reference: "equilibrium", the Gibbs state, or "scheme", for quadratic
    energies and linear schemes, the scheme's own stationary law at its step. With momenta, which start in equilibrium,
    the law is that of positions and momenta together: its divergence never increases, that of positions alone may.

    KL is estimated from means and covariances for quadratic energies (populations are taken for normal), from a
    histogram against exact probabilities where positions and momenta have one or two coordinates in all, and else by
    nearest neighbours; all but the last are lower bounds. A start at one point is infinitely far, and a histogram, which
    sees only the bin, says a finite -ln of its probability. What the scheme adds is not taken off: on a quadratic energy
    Euler and Maruyama's rates are 1 + rate·h/2 times as fast.
    The rate is that of a straight line through log KL, weighted, over the records below 0.1 that are five errors above
    zero; its error is a jackknife over groups of particles, since records of one population are not independent.

    Raises ValueError where there is no equilibrium, or too few particles, with the number needed.
    """
    steps, every = check_steps(steps), check_steps(every)
    if not 1 <= every <= steps:
        raise ValueError(f"every must be from 1 to steps = {steps}; got {every}")
    if reference not in ("equilibrium", "scheme"):
        raise ValueError(f"reference must be 'equilibrium' or 'scheme'; got {reference!r}")
    run = simulate(potential, integrator, positions, steps=0, key=key, observables=(), progress=False)
    if run.ladder:
        raise ValueError("relaxation takes one population: call it for each value of a sweep")
    need_particles(run.particles, 4 * GROUPS, f"the error of a rate, from {GROUPS} groups,")
    plain, scheme = realised(run, 0, 0, steps)
    law = reference_of(run, plain, scheme, reference, 0)
    quantiles = _quantiles(law, run, plain, scheme)
    records, parts, distances = [], [], []
    for step in range(0, steps + 1, every):
        run = simulate(run, steps=every, progress=False) if step else run
        z = phase(run)
        records.append((run.step, float(run.time), *law.divergence(z)))
        group = np.arange(len(z)) % GROUPS
        parts.append([law.divergence(z[group != g]).value for g in range(GROUPS)])
        if quantiles is not None:
            distances.append(wasserstein(z[:, 0], quantiles))
    at, times, kl, error, floors = (np.array(column) for column in zip(*records, strict=True))
    rate, rate_error, window = _decay(times, kl, error, np.array(parts))
    w = [np.array(column) for column in zip(*distances, strict=True)] if distances else [None, None, None]
    return Relaxation(
        steps=at.astype(int), times=times, kl=kl, error=error, floor=float(floors[0]), rate=rate, rate_error=rate_error,
        window=window, wasserstein=w[0], wasserstein_error=w[1],
        wasserstein_floor=None if w[2] is None else float(w[2][0]), estimator=law.estimator, reference=law.name,
    )  # fmt: skip


def _decay(times: np.ndarray, kl: np.ndarray, error: np.ndarray, parts: np.ndarray) -> tuple:
    """Rate, its error, and the window of a straight line through log KL, late and above the noise."""
    seen = (kl > SIGNIFICANT * error) & np.all(parts > 0, axis=1)
    late = np.flatnonzero(kl < LINEAR)
    first = late[0] if len(late) else len(kl)
    last = first + (np.argmin(np.append(seen[first:], False)))  # up to the first that does not stand out
    if last - first < 3:
        return np.nan, np.nan, (np.nan, np.nan)
    t, weight = times[first:last], (kl[first:last] / error[first:last]) ** 2
    t = t - np.average(t, weights=weight)
    slope = lambda values: -(weight * t) @ np.log(values[first:last]) / (weight @ t**2)  # noqa: E731
    left_out = np.array([slope(column) for column in parts.T])
    spread = np.sqrt((GROUPS - 1) / GROUPS * np.sum((left_out - left_out.mean()) ** 2))
    return float(slope(kl)), float(spread), (float(times[first]), float(times[last - 1]))


def _quantiles(law: Reference, run: Run, potential: Any, integrator: Any) -> np.ndarray | None:
    """Quantiles of the position's law at (i + ½)/n, in one dimension on a line."""
    from scipy.special import ndtri

    state = equilibrium_of(run, potential, integrator)
    if state.dimension != 1 or potential.period is not None:
        return None
    u = (np.arange(run.particles) + 0.5) / run.particles
    if isinstance(law, Moments):
        return law.law.mean[0] + np.sqrt(law.law.covariance[0, 0]) * ndtri(u)
    far = 8 * np.sqrt(state.covariance[0, 0])
    grid = np.linspace(state.mean[0] - far, state.mean[0] + far, FINE + 1)
    below = np.append(0.0, np.cumsum(state.bin_probabilities(grid)))
    return np.interp(u, below / below[-1], grid)
