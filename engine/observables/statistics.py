"""Error bars: the jackknife over units that are independent, whatever the statistic of the pooled sums.

Sums carry three trailing axes (component, rung, unit). Units are groups of particles when particles are independent, or
blocks of time of the population when they are not (minibatches shared by all) or too few.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from .record import cut, fold, join, length

FEWEST_PARTICLES = 16  # below, time tells more about the error than particles do
TIME_UNITS = 32  # blocks of time become at most so many units, long against the relaxation


class Result:
    """Base of what an observable returns to the user."""

    flags: tuple[str, ...]  # what no error bar sees


class Setting(NamedTuple):
    """What a result must know of its run."""

    particles: int
    independent: bool  # particles share nothing but the potential
    ladder: bool
    restore: Callable[[np.ndarray], Any]  # a measured value from its ravelled components (..., k)
    since: int = 0  # the step at which it began to be measured
    step_size: float | None = None  # the time of a step, if it is one number

    @property
    def unit(self) -> str:
        return "particles" if self.independent and self.particles >= FEWEST_PARTICLES else "blocks of time"

    def outward(self, array: np.ndarray) -> Any:
        """(component, ..., rung) as the user sees it: rungs only in a ladder, components as the measured value, last."""
        array = np.moveaxis(array if self.ladder else array[..., 0], 0, -1)
        return jax.tree.map(np.asarray, self.restore(array))

    def number(self, array: np.ndarray) -> np.ndarray:
        """The same for one component that is a number."""
        return (array if self.ladder else array[..., 0])[0]


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations (or of products, ravelled): a monoid under `merge_moments`."""

    count: Any  # (1, rung, unit)
    mean: Any  # (k, rung, unit)
    squares: Any  # (k or k², rung, unit)


def merge_moments(a: Moments, b: Moments) -> Moments:
    """Chan, Golub and LeVeque (1979): no cancellation, for any leading axes, on device and host alike."""
    count = a.count + b.count
    weight = b.count / count.clip(1)
    delta = b.mean - a.mean
    k = delta.shape[-3]
    if a.squares.shape[-3] == k:
        product = delta * delta
    else:  # products of all pairs
        outer = delta[..., :, None, :, :] * delta[..., None, :, :, :]
        product = outer.reshape(*delta.shape[:-3], k * k, *delta.shape[-2:])
    squares = a.squares + b.squares
    # in place on the host, which spends its time on memory for what comes in between
    product *= weight * a.count
    squares += product
    delta *= weight
    delta += a.mean
    return Moments(count, delta, squares)


class Estimate(NamedTuple):
    """A value and its standard error, each (component, rung), with the degrees of freedom of the error."""

    value: np.ndarray
    error: np.ndarray
    dof: int


def as_units(merge: Callable, sums: Any, unit: str) -> Any:
    """Sums with a leading axis of time as sums whose last axis is the independent units."""
    if unit == "particles":
        return fold(merge, sums)
    apart = jax.tree.map(lambda a: np.moveaxis(np.moveaxis(a, 0, -1), -2, 0), sums)  # (group, component, rung, time)
    units = fold(merge, apart)
    while (n := jax.tree.leaves(units)[0].shape[-1]) >= TIME_UNITS:
        at = lambda start, stop: jax.tree.map(lambda a: a[..., start:stop:2], units)  # noqa: B023, E731
        rest = jax.tree.map(lambda a: a[..., n - n % 2 :], units)
        pairs = merge(at(0, n - 1), at(1, n))
        units = jax.tree.map(lambda a, b: np.concatenate([a, b], axis=-1), pairs, rest)
    return units


def pool(merge: Callable, units: Any) -> Any:
    """All units merged: (component, rung)."""
    rows = jax.tree.map(lambda a: np.moveaxis(a, -1, 0)[..., None], units)
    return jax.tree.map(lambda a: a[..., 0], fold(merge, rows))


def accumulate(merge: Callable, rows: Any) -> Any:
    """Rows of sums, each with all before it, by doubling (Hillis and Steele 1986)."""
    n, step = length(rows), 1
    while step < n:
        rows, step = join(cut(rows, 0, step), merge(cut(rows, 0, n - step), cut(rows, step, n))), 2 * step
    return rows


@np.errstate(divide="ignore", invalid="ignore")  # a ratio that does not exist is NaN in the result, not a warning
def jackknife(merge: Callable, units: Any, statistic: Callable, count: Callable) -> Estimate:
    """Bias-corrected estimate and error of a statistic of merged units (Busing, Meijer, van der Leeden 1999).

    statistic: sums (component, rung, ...) -> (component', rung, ...). count: sums -> observations, broadcastable to it.
    Units may differ in size. Fewer than two give a NaN error.
    """
    rows = jax.tree.map(lambda a: np.moveaxis(a, -1, 0)[..., None], units)
    n, value = length(rows), statistic(pool(merge, units))
    if n < 2:
        return Estimate(value, np.full(value.shape, np.nan), 0)
    until = accumulate(merge, rows)
    since = cut(accumulate(merge, cut(rows, None, None, -1)), None, None, -1)
    between = merge(cut(until, 0, n - 2), cut(since, 2, n))
    without = join(join(cut(since, 1, 2), between), cut(until, n - 2, n - 1))
    left_out = np.moveaxis(statistic(jax.tree.map(lambda a: np.moveaxis(a[..., 0], 0, -1), without)), -1, 0)
    counts = np.moveaxis(count(units), -1, 0)
    h = counts.sum(0) / np.maximum(counts, 1e-300)
    corrected = n * value - np.sum((1 - 1 / h) * left_out, axis=0)
    pseudo = h * value - (h - 1) * left_out
    error = np.sqrt(np.mean((pseudo - corrected) ** 2 / (h - 1), axis=0))
    return Estimate(corrected, error, n - 1)


def nested_r_hat(groups: Moments) -> np.ndarray:
    """Nested R̂ of each component, (k, rung), of groups of particles as superchains; near 1 where they agree.

        R̂² = 1 + B/W

    B: variance between the groups' means. W: variance of values within a group, between and within its particles
    together. For many short chains: one observation of each suffices. A start that is not forgotten shows only if the
    particles of a group share theirs: particle i is in group i mod 64, so start from
    `jnp.tile(points, (n // 64, 1))`, 64 points. At equilibrium m particles a group give at most 1 + 1/(2m). NaN of fewer
    than two groups. Margossian, Hoffman, Sountsov, Riou-Durand, Vehtari and Gelman, Bayesian Analysis (2024).
    """
    if not isinstance(groups, Moments):
        raise TypeError(
            f"nested_r_hat takes sums of groups, which a Mean's result has done: .r_hat; got {type(groups).__name__}"
        )
    if groups.mean.shape[-1] < 2:
        return np.full(groups.mean.shape[:-1], np.nan)
    k = groups.mean.shape[-3]
    squares = groups.squares if groups.squares.shape[-3] == k else groups.squares[:: k + 1]
    between = groups.mean.var(axis=-1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        within = np.mean(squares / (groups.count - 1), axis=-1)
        return np.sqrt(1 + between / within)


def normal_score(t: Any, dof: int) -> np.ndarray:
    """Student's t as the standard normal deviate of the same tail probability."""
    from scipy import special  # a quarter of a second, which most runs need not pay

    t = np.asarray(t, float)
    if dof < 1:
        return np.full(t.shape, np.nan)
    tail = special.stdtr(dof, -np.abs(t))
    return np.sign(t) * -special.ndtri(np.maximum(tail, 1e-300))
