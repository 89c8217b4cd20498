"""Mean, variance and covariance of a measurement over particles and time."""

import math
from collections.abc import Callable, Sequence
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
)

TOGETHER = 8  # components that one loop sums
PIVOTS = 8  # members of a group, at most, that say around what it is summed
FALSE_ALARM = 1e-6  # of a flag, for all components of one average together
FEWEST_SAMPLES = 5.0  # independent samples a particle, below which it is called trapped


class Running(NamedTuple):
    """A row of sums while particles and times are added: around a pivot, so that a large mean with a small spread loses no
    digits. Differences from it are summed as they come, as they have a relative error of 10⁻⁷ in float32 and their sums
    hardly more. On the device its arrays lie one below the other, but for the count, which the host knows.
    """

    count: Any  # (1, rung, group), whole numbers
    pivot: Any  # (k, rung, group): the mean of some of the first values
    sums: Any  # of differences from the pivot
    squares: Any  # of their squares, (k, rung, group), or of their products, (k², rung, group)


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
    continued = True
    sums = Moments

    def __post_init__(self) -> None:
        self._check()

    @property
    def alike(self) -> Any:
        return None if self.covariance else Moments

    def part(self, sums: Any, start: int, stop: int) -> Any:
        """Of `Moments`, or of a row."""
        count, *rest = sums
        return sums if self.covariance else type(sums)(count, *(leaf[..., start:stop, :, :] for leaf in rest))

    def open(self, memory: Any, valid: jax.Array, group: Callable) -> jax.Array:
        """One over how many values the pivot of a group is the mean of."""
        del memory
        return 1 / jnp.maximum(sum_members(group(valid)[None, ..., :PIVOTS, :].astype(jnp.int32)), 1)

    def close(self, memory: Any) -> Any:
        del memory
        return ()

    def follow(self, parts: tuple, memory: Any, valid: jax.Array, number: Any, group: Callable) -> tuple[tuple, Any]:
        """The values, and who is there: they are summed around the pivot of the row that they are added to."""
        del number
        return ((join_parts(parts),) if self.covariance else parts, group(valid)), memory

    def row(self, found: tuple, memory: jax.Array, nth: Any, group: Callable) -> jax.Array:
        del nth
        return self.extend(self.restart(found, memory, group), found, memory, group)

    def restart(self, found: tuple, memory: jax.Array, group: Callable) -> jax.Array:
        (parts, there), share, pivots = found, memory, []
        for bundle in self._bundles(parts):
            first = [jnp.where(there[:, :PIVOTS], group(part)[..., :PIVOTS, :], 0) for part in bundle]
            pivots += [total * share.astype(total.dtype) for total in sum_together(first)]
        k, *shape = (sum(map(len, pivots)), *pivots[0].shape[1:])
        return jnp.concatenate([*pivots, jnp.zeros((k + (k * k if self.covariance else k), *shape), pivots[0].dtype)])

    def extend(self, row: jax.Array, found: tuple, memory: jax.Array, group: Callable) -> jax.Array:
        (parts, there), sums, squares, start = found, [], [], 0
        for bundle in self._bundles(parts):
            apart = []
            for part in bundle:
                pivot = row[start : start + len(part), :, None]
                apart.append(jnp.where(there, group(part) - pivot, 0))
                start += len(part)
            if self.covariance:
                products = jnp.einsum("irmg,jrmg->ijrg", apart[0], apart[0])
                sums.append(sum_members(apart[0]))
                squares.append(products.reshape(-1, *products.shape[2:]))
            else:
                found_sums, found_squares = sum_with_squares(apart)
                sums += found_sums
                squares += found_squares
        return lax.dynamic_update_slice_in_dim(row, row[start:] + jnp.concatenate([*sums, *squares]), start, 0)

    def pack(self, rows: Sequence[Running]) -> np.ndarray:
        return np.concatenate([leaf for kind in zip(*(row[1:] for row in rows), strict=True) for leaf in kind], axis=-3)

    def unpack(self, row: Any, count: Any) -> Running:
        size = row.shape[-3]
        k = math.isqrt(size + 1) - 1 if self.covariance else size // 3
        return Running(count, row[..., :k, :, :], row[..., k : 2 * k, :, :], row[..., 2 * k :, :, :])

    def _bundles(self, parts: tuple) -> list[list[jax.Array]]:
        """What is summed in one loop, in float32 at least: few components together, of more each part."""
        dtype = jnp.result_type(jnp.float32, *parts)
        parts = tuple(part.astype(dtype) for part in parts)
        if self.covariance or sum(map(len, parts)) > TOGETHER:
            return [[part] for part in parts]
        return [[part[i : i + 1] for part in parts for i in range(len(part))]]

    @np.errstate(invalid="ignore", over="ignore")  # values that are not finite are the user's
    def settle(self, row: Running) -> Moments:
        k, shift = row.sums.shape[-3], row.sums / row.count.clip(1)
        if not self.covariance:
            # the pivot is within a few standard deviations of the mean: little is lost in the difference
            return Moments(row.count, row.pivot + shift, (row.squares - row.sums * shift).clip(0))
        products = row.sums[..., :, None, :, :] * shift[..., None, :, :, :]
        squares = row.squares - products.reshape(row.squares.shape)
        least = np.where(np.eye(k, dtype=bool), 0, -np.inf).reshape(-1, 1, 1)
        return Moments(row.count, row.pivot + shift, squares.clip(least.astype(squares.dtype)))

    def begin(self, sums: Moments, parts: int) -> Running:
        return Running(sums.count, sums.mean, 0 * sums.mean, sums.squares / parts)

    def merge(self, a: Moments, b: Moments) -> Moments:
        return merge_moments(a, b)

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
