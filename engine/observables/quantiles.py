"""Quantiles of a measurement, from a fine histogram."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ..pytree import pytree, static
from .histogram import BESIDE, Histogram
from .record import Record
from .statistics import Result, Setting, as_units, jackknife, pool


@dataclass(frozen=True)
class Quantile(Result):
    """What `Quantiles` measured. probabilities: (q,). values, errors: ([rungs,] value's shape, q); NaN where a quantile is
    outside the range. resolution: the width of a bin. unit, dof, count, flags: as in `Average`.
    """

    probabilities: np.ndarray
    values: Any
    errors: Any
    resolution: float
    unit: str
    dof: int
    count: int
    flags: tuple[str, ...]

    def __repr__(self) -> str:
        values, errors = (
            np.concatenate([a.reshape(-1, a.shape[-1]) for a in jax.tree.leaves(t)])[0]
            for t in (self.values, self.errors)
        )
        triples = zip(self.probabilities, values, errors, strict=True)
        return ", ".join(f"{p:g}: {v:.4g} ± {e:.2g}" for p, v, e in triples)


@pytree
class Quantiles(Histogram):
    """Quantiles over particles and time, one set for each component of the measurement; constant memory.

    measure, every, burn_in, tolerance: as in `Histogram`. probabilities: of the quantiles, between 0 and 1. They are read,
    by linear interpolation, from a histogram of `bins` bins between low and high: the resolution is a bin, of width
    (high - low)/bins, within which the density is taken as even. A quantile outside the range is flagged. The error is that
    of the cumulative fraction at the quantile (jackknife), carried over by the measured quantiles either side of it
    (Woodruff 1952). The counts of a long run are up to 128 blocks of time × 64 groups × bins: 64 MiB a component.
    Its result is a `Quantile`.
    """

    bins: int = static(default=1024)
    probabilities: tuple[float, ...] = static(default=(0.05, 0.25, 0.5, 0.75, 0.95))

    def __post_init__(self) -> None:
        Histogram.__post_init__(self)
        if not isinstance(self.probabilities, tuple) or not self.probabilities:
            raise ValueError(f"Quantiles: probabilities must be a tuple of numbers; got {self.probabilities!r}")
        if not all(isinstance(p, float) and 0 < p < 1 for p in self.probabilities):
            raise ValueError(f"Quantiles: probabilities must lie between 0 and 1; got {self.probabilities}")

    def result(self, record: Record, setting: Setting, *, after: int = 0) -> Any:
        density = super().result(record, setting, after=after)
        _, sums = record.after(after)
        units = as_units(self.merge, sums, setting.unit).astype(float)
        bins, edges = self.bins + BESIDE, density.edges
        k = len(units) // bins
        wanted = np.asarray(self.probabilities)

        def cumulative(s: np.ndarray) -> np.ndarray:
            """The fraction below each edge: (k, edges, rung, ...)."""
            s = s.reshape(k, bins, *s.shape[1:])[:, :-1]  # without NaN
            return s[:, :-1].cumsum(1) / s.sum(1, keepdims=True)

        below = cumulative(pool(self.merge, units))
        read = lambda p, i, r: np.interp(p, below[i, :, r], edges)  # noqa: E731
        values, errors = (np.full((k, below.shape[2], len(wanted)), np.nan) for _ in range(2))
        for i, r in np.ndindex(k, below.shape[2]):
            inside = (wanted >= below[i, 0, r]) & (wanted <= below[i, -1, r])
            values[i, r, inside] = read(wanted[inside], i, r)
        # the fractions below the quantiles, by the share of a bin on their left
        safe = np.nan_to_num((values - edges[0]) / np.diff(edges)[0])
        bin_of = np.clip(safe.astype(int), 0, self.bins - 1)
        part = np.clip(safe - bin_of, 0, 1)

        def fraction(s: np.ndarray) -> np.ndarray:
            f, ahead = cumulative(s), (None,) * (s.ndim - 2)
            take = lambda at: np.take_along_axis(f, np.moveaxis(at, 1, 2)[(..., *ahead)], axis=1)  # noqa: E731
            left = np.moveaxis(part, 1, 2)[(..., *ahead)]
            found = take(bin_of) * (1 - left) + take(bin_of + 1) * left
            return found.reshape(-1, *found.shape[2:])  # (k × q, rung, ...)

        observed = lambda s: s[:bins].sum(0, keepdims=True)  # noqa: E731
        estimate = jackknife(self.merge, units, fraction, observed)
        spread = np.moveaxis(estimate.error.reshape(k, len(wanted), -1), 1, 2)
        for i, r in np.ndindex(k, below.shape[2]):
            errors[i, r] = (read(wanted + spread[i, r], i, r) - read(wanted - spread[i, r], i, r)) / 2
        errors[np.isnan(values)] = np.nan
        flags = density.flags
        if np.isnan(values).any():
            lost = ", ".join(f"{p:g}" for p in wanted[np.isnan(values).any(axis=(0, 1))])
            flags = (*flags, f"quantiles outside the range [{edges[0]:.4g}, {edges[-1]:.4g}]: {lost}")

        def shaped(array: np.ndarray) -> Any:
            tree = setting.restore(np.moveaxis(array, 0, -1))  # (rung, q, value)
            tree = jax.tree.map(lambda a: np.moveaxis(a, 1, -1), tree)
            return tree if setting.ladder else jax.tree.map(lambda a: a[0], tree)

        return Quantile(
            probabilities=wanted, values=shaped(values), errors=shaped(errors), resolution=float(np.diff(edges)[0]),
            unit=setting.unit, dof=estimate.dof, count=density.count, flags=flags,
        )  # fmt: skip
