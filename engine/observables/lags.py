"""Pairs of observations of a particle at lags over many decades, from a memory of constant size.

A multiple-tau correlator (Ramírez, Sukumaran, Vorselaars and Likhtman, J. Chem. Phys. 133, 154103, 2010): level l holds
the last `points` of every 2^l-th value of each particle. They average values where the levels join; here a level keeps
every second value of the level below, so that nothing is smeared and each lag is what its name says.
"""

import abc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .observable import Observable
from .record import Record
from .statistics import Setting, as_units

MOST_LEVELS = 24  # beyond, lags times `every` leave the range of 32 bits


class Lagged(Observable):
    """Base of the reducers of pairs (value at a time, value a lag later). Further fields: `levels` and `points`.

    Their sums are those of `pair`, with a leading axis of lags.
    """

    levels: int
    points: int

    @abc.abstractmethod
    def prepare(self, last: jax.Array, valid: jax.Array) -> Any:
        """What `pair` needs of the newest values (k, rung, member, group), the same for every lag."""

    @abc.abstractmethod
    def pair(self, first: jax.Array, last: Any) -> Any:
        """Sums over members, as `reduce`, of the pairs of values of one lag; last: from `prepare`."""

    def lags(self) -> np.ndarray:
        """All lags in observations, increasing: 0 to points - 1, then points/2 more at each level."""
        half = self.points // 2
        coarse = [np.arange(half, self.points) << level for level in range(1, self.levels)]
        return np.concatenate([np.arange(self.points), *coarse])

    def memory(self, value: jax.ShapeDtypeStruct) -> Any:
        return jax.ShapeDtypeStruct((len(self.lags()), *value.shape), value.dtype)  # one value for each lag

    def follow(self, values: jax.Array, memory: Any, valid: jax.Array, number: Any, group: Callable) -> tuple[Any, Any]:
        # rings of half the points: the newest values, then for each level the older half of those that it sees; what a
        # ring loses goes to the next
        # by a barrier, or the compiler would prepare them anew for every lag
        half, new = self.points // 2, lax.optimization_barrier(self.prepare(group(values), valid))
        # the levels that see this observation: 2^level divides its number, for 0 all; none in the burn-in
        twos = lax.population_count(number ^ (number - 1)) - 1
        last = jnp.where(number < 0, -1, jnp.minimum(twos, self.levels - 1) + 1)
        level = lambda ring: jnp.maximum(ring - 1, 0)  # noqa: E731
        recall = lambda memory, at: lax.dynamic_index_in_dim(memory, at, 0, keepdims=False)  # noqa: E731

        def place(ring: Any, back: Any) -> Any:
            return ring * half + lax.rem((number >> level(ring)) + self.points - back, np.int32(half))

        def age(i: Any, memory: jax.Array) -> jax.Array:
            ring = last - i
            lost = recall(memory, place(ring - 1, 0))
            return lax.dynamic_update_index_in_dim(memory, lost, place(ring, 0), 0)

        def add(lag: Any, sums: Any) -> Any:
            ring = lax.div(lag, np.int32(half))
            back = jnp.where(lag < self.points, lag, half + lax.rem(lag, np.int32(half)))
            old = group(recall(memory, place(ring, back)))
            there = back <= number >> level(ring)
            found = jax.tree.map(lambda a: jnp.where(there, a, 0), self.pair(old, new))
            return jax.tree.map(lambda a, b: lax.dynamic_update_index_in_dim(a, b, lag, 0), sums, found)

        memory = lax.fori_loop(0, last, age, memory)
        now = lambda _, memory: lax.dynamic_update_index_in_dim(memory, values, place(0, 0), 0)  # noqa: E731
        memory = lax.fori_loop(0, (last >= 0).astype(jnp.int32), now, memory)
        shapes = jax.eval_shape(self.pair, group(values), new)
        sums = jax.tree.map(lambda s: jnp.zeros((len(self.lags()), *s.shape), s.dtype), shapes)
        return lax.fori_loop(0, (last + 1) * half, add, sums), memory

    def units(self, record: Record, setting: Setting, after: int, count: Callable) -> tuple[np.ndarray, Any]:
        """The lags in steps that every independent unit has seen, and the units' sums; count: sums -> pairs (lags, ...)."""
        _, sums = record.after(after)
        if sums is None:
            raise ValueError(f"no observation after step {after}: the run is shorter than its burn-in, or than `every`")
        units = as_units(self.merge, sums, setting.unit)
        seen = count(units).reshape(len(self.lags()), -1).min(axis=1) > 0
        return self.lags()[seen] * self.every, jax.tree.map(lambda a: a[seen], units)

    def _check_lags(self) -> None:
        """For `__post_init__` of the subclasses."""
        self._check()
        name = type(self).__name__
        if isinstance(self.levels, bool) or not isinstance(self.levels, int) or not 1 <= self.levels <= MOST_LEVELS:
            raise ValueError(f"{name}: levels must be an integer from 1 to {MOST_LEVELS}; got {self.levels!r}")
        if isinstance(self.points, bool) or not isinstance(self.points, int) or self.points < 2 or self.points % 2:
            raise ValueError(f"{name}: points must be an even number of at least 2; got {self.points!r}")
