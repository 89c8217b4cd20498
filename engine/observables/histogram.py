"""Histograms of a measurement over particles and time."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..pytree import number, pytree, static
from .record import Record
from .statistics import Result, Setting, as_units, jackknife
from .tally import Tally

BESIDE = 3  # counts beside the bins: one before them for what is below, and after them for what is above and for NaN


@dataclass(frozen=True)
class Density(Result):
    """What `Histogram` measured. edges: (bins + 1,). density, error: ([rungs,] value's shape, bins), normalised over all
    values, those outside the range included. outside: the fraction below and above, (..., 2). unit, flags: as in
    `Average`.
    """

    edges: np.ndarray
    density: Any
    error: Any
    outside: Any
    unit: str
    dof: int
    count: int
    flags: tuple[str, ...]

    @property
    def centers(self) -> np.ndarray:
        """Middles of the bins, (bins,)."""
        return (self.edges[1:] + self.edges[:-1]) / 2

    def __repr__(self) -> str:
        low, high = self.edges[0], self.edges[-1]
        return f"{len(self.edges) - 1} bins on [{low:.4g}, {high:.4g}], {self.count} values"


@pytree
class Histogram(Tally):
    """Histogram over particles and time, one for each component of the measurement; constant memory.

    measure: a function of the position, or one of `observables`. bins: how many. low, high: the range; what falls
    outside is counted apart. tolerance: the fraction outside from which on that is flagged. every, burn_in: as in `Mean`.
    Its result is a `Density`.
    """

    measure: Any = field(kw_only=False)
    bins: int = static(default=50)
    low: Any = number()
    high: Any = number()
    every: int = static(default=10)
    burn_in: int = static(default=0)
    tolerance: float = static(default=0.01)

    def __post_init__(self) -> None:
        self._check()
        name = type(self).__name__
        check_bins(name, self.bins)
        check_range(name, self.low, self.high)
        check_tolerance(name, self.tolerance)

    @property
    def cells(self) -> int:
        return self.bins + BESIDE

    def place(self, values: jax.Array) -> jax.Array:
        place = jnp.floor((values - self.low) * (self.bins / (self.high - self.low)))
        # comparisons that are false for NaN: `clip` would mind it twice
        within = jnp.where(place < self.bins, jnp.where(place > -1, place, -1), self.bins)
        return jnp.where(jnp.isnan(place), self.bins + 1, within) + 1

    def result(self, record: Record, setting: Setting, *, after: int = 0) -> Density:
        _, sums = record.after(after)
        if sums is None:
            raise ValueError(f"no observation after step {after}: the run is shorter than its burn-in, or than `every`")
        bins = self.cells
        k = sums.shape[1] // bins
        # every component has seen the same number of values: that of its first k-th of the bins
        count = lambda s: s[:bins].sum(0, keepdims=True).astype(float)  # noqa: E731
        units = as_units(self.merge, sums, setting.unit)
        estimate = jackknife(self.merge, units, lambda s: s / count(s), count)
        edges = np.linspace(float(self.low), float(self.high), self.bins + 1)

        def shaped(array: np.ndarray) -> Any:
            tree = setting.restore(np.moveaxis(array.reshape(k, bins, -1), 0, -1).swapaxes(0, 1))  # (rung, bin, value)
            tree = jax.tree.map(lambda a: np.moveaxis(a, 1, -1), tree)
            return tree if setting.ladder else jax.tree.map(lambda a: a[0], tree)

        share, error = shaped(estimate.value), shaped(estimate.error)
        below, *_, above, nan = estimate.value.reshape(k, bins, -1).swapaxes(0, 1)
        return Density(
            edges=edges,
            density=jax.tree.map(lambda a: a[..., 1:-2] / np.diff(edges), share),
            error=jax.tree.map(lambda a: a[..., 1:-2] / np.diff(edges), error),
            outside=jax.tree.map(lambda a: a[..., [0, -2]], share),
            unit=setting.unit,
            dof=estimate.dof,
            count=int(sums.sum()) // k,
            flags=outside_flags((below + above).max(), nan.max(), self.tolerance),
        )


def outside_flags(missed: float, nan: float, tolerance: float) -> tuple[str, ...]:
    """The flags of a histogram that missed a fraction of the values, and of values that are no numbers."""
    flags = (f"{missed:.2%} of the values lie outside the range: widen low and high",) if missed > tolerance else ()
    return (*flags, f"{nan:.3g} of the values are not a number (NaN)") if nan > 0 else flags


def check_bins(name: str, bins: Any) -> None:
    """A positive count."""
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise ValueError(f"{name}: bins must be a positive integer; got {bins!r}")


def check_range(name: str, low: Any, high: Any, most: int = 0) -> None:
    """low < high, as far as they are numbers already, with at most so many axes."""
    for end in (low, high):
        if isinstance(end, np.ndarray | jax.Array | list | tuple) and np.ndim(end) > most:
            what = "one number or two" if most else "one number"
            raise ValueError(f"{name}: low and high must be {what}; got {end}")
    plain = all(isinstance(a, int | float | np.ndarray | jax.Array) and not isinstance(a, Tracer) for a in (low, high))
    if plain and not np.all(np.asarray(low) < np.asarray(high)):
        raise ValueError(f"{name}: low must be below high; got {low} and {high}")


def check_tolerance(name: str, tolerance: Any) -> None:
    """A fraction."""
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance <= 1:
        raise ValueError(f"{name}: tolerance must be a fraction from 0 to 1; got {tolerance!r}")
