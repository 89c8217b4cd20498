"""Correlations in time: how long a measurement remembers, and the transport coefficients that follow."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..pytree import pytree, static
from .lags import Lagged
from .members import sum_members
from .record import Record
from .statistics import Result, Setting, jackknife

WINDOW = 5  # an integral over lags ends where they are longer than so many integrals of |ρ|


class Comoments(NamedTuple):
    """Of pairs (a, b): count, both means, and the sum of products of deviations."""

    count: Any  # (..., 1, rung, unit)
    first: Any  # (..., k, rung, unit)
    last: Any
    product: Any


@dataclass(frozen=True)
class Correlation(Result):
    """What `Autocorrelation` measured of a(t); leading axes of lags, then of rungs in a ladder, then the value's shape.

    steps: the lags (lags,) in steps. lags: in time; in steps where the step size is no one number. covariance:
    C(t) = ⟨a(0)a(t)⟩ - ⟨a(0)⟩⟨a(t)⟩; correlation: C(t)/C(0); each with its error. mean: ⟨a⟩.

    Without lags: integral, ∫C dt from 0 to the window, and integrated_time, 2∫C dt/C(0): so long do particles take to
    give an independent sample; (1 + ρ)/(1 - ρ) observations where C is proportional to ρⁿ. By the trapezoidal rule over
    the lags up to a window, the first lag longer than five times 2∫|C|dt/C(0) up to it (Sokal's rule, with a modulus for
    oscillations). The errors are for that window and do not know what lies beyond. effective_samples: observations of all
    particles over the integrated time in observations; infinite where that is not positive.
    unit, dof, count, flags: as in `Average`; count at lag 0.
    """

    steps: np.ndarray
    lags: np.ndarray
    mean: Any
    covariance: Any
    covariance_error: Any
    correlation: Any
    correlation_error: Any
    integral: Any
    integral_error: Any
    integrated_time: Any
    integrated_time_error: Any
    effective_samples: Any
    unit: str
    dof: int
    count: int
    flags: tuple[str, ...]

    def __repr__(self) -> str:
        time, error = (
            np.concatenate([np.ravel(a) for a in jax.tree.leaves(t)])
            for t in (self.integrated_time, self.integrated_time_error)
        )
        shown = ", ".join(f"{t:.4g} ± {e:.2g}" for t, e in zip(time[:4], error[:4], strict=True))
        return f"{len(self.lags)} lags, to {self.lags[-1]:.4g}; integrated time {shown}{', …' * (time.size > 4)}"


@pytree
class Autocorrelation(Lagged):
    """⟨a(0)a(t)⟩ of a measurement against the lag t over many decades, and its integrated time; constant memory.

    measure: a function of the position, or one of `observables`. every, burn_in: as in `Mean`. points, levels: the
    shortest lag is `every` steps, `points` of them lie evenly, the longest is every·(points - 1)·2^(levels - 1); each
    particle's last points × levels values are remembered, in the precision of the state. Deviations are from the mean over
    particles and time. Where errors come from blocks of time, only lags that nearly every block has seen are
    there. Its result is a `Correlation`.
    """

    measure: Any = field(kw_only=False)
    every: int = static(default=10)
    burn_in: int = static(default=0)
    levels: int = static(default=8)
    points: int = static(default=16)
    sums = Comoments

    def __post_init__(self) -> None:
        self._check_lags()

    def note(self, values: jax.Array, valid: jax.Array) -> jax.Array:
        """The mean over members."""
        weight = valid.astype(values.dtype)
        # around one of the values, so that a large mean with a small spread loses no digits
        pivot = values[..., 0, :]
        return pivot + sum_members((values - pivot[..., None, :]) * weight) / jnp.maximum(sum_members(weight), 1)

    def prepare(self, last: jax.Array, note: jax.Array, valid: jax.Array) -> tuple:
        weight = valid.astype(last.dtype)[None]
        return sum_members(weight), note, (last - note[..., None, :]) * weight

    def pair(self, first: jax.Array, notes: jax.Array, last: tuple) -> Comoments:
        count, mean, deviation = last
        # the deviations' sum is zero, so any mean will do for the first; with the last's no digits are lost
        product = sum_members((first - mean[..., None, :]) * deviation)
        return Comoments(count[None], notes, mean[None], product)

    def merge(self, a: Comoments, b: Comoments) -> Comoments:
        count = a.count + b.count
        weight = b.count / count.clip(1)
        first, last = b.first - a.first, b.last - a.last
        # in place where arrays are numpy's: on the host memory is what this costs
        product = first * last
        product *= weight * a.count
        product += a.product
        product += b.product
        first *= weight
        first += a.first
        last *= weight
        last += a.last
        return Comoments(count, first, last, product)

    def result(self, record: Record, setting: Setting, *, after: int = 0) -> Correlation:
        steps, units = self.units(record, setting, after, lambda sums: sums.count)
        time = steps * (setting.step_size or 1)
        covariance = lambda s: s.product / s.count  # noqa: E731
        correlation = lambda s: covariance(s) / covariance(s)[:1]  # noqa: E731
        count = lambda s: s.count  # noqa: E731
        estimate = lambda statistic: jackknife(self.merge, units, statistic, count)  # noqa: E731
        c, rho = estimate(covariance), estimate(correlation)
        weights, short = _window(time, rho.value)
        # over the lags, not one a lag: their observations are those at lag 0
        whole = lambda statistic: jackknife(self.merge, units, statistic, lambda s: s.count[0])  # noqa: E731
        along = lambda a: np.einsum("lkr,lkr...->kr...", weights, a)  # noqa: E731
        integral = whole(lambda s: along(covariance(s)))
        twice = whole(lambda s: 2 * along(correlation(s)))
        mean = whole(lambda s: s.last[0])
        observations = units.count[0].sum(axis=-1)  # (1, rung)
        spacing = self.every * (setting.step_size or 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            samples = np.where(twice.value > 0, observations * spacing / twice.value, np.inf)
        flags = ()
        if short.any():
            advice = "more levels" if steps[-1] == self.lags()[-1] * self.every else "a longer run"
            flags = (f"correlated beyond the longest lag, {time[-1]:.4g}: the integrals are too small ({advice})",)
        over = lambda a: setting.outward(np.moveaxis(a, 1, 0))  # noqa: E731
        out = setting.outward
        return Correlation(
            steps=steps, lags=time, mean=out(mean.value), covariance=over(c.value), covariance_error=over(c.error),
            correlation=over(rho.value), correlation_error=over(rho.error), integral=out(integral.value),
            integral_error=out(integral.error), integrated_time=out(twice.value),
            integrated_time_error=out(twice.error), effective_samples=out(samples), unit=setting.unit, dof=c.dof,
            count=int(units.count[0].sum()), flags=flags,
        )  # fmt: skip


def _window(time: np.ndarray, rho: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (lags, k, rung) of the trapezoidal rule up to the window of each component, and where none was found."""
    gaps = np.diff(time)[:, None, None]
    modulus = np.abs(rho)
    so_far = np.cumsum(gaps * (modulus[1:] + modulus[:-1]), axis=0)
    # a correlation that vanishes at the first lag has an integral of one gap
    beyond = time[1:, None, None] >= WINDOW * so_far
    inside = np.cumsum(beyond, axis=0) - beyond == 0  # gaps up to the first that reaches the window
    weights = np.zeros_like(rho)
    weights[1:] += gaps * inside / 2
    weights[:-1] += gaps * inside / 2
    return weights, np.asarray(~beyond.any(axis=0))


def green_kubo(correlation: Correlation, *, mass: float = 1.0) -> tuple[Any, Any]:
    """The diffusion coefficient of each coordinate and its error, from the `Autocorrelation` of the momentum.

        D = ∫ ⟨v(0)v(t)⟩ dt,   v = p/m

    with the mean velocity taken off; up to the window of the correlation. Of order (every·h)² in the spacing of lags: a
    free particle under an exact O part gives D·(x/2)coth(x/2), x = γ·every·h. Green (1954), Kubo (1957).
    """
    if not isinstance(correlation, Correlation):
        raise TypeError(f"green_kubo takes what Autocorrelation measured; got {type(correlation).__name__}")
    if not np.all(np.asarray(mass) > 0):
        raise ValueError(f"mass must be positive; got {mass!r}")
    scale = lambda tree: jax.tree.map(lambda a: a / np.square(mass), tree)  # noqa: E731
    return scale(correlation.integral), scale(correlation.integral_error)
