"""Populations at several temperatures as one: free energies of a ladder, and averages at temperatures between.

One rung is importance reweighting (Ferrenberg and Swendsen 1988); several are WHAM without bins, which is MBAR.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .marks import Sweep, is_mark
from .measured import Measured, snapshot_energies, temperatures_of
from .observables import Recording, Series, potential_energy
from .pytree import check_number, named_leaves
from .run import Run

ENOUGH = 50.0  # particles that a reweighted average, or the overlap of two rungs, must rest on
ITERATIONS = 100
CONVERGED = 1e-10  # of the shares of the samples, relative


class Reweighted(NamedTuple):
    """An average at a temperature that was not simulated: value, standard error, and how many particles it rests on."""

    value: Any
    error: Any
    effective: float


@dataclass(frozen=True, repr=False)
class Multistate:
    """What `mbar` found. temperatures, log_partition, error (rungs,): ln Z relative to the first rung's, and its error.

    covariance: of log_partition, (rungs, rungs). overlap: particles that the rungs below and above each gap share, by
    rising temperature, (rungs - 1,). `average` and `log_partition_at` give what lies between the rungs.
    """

    temperatures: np.ndarray
    log_partition: np.ndarray
    error: np.ndarray
    covariance: np.ndarray
    overlap: np.ndarray
    _samples: "_Samples"

    def average(self, temperature: float, values: Any = None) -> Reweighted:
        """<values> at a temperature, of the energy if none are given; the error is the spread over particles.

        values: shaped like the energies, with axes of their own behind. Raises ValueError, with the effective number of
        particles, where that is too small.
        """
        samples = self._samples
        weight, effective = samples.weigh(temperature)
        v = samples.energies if values is None else np.asarray(values, float)
        if values is not None and v.shape[: len(samples.lead)] != samples.lead:
            raise ValueError(f"values need the leading axes of the energies, {samples.lead}; got shape {v.shape}")
        trailing = () if values is None else v.shape[len(samples.lead) :]
        v = v.reshape(len(weight), -1)
        mean = weight @ v
        pull = weight[:, None] * (v - mean)
        error = np.sqrt(np.diag(samples.covariance(pull, pull.T @ samples.shares)))
        return Reweighted(mean.reshape(trailing)[()], error.reshape(trailing)[()], effective)

    def log_partition_at(self, temperature: float) -> Measured:
        """ln Z at a temperature relative to the first rung's. Raises ValueError as `average` does."""
        samples = self._samples
        weight, effective = samples.weigh(temperature)
        error = np.sqrt(samples.covariance(weight[:, None], weight[None] @ samples.shares)[0, 0])
        return Measured(samples.log_partition(temperature), float(error), f"{effective:.0f} particles in effect")

    def __repr__(self) -> str:
        rows = zip(self.temperatures, self.log_partition, self.error, strict=True)
        return "\n".join(
            ["ln Z of a ladder", *(f"  T = {t:<10.6g} {value:12.6g} ± {error:.2g}" for t, value, error in rows)]
        )


class _Samples(NamedTuple):
    """Samples of all rungs in one list, (times, rungs, n) ravelled, and what they tell of the rungs' ln Z."""

    energies: np.ndarray  # (samples,)
    shape: tuple[int, int, int]  # times, rungs, particles
    lead: tuple[int, ...]  # of the energies as given
    log_mixture: np.ndarray  # of each sample: ln Σⱼ Nⱼ exp(-U/Tⱼ)/Zⱼ
    shares: np.ndarray  # (samples, rungs): the probability of having come from a rung
    influence: np.ndarray  # of each sample on ln Nⱼ/Zⱼ, (samples, rungs)

    def log_partition(self, temperature: float) -> float:
        return float(_log_sum(-self.energies / temperature - self.log_mixture))

    def weigh(self, temperature: float) -> tuple[np.ndarray, float]:
        """Weights (samples,) of sum 1 at a temperature, and how many particles they rest on; raises if too few."""
        if not np.ndim(temperature) == 0 or not np.isfinite(temperature) or temperature <= 0:
            raise ValueError(f"temperature must be one positive number; got {temperature!r}")
        weight = np.exp(-self.energies / temperature - self.log_mixture - self.log_partition(temperature))
        effective = float(1 / np.sum(weight.reshape(self.shape).sum(0) ** 2))
        if effective < ENOUGH:
            raise ValueError(
                f"temperature {temperature:g} is too far from what was simulated: the average would rest on "
                f"{effective:.3g} of {self.shape[1] * self.shape[2]} particles, and {ENOUGH:g} are needed"
            )
        return weight, effective

    def covariance(self, direct: np.ndarray, pull: np.ndarray) -> np.ndarray:
        """Of k estimates, from the samples' influence: directly (samples, k), and through the rungs' ln Z (k, rungs).

        Influences are added up over a particle's times, and over particles of one number: rungs may share their noise.
        """
        influence = (direct - self.influence @ pull.T).reshape(*self.shape, -1).sum(0)
        particles = (influence - influence.mean(1, keepdims=True)).sum(0)
        n = len(particles)
        return particles.T @ particles * n / (n - 1)


