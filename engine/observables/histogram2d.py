"""Histograms of two numbers together."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..protocols import Integrator, Potential
from ..pytree import number, pytree, size_of, static
from .histogram import check_bins, check_range, check_tolerance, outside_flags
from .record import Record
from .statistics import Result, Setting, as_units, jackknife
from .tally import Tally


@dataclass(frozen=True)
class Density2D(Result):
    """What `Histogram2D` measured. edges: (nx + 1,) and (ny + 1,). density, error: ([rungs,] nx, ny), normalised over all
    values, those outside the range included. outside: their fraction. unit, dof, count, flags: as in `Average`.
    """

    edges: tuple[np.ndarray, np.ndarray]
    density: np.ndarray
    error: np.ndarray
    outside: Any
    unit: str
    dof: int
    count: int
    flags: tuple[str, ...]

    def __repr__(self) -> str:
        (x, y), spans = self.edges, " × ".join(f"[{e[0]:.4g}, {e[-1]:.4g}]" for e in self.edges)
        return f"{len(x) - 1} × {len(y) - 1} bins on {spans}, {self.count} values"


@pytree
class Histogram2D(Tally):
    """Joint histogram of a pair of numbers over particles and time; constant memory.

    measure: a function of the position, or one of `observables`, of exactly two numbers. bins: (nx, ny). low, high: the
    range, one number or one for each axis; what falls outside is counted apart. tolerance: the fraction outside from which
    on that is flagged. every, burn_in: as in `Mean`. Its result is a `Density2D`.
    """

    measure: Any = field(kw_only=False)
    bins: tuple[int, int] = static(default=(50, 50))
    low: Any = number()
    high: Any = number()
    every: int = static(default=10)
    burn_in: int = static(default=0)
    tolerance: float = static(default=0.01)

    def __post_init__(self) -> None:
        self._check()
        if not isinstance(self.bins, tuple) or len(self.bins) != 2:
            raise ValueError(f"Histogram2D: bins must be a pair (nx, ny); got {self.bins!r}")
        for bins in self.bins:
            check_bins("Histogram2D", bins)
        check_range("Histogram2D", self.low, self.high, 1)
        check_tolerance("Histogram2D", self.tolerance)

    def check(self, potential: Potential, integrator: Integrator, state: Any) -> None:
        super().check(potential, integrator, state)
        found = size_of(jax.eval_shape(self.measure, potential, integrator, state))
        if found != 2:
            raise ValueError(f"Histogram2D: the measure must give two numbers; it gives {found}")

    @property
    def cells(self) -> int:
        return self.bins[0] * self.bins[1] + 2  # then what is outside, then NaN

    def place(self, values: jax.Array) -> jax.Array:
        low, high = (jnp.broadcast_to(a, 2) for a in (self.low, self.high))
        nx, ny = self.bins
        x, y = (jnp.floor((v - a) * (n / (b - a))) for v, a, b, n in zip(values, low, high, self.bins, strict=True))
        inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
        beside = nx * ny + (jnp.isnan(x) | jnp.isnan(y))
        return jnp.where(inside, x * ny + y, beside)[None]

    def result(self, record: Record, setting: Setting, *, after: int = 0) -> Density2D:
        _, sums = record.after(after)
        if sums is None:
            raise ValueError(f"no observation after step {after}: the run is shorter than its burn-in, or than `every`")
        count = lambda s: s.sum(0, keepdims=True).astype(float)  # noqa: E731
        units = as_units(self.merge, sums, setting.unit)
        estimate = jackknife(self.merge, units, lambda s: s / count(s), count)
        low, high = (np.broadcast_to(np.asarray(a, float), 2) for a in (self.low, self.high))
        edges = tuple(np.linspace(a, b, n + 1) for a, b, n in zip(low, high, self.bins, strict=True))
        area = np.multiply.outer(*(np.diff(e) for e in edges))

        def shaped(share: np.ndarray) -> np.ndarray:
            table = np.moveaxis(share[:-2].reshape(*self.bins, -1), -1, 0) / area
            return table if setting.ladder else table[0]

        missed, nan = estimate.value[-2:]
        return Density2D(
            edges=edges, density=shaped(estimate.value), error=shaped(estimate.error),
            outside=missed if setting.ladder else missed[0], unit=setting.unit, dof=estimate.dof, count=int(sums.sum()),
            flags=outside_flags(missed.max(), nan.max(), self.tolerance),
        )  # fmt: skip
