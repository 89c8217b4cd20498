"""Mean, variance and covariance of a measurement over particles and time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..pytree import pytree, static
from .members import join_parts, sum_members, sum_together, sum_with_squares
from .observable import Observable
from .record import Record
from .statistics import (
    Estimate,
    Moments,
    Result,
    Setting,
    as_units,
    jackknife,
    merge_moments,
    nested_r_hat,
    normal_score,
    pool,
    total_moments,
)

TOGETHER = 8  # components that one loop sums
PIVOTS = 8  # members of a group, at most, that say around what it is summed
FALSE_ALARM = 1e-6  # of a flag, for all components of one average together
FEWEST_SAMPLES = 5.0  # independent samples a particle, below which it is called trapped


class History(NamedTuple):
    """The mean over particles as time goes: step (times,), mean and its error with a leading axis of times."""

    steps: np.ndarray
    mean: Any
    error: Any

    def __repr__(self) -> str:
        return f"{len(self.steps)} times, to step {self.steps[-1]}" if len(self.steps) else "nothing"


@dataclass(frozen=True)
class Average(Result):
    """What `Mean` measured; arrays are shaped like the measured value, with a leading axis of rungs in a ladder.

    error: standard error of the mean. variance: of the value over particles and time, and its error; None for ratios.
    covariance: of all pairs of ravelled components (k, k), where asked for. unit, dof: what the errors come from.
    count: values averaged. flags: what no error bar sees. history: the mean in blocks of time. r_hat: nested R̂ of the
    groups of particles, see `nested_r_hat`; None for ratios.
    """

    mean: Any
    error: Any
    variance: Any
    variance_error: Any
    covariance: Any
    unit: str
    dof: int
    count: int
    flags: tuple[str, ...]
    history: History
    r_hat: Any

    def __repr__(self) -> str:
        mean, error = (np.concatenate([np.ravel(a) for a in jax.tree.leaves(t)]) for t in (self.mean, self.error))
        shown = ", ".join(f"{m:.6g} ± {e:.2g}" for m, e in zip(mean[:4], error[:4], strict=True))
        return shown + (f", … ({mean.size} values)" if mean.size > 4 else "")


@pytree
class Mean(Observable):
    """Mean and variance over particles and time, with error bars; constant memory.

    measure: a function of the position, or one of `observables`. every: steps between observations.
    burn_in: steps left out at the beginning. covariance: also the products of all pairs of components.
    Its result is an `Average`.
    """

    measure: Any = field(kw_only=False)
    every: int = static(default=10)
    burn_in: int = static(default=0)
    covariance: bool = static(default=False)
    sums = Moments

    def __post_init__(self) -> None:
        self._check()

    @property
    def alike(self) -> Any:
        return None if self.covariance else Moments

    def part(self, sums: Moments, start: int, stop: int) -> Moments:
        if self.covariance:
            return sums
        return Moments(sums.count, sums.mean[..., start:stop, :, :], sums.squares[..., start:stop, :, :])

    def open(self, memory: Any, valid: jax.Array, group: Callable) -> tuple[jax.Array, jax.Array]:
        """How many values a group has at every observation, and one over how many its pivot is the mean of."""
        del memory
        there = group(valid).astype(jnp.int32)[None]
        return sum_members(there), 1 / jnp.maximum(sum_members(there[..., :PIVOTS, :]), 1)

    def close(self, memory: Any) -> Any:
        del memory
        return ()

    def follow(
        self, parts: tuple, memory: tuple, valid: jax.Array, number: Any, group: Callable
    ) -> tuple[Moments, Any]:
        """The moments of all parts: of few components in one loop, of more each part in a loop of its own."""
        del number
        there, dtype = group(valid), jnp.result_type(*parts)
        count, share = (n.astype(dtype) for n in memory)
        if self.covariance:
            parts = (join_parts(parts),)
        bundles = [[part] for part in parts]
        if not self.covariance and sum(map(len, parts)) <= TOGETHER:
            bundles = [[part[i : i + 1] for part in parts for i in range(len(part))]]
        pivots, sums, squares = [], [], []
        for bundle in bundles:
            values = [group(part.astype(dtype)) for part in bundle]
            # around the mean of some of the values, so that a large mean with a small spread loses no digits
            first = [jnp.where(there[:, :PIVOTS], v[..., :PIVOTS, :], 0) for v in values]
            around = [total * share for total in lax.optimization_barrier(sum_together(first))]
            apart = [jnp.where(there, v - p[..., None, :], 0) for v, p in zip(values, around, strict=True)]
            pivots += around
            if self.covariance:
                sums.append(sum_members(apart[0]))
                deviation = jnp.where(there, apart[0] - (sums[0] / jnp.maximum(count, 1))[..., None, :], 0)
                products = jnp.einsum("irmg,jrmg->ijrg", deviation, deviation)
                squares.append(products.reshape(-1, *products.shape[2:]))
                continue
            found = sum_with_squares(apart)
            sums += found[0]
            # the pivot is within a few standard deviations of the mean: little is lost in the difference
            squares += [jnp.maximum(b - a * a / jnp.maximum(count, 1), 0) for a, b in zip(*found, strict=True)]
        sums, squares = jnp.concatenate(sums), jnp.concatenate(squares)
        shift = sums / jnp.maximum(count, 1)
        return Moments(count, jnp.concatenate(pivots) + shift, squares), memory

    def merge(self, a: Moments, b: Moments) -> Moments:
        return merge_moments(a, b)

    @property
    def closed(self) -> bool:
        return not self.covariance

    def total(self, rows: Moments) -> Moments:
        return total_moments(rows)

    def mean_of(self, sums: Moments) -> np.ndarray:
        """The statistic: the finished mean, (component, ...)."""
        return self.measure.finish(sums.mean)

    def variance_of(self, sums: Moments) -> np.ndarray:
        """The statistic: the variance of each component."""
        return (sums.squares[:: len(sums.mean) + 1] if self.covariance else sums.squares) / sums.count

    def estimate(self, statistic: Any, sums: Moments, unit: str) -> Estimate:
        """Any statistic of the sums, which carry a leading axis of time, with its error."""
        return jackknife(self.merge, as_units(self.merge, sums, unit), statistic, lambda m: m.count)

    def path(self, steps: np.ndarray, sums: Moments, setting: Setting) -> History:
        """The mean at each of the leading times, with the error over particles where they are independent."""
        times, rungs = sums.mean.shape[0], sums.mean.shape[-2]
        # each time is analysed as if it were a rung of its own
        flat = jax.tree.map(lambda a: np.moveaxis(a, 0, 1).reshape(a.shape[1], times * rungs, a.shape[-1]), sums)
        estimate = jackknife(self.merge, flat, self.mean_of, lambda m: m.count)
        mean, error = (a.reshape(-1, times, rungs) for a in (estimate.value, estimate.error))
        error = error if setting.independent else np.full_like(error, np.nan)
        outward = self._outward(setting, sums)
        return History(steps, outward(mean), outward(error))

    def result(self, record: Record, setting: Setting, *, after: int = 0) -> Average:
        steps, sums = record.after(after)
        if sums is None:
            raise ValueError(f"no observation after step {after}: the run is shorter than its burn-in, or than `every`")
        outward = self._outward(setting, sums)
        mean = self.estimate(self.mean_of, sums, setting.unit)
        variance = self.estimate(self.variance_of, sums, setting.unit)
        ratio = len(mean.value) != sums.mean.shape[-3]
        covariance = None
        if self.covariance:
            total = pool(self.merge, as_units(self.merge, sums, "particles"))
            k = sums.mean.shape[-3]
            covariance = np.moveaxis((total.squares / total.count).reshape(k, k, -1), -1, 0)
            covariance = covariance if setting.ladder else covariance[0]
        return Average(
            mean=outward(mean.value),
            error=outward(mean.error),
            variance=None if ratio else outward(variance.value),
            variance_error=None if ratio else outward(variance.error),
            covariance=covariance,
            unit=setting.unit,
            dof=mean.dof,
            count=int(sums.count.sum()),
            flags=self.flags(sums, setting),
            history=self.path(steps, sums, setting),
            r_hat=None if ratio else outward(nested_r_hat(as_units(self.merge, sums, "particles"))),
        )

    def flags(self, sums: Moments, setting: Setting) -> tuple[str, ...]:
        """Drift within the window, and particles that hardly moved: neither shows in an error bar."""
        found = []
        times, components = sums.mean.shape[0], sums.mean.shape[-3]
        limit = -NormalDist().inv_cdf(FALSE_ALARM / 2 / components)
        if times >= 4:
            halves = [
                as_units(self.merge, jax.tree.map(lambda a, s=half: a[s], sums), setting.unit)
                for half in (slice(0, times // 2), slice(times // 2, times))
            ]
            t, dof = self._difference(halves[0], halves[1], setting.unit)
            score = np.abs(normal_score(t, dof))
            if np.nanmax(score, initial=0) > limit:
                found.append(
                    f"drift: the two halves of the window differ by {np.nanmax(score):.1f} standard deviations "
                    "(leave out the beginning: burn_in, or `after`)"
                )
        if setting.unit == "particles" and times >= 8:
            samples = self._samples(as_units(self.merge, sums, "particles"), setting.particles)
            if np.nanmin(samples, initial=np.inf) < FEWEST_SAMPLES:
                found.append(f"trapped or short: {np.nanmin(samples):.1f} independent samples from each particle")
        return tuple(found)

    def _difference(self, first: Moments, second: Moments, unit: str) -> tuple[np.ndarray, int]:
        """Student's t of the change from one half to the other, and its degrees of freedom."""
        with np.errstate(divide="ignore", invalid="ignore"):
            if unit == "particles":  # the same particles twice
                change, n = second.mean - first.mean, first.mean.shape[-1]
                return change.mean(-1) / (change.std(-1, ddof=1) / np.sqrt(n)) if n > 1 else change[
                    ..., 0
                ] * np.nan, n - 1
            n, m = first.mean.shape[-1], second.mean.shape[-1]
            if min(n, m) < 2:
                return first.mean[..., 0] * np.nan, 0
            spread = first.mean.var(-1, ddof=1) / n + second.mean.var(-1, ddof=1) / m
            return (second.mean.mean(-1) - first.mean.mean(-1)) / np.sqrt(spread), min(n, m) - 1

    def _samples(self, groups: Moments, particles: int) -> np.ndarray:
        """Independent samples that a particle gave: variance of its values over variance of its time average."""
        total = pool(self.merge, groups)
        members = groups.count / (groups.count.sum(-1, keepdims=True) / particles)
        n = groups.mean.shape[-1]
        between = np.sum(members * (groups.mean - total.mean[..., None]) ** 2, axis=-1) / (n - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.variance_of(total) / between

    def _outward(self, setting: Setting, sums: Moments) -> Any:
        components = len(self.mean_of(jax.tree.map(lambda a: a[0], sums)))
        return setting.outward if components == sums.mean.shape[-3] else setting.number