def mbar(energies: Any, temperatures: Any = None, *, after: int | None = None) -> Multistate:
    """Free energies of all rungs of a ladder of temperatures at once, and averages at any temperature between.

        Zₖ = Σₙ exp(-Uₙ/Tₖ) / Σⱼ Nⱼ exp(-Uₙ/Tⱼ)/Zⱼ,    n over the samples of all rungs

    energies: a ladder `Run`, of which a `Series` of the potential energy counts if there is one, else the particles as
    they are now; or an array (rungs, n) or (times, rungs, n), with temperatures (rungs,). after: the step of a run after
    which recordings count; the second half if not given. Errors are those of independent particles, correlated in time as
    they may be, by linear response of the equations. Raises ValueError where neighbours share fewer than 50 particles.
    Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008); bins as in WHAM would only add bias.
    """
    if isinstance(energies, Run):
        if temperatures is not None:
            raise ValueError("a run knows its temperatures: mbar(run), or mbar(energies, temperatures)")
        if any(isinstance(leaf, Sweep) for _, _, leaf in named_leaves(energies.potential, is_mark)):
            raise ValueError(
                "mbar takes a ladder of temperatures on one energy; here a number of the potential is swept: use "
                "thermodynamic_integration"
            )
        after = energies.second_half() if after is None else after
        u, t = _recorded(energies, after), temperatures_of(energies, after)
        u = u if len(u) > 1 else u[0]
    else:
        for name, value in (("energies", energies), ("temperatures", temperatures)):
            check_number(name, "", value)
        u, t = np.asarray(energies, float), np.atleast_1d(np.asarray(temperatures, float))
    lead = u.shape
    if u.ndim not in (2, 3) or t.shape != u.shape[-2:-1] or not np.all(np.isfinite(u)):
        raise ValueError(
            "mbar takes finite energies (rungs, n) or (times, rungs, n) and temperatures (rungs,); got shapes "
            f"{u.shape} and {t.shape}"
        )
    if not np.all(t > 0) or len(set(t)) < len(t):
        raise ValueError(f"temperatures must be positive and differ; got {t}")
    return _solve(u.reshape(-1, *u.shape[-2:]), t, lead)


def reweight(energies: Any, values: Any = None, *, to: float, temperature: float | None = None) -> Reweighted:
    """An average at a neighbouring temperature, from a population at another.

        <v> = Σ wₙ vₙ / Σ wₙ,    wₙ = exp(-(1/T' - 1/T) Uₙ)

    energies: a `Run` without a ladder (as for `mbar`), or an array (n,) or (times, n) of independent particles with their
    `temperature` T. values: v, of the same leading axes; the energy if not given. to: T'. The error is the spread over
    particles. Raises ValueError, with the number, where fewer than 50 particles would carry the average, and from 2 T on,
    where the weights have no variance under any energy without an upper bound, and an error bar would mean nothing.
    """
    check_number("to", "positive", to)
    if isinstance(energies, Run):
        if energies.ladder:
            raise ValueError("reweight takes one temperature; a ladder is for mbar(run).average(temperature, values)")
        after = energies.second_half()
        temperature = float(temperatures_of(energies, after)[0])
        energies = _recorded(energies, after)[:, 0]
        energies = energies if len(energies) > 1 else energies[0]
    u = np.asarray(energies, float)
    if temperature is None or not np.isfinite(temperature) or temperature <= 0:
        raise ValueError(f"temperature must be the positive one at which the energies were found; got {temperature!r}")
    if u.ndim not in (1, 2) or not np.all(np.isfinite(u)):
        raise ValueError(f"reweight takes finite energies (n,) or (times, n); got shape {u.shape}")
    if to >= 2 * temperature:
        raise ValueError(
            f"to must be below twice the temperature {temperature:g}; got {to:g}: the weights would have no variance. Use "
            "a ladder of temperatures and mbar"
        )
    return _solve(u.reshape(-1, 1, u.shape[-1]), np.array([float(temperature)]), u.shape).average(to, values)


