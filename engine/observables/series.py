"""Recordings: what is kept for every recorded step. The only observables whose memory grows with the run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..protocols import Integrator, Potential
from ..pytree import pytree, static
from .mean import History, Mean
from .members import sum_members
from .observable import Observable
from .record import Record
from .statistics import Setting


@dataclass(frozen=True)
class Recording:
    """What `Series` recorded of every particle. steps: (times,). values: (times, [rungs,] n, ...)."""

    steps: np.ndarray
    values: Any
    ladder: bool = False

    def __repr__(self) -> str:
        shapes = [np.shape(leaf) for leaf in jax.tree.leaves(self.values)]
        return f"{len(self.steps)} recordings of shape {shapes[0] if len(shapes) == 1 else shapes}"


@pytree
class Series(Observable):
    """Every particle's value every k steps, or, given a `Mean`, the population's mean and error at every k-th step.

    measure: a function of the position, one of `observables`, or a `Mean`. every, burn_in: steps.
    Its result is a `Recording`, or a `History` for a mean.
    """

    measure: Any = field(kw_only=False)
    every: int = static(default=10)
    burn_in: int = static(default=0)
    keeps_time = True

    def __post_init__(self) -> None:
        self._check(of_observables=True)
        if isinstance(self.measure, Observable) and not isinstance(self.measure, Mean):
            raise TypeError(f"Series records a measurement or a Mean; got {type(self.measure).__name__}")
        if isinstance(self.measure, Mean) and (self.measure.every, self.measure.burn_in) != (Mean.every, Mean.burn_in):
            raise ValueError(
                "a Mean in a Series is taken when the Series records: give `every` and `burn_in` to the Series"
            )

    @property
    def keeps_particles(self) -> bool:
        return not isinstance(self.measure, Mean)

    @property
    def sums(self) -> type | None:
        return self.measure.sums if isinstance(self.measure, Mean) else None

    @property
    def alike(self) -> Any:
        return self.measure.alike if isinstance(self.measure, Mean) else "particles"

    def part(self, sums: Any, start: int, stop: int) -> Any:
        return self.measure.part(sums, start, stop) if isinstance(self.measure, Mean) else sums[..., start:stop]

    def values(self, potential: Potential, integrator: Integrator, state: Any) -> tuple[jax.Array, ...]:
        if isinstance(self.measure, Mean):
            return self.measure.values(potential, integrator, state)
        return super().values(potential, integrator, state)

    def open(self, memory: Any, valid: jax.Array, group: Callable) -> Any:
        if not isinstance(self.measure, Mean):
            return memory
        return sum_members(group(valid)[None].astype(jnp.int32)), self.measure.open(memory, valid, group)

    def close(self, memory: Any) -> Any:
        return self.measure.close(memory) if isinstance(self.measure, Mean) else memory

    def follow(self, parts: tuple, memory: Any, valid: jax.Array, number: Any, group: Callable) -> tuple[Any, Any]:
        return self.measure.follow(parts, memory, valid, number, group)  # of a Mean: else values are kept as they are

    def row(self, found: Any, memory: Any, nth: Any, group: Callable) -> Any:
        if not isinstance(self.measure, Mean):
            return found
        count, opened = memory
        return self.measure.settle(self.measure.unpack(self.measure.row(found, opened, nth, group), count))

    def merge(self, a: Any, b: Any) -> Any:
        return self.measure.merge(a, b)

    def result(self, record: Record, setting: Setting, *, after: int = 0) -> Recording | History:
        steps, rows = record.after(after)
        if rows is None:
            raise ValueError(f"nothing was recorded after step {after}: the run is shorter than its burn-in or `every`")
        if isinstance(self.measure, Mean):
            return self.measure.path(steps, rows, setting)
        return Recording(steps, jax.tree.map(np.asarray, setting.restore(rows)), setting.ladder)
