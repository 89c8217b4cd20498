"""How far particles get in a time: the mean squared displacement and the diffusion coefficient."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..pytree import pytree, static
from .lags import Lagged
from .measurements import position
from .members import sum_members
from .record import Record
from .statistics import Estimate, Result, Setting, jackknife


@dataclass(frozen=True)
class Displacement(Result):
    """What `MeanSquaredDisplacement` measured; a leading axis of lags, then of rungs in a ladder.

    steps: the lags (lags,) in steps. lags: in time; in steps where the step size is no one number. squared, error:
    ⟨|x(t) - x(0)|²⟩, all components together. drift: ⟨x(t) - x(0)⟩, shaped like the measured value. diffusion,
    diffusion_error: (⟨|x(t) - x(0)|²⟩ - |⟨x(t) - x(0)⟩|²)/(2dt), which tends to D where particles are free.
    unit, dof, count: as in `Average`; count is the pairs at the shortest lag.
    """

    steps: np.ndarray
    lags: np.ndarray
    squared: np.ndarray
    error: np.ndarray
    drift: Any
    diffusion: np.ndarray
    diffusion_error: np.ndarray
    unit: str
    dof: int
    count: int
    flags: tuple[str, ...] = ()

    def __repr__(self) -> str:
        pairs = zip(np.ravel(self.diffusion[-1:]), np.ravel(self.diffusion_error[-1:]), strict=True)
        last = ", ".join(f"{d:.4g} ± {e:.2g}" for d, e in pairs)
        return f"{len(self.lags)} lags, to {self.lags[-1]:.4g}; diffusion at the last {last}"


@pytree
class MeanSquaredDisplacement(Lagged):
    """⟨|x(t) - x(0)|²⟩ against the lag t over many decades, from every origin; constant memory.

    measure: a function of the position, or one of `observables`; the position by default, which the engine never wraps:
    for an angle it is the distance on the unrolled line. every, burn_in: as in `Mean`. points, levels: the shortest lag
    is `every` steps, `points` of them lie evenly, the longest is every·(points - 1)·2^(levels - 1); each particle's last
    points × levels values are remembered. Where errors come from blocks of time, only lags that nearly every block
    has seen are there. Its result is a `Displacement`, or None where it has no pairs to compare.
    """

    measure: Any = field(kw_only=False, default=position)
    every: int = static(default=10)
    burn_in: int = static(default=0)
    levels: int = static(default=8)
    points: int = static(default=16)

    def __post_init__(self) -> None:
        self._check_lags()

    def prepare(self, last: jax.Array, note: Any, valid: jax.Array) -> tuple:
        del note
        weight = jnp.broadcast_to(valid, last.shape).astype(last.dtype)
        return last, weight, sum_members(weight)

    def pair(self, first: jax.Array, notes: Any, last: tuple) -> jax.Array:
        del notes
        new, weight, count = last
        way = (new - first) * weight
        sums = sum_members(way), sum_members(way * way)
        return jnp.stack([jnp.broadcast_to(count, sums[0].shape), *sums], axis=1)  # (lag, 3, k, rung, group)

    def merge(self, a: Any, b: Any) -> Any:
        return a + b

    def result(self, record: Record, setting: Setting, *, after: int = 0) -> Displacement | None:
        steps, units = self.units(record, setting, after, lambda sums: sums[:, 0, :1])
        if len(steps) < 2:
            return None  # no pairs to compare
        steps, units = steps[1:], units[1:]  # at lag 0 nothing has moved
        time = steps * (setting.step_size or 1)
        d = units.shape[2]
        count = lambda s: s[:, 0, :1]  # noqa: E731
        squared = lambda s: (s[:, 2] / s[:, 0]).sum(1, keepdims=True)  # noqa: E731

        def diffusion(s: np.ndarray) -> np.ndarray:
            spread = squared(s) - ((s[:, 1] / s[:, 0]) ** 2).sum(1, keepdims=True)
            return spread / (2 * d * time.reshape(-1, *[1] * (spread.ndim - 1)))

        estimate = lambda statistic: jackknife(self.merge, units, statistic, count)  # noqa: E731
        number = lambda a: a[:, 0] if setting.ladder else a[:, 0, 0]  # noqa: E731
        far, coefficient = estimate(squared), estimate(diffusion)
        drift: Estimate = estimate(lambda s: s[:, 1] / s[:, 0])
        return Displacement(
            steps=steps,
            lags=time,
            squared=number(far.value),
            error=number(far.error),
            drift=setting.outward(np.moveaxis(drift.value, 1, 0)),
            diffusion=number(coefficient.value),
            diffusion_error=number(coefficient.error),
            unit=setting.unit,
            dof=far.dof,
            count=int(units[0, 0, 0].sum()),
        )