def _recorded(run: Run, after: int) -> np.ndarray:
    """Potential energies (times, rungs, n): a series of them, or the particles as they are."""
    for (_, observable), (_, result) in zip(run.named_observables(), run.named_results(after), strict=True):
        if isinstance(observable, Series) and observable.measure is potential_energy and isinstance(result, Recording):
            values = np.asarray(result.values, float)
            return values if run.ladder else values[:, None]
    return snapshot_energies(run)[None]


def _solve(energies: np.ndarray, temperatures: np.ndarray, lead: tuple[int, ...]) -> Multistate:
    """Newton's method on the convex function whose minimum the equations describe."""
    times, rungs, n = energies.shape
    if n < ENOUGH:
        raise ValueError(f"at least {ENOUGH:g} independent particles are needed for weights and their errors; got {n}")
    flat, count = energies.ravel(), float(times * n)
    reduced = flat[:, None] / temperatures  # (samples, rungs)

    def evaluate(g: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        log_mixture = _log_sum(g - reduced)
        return float(np.sum(log_mixture) - count * g.sum()), log_mixture, np.exp(g - reduced - log_mixture[:, None])

    beta, mean = 1 / temperatures, energies.mean((0, 2))
    slopes = np.diff(beta) * (mean[1:] + mean[:-1]) / 2
    g = np.log(count) + np.append(0.0, np.cumsum(slopes))  # ln Nⱼ/Zⱼ; the trapezoid rule is near
    best, log_mixture, shares = evaluate(g)
    for _ in range(ITERATIONS):
        excess = shares.sum(0) - count
        if np.max(np.abs(excess)) <= CONVERGED * count:
            break
        hessian = np.diag(shares.sum(0)) - shares.T @ shares
        move = np.append(0.0, np.linalg.lstsq(hessian[1:, 1:], -excess[1:])[0])
        trial = evaluate(g + move)
        while trial[0] > best + 1e-12 * abs(best):  # far from the minimum a whole step may lead too far
            move = move / 2
            trial = evaluate(g + move)
        g, (best, log_mixture, shares) = g + move, trial
    order = np.argsort(temperatures)
    below = np.cumsum(shares[:, order], axis=1)[:, :-1]
    overlap = np.sum(below * (1 - below), axis=0) / times
    if np.any(overlap < ENOUGH):
        gap = int(np.argmin(overlap))
        low, high = temperatures[order][gap : gap + 2]
        raise ValueError(
            f"temperatures {low:g} and {high:g} share {overlap[gap]:.3g} particles, and {ENOUGH:g} are needed: put rungs "
            "between them, or take more particles"
        )
    hessian = np.diag(shares.sum(0)) - shares.T @ shares
    came_from = np.broadcast_to(np.arange(rungs)[None, :, None], energies.shape).ravel()
    score = (np.eye(rungs)[came_from] - shares)[:, 1:]
    influence = np.hstack([np.zeros((len(flat), 1)), np.linalg.solve(hessian[1:, 1:], score.T).T])
    samples = _Samples(flat, (times, rungs, n), lead, log_mixture, shares, influence)
    covariance = samples.covariance(np.zeros((len(flat), rungs)), np.eye(rungs))
    log_partition = np.log(count) - g
    return Multistate(temperatures, log_partition, np.sqrt(np.diag(covariance)), covariance, overlap, samples)


def _log_sum(a: np.ndarray) -> np.ndarray:
    """ln Σ exp along the last axis."""
    most = a.max(-1, keepdims=True)
    return np.log(np.sum(np.exp(a - most), axis=-1)) + most[..., 0]
