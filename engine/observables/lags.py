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
    in_turn = True

    def note(self, values: jax.Array, valid: jax.Array) -> Any:
        """What is kept of the values (k, rung, member, group) of a time beside them, so that no lag computes it again."""
        del values, valid
        return ()

    @abc.abstractmethod
    def prepare(self, last: jax.Array, note: Any, valid: jax.Array) -> Any:
        """What `pair` needs of the newest values (k, rung, member, group) and their note, the same for every lag."""

    @abc.abstractmethod
    def pair(self, first: jax.Array, notes: Any, last: Any) -> tuple[jax.Array, jax.Array]:
        """Two numbers of the pairs of several lags: values (lag, k, rung, member, group) -> (lag, k, rung, group) each.

        Sums over members, or what a note has kept. notes: of these values; last: from `prepare`.
        """

    @abc.abstractmethod
    def assemble(self, sums: tuple[jax.Array, jax.Array], last: Any) -> Any:
        """What the observable sums up, with a leading axis of lags; sums: of `pair`, for all lags."""

    def lags(self) -> np.ndarray:
        """All lags in observations, increasing: 0 to points - 1, then points/2 more at each level."""
        half = self.points // 2
        coarse = [np.arange(half, self.points) << level for level in range(1, self.levels)]
        return np.concatenate([np.arange(self.points), *coarse])

    def memory(self, value: jax.ShapeDtypeStruct) -> Any:
        return jax.ShapeDtypeStruct((len(self.lags()), *value.shape), value.dtype)  # one value for each lag

    def open(self, memory: Any, valid: jax.Array, group: Callable) -> Any:
        note = lambda values: self.note(group(values), group(valid))  # noqa: E731
        # one by one, as `follow` does it: the same bits
        return memory, lax.map(note, memory)

    def close(self, memory: Any) -> Any:
        return memory[0]

    def follow(self, values: jax.Array, memory: Any, valid: jax.Array, number: Any, group: Callable) -> tuple[Any, Any]:
        # rings of half the points: the newest values, then for each level the older half of those that it sees; what a
        # ring loses goes to the next
        half, grouped = self.points // 2, group(values)
        # by barriers, or the compiler would prepare them anew for every lag
        note = lax.optimization_barrier(self.note(grouped, group(valid)))
        new = lax.optimization_barrier(self.prepare(grouped, note, group(valid)))
        # the levels that see this observation: 2^level divides its number, for 0 all; none in the burn-in
        twos = lax.population_count(number ^ (number - 1)) - 1
        last = jnp.where(number < 0, -1, jnp.minimum(twos, self.levels - 1) + 1)
        level = lambda ring: jnp.maximum(ring - 1, 0)  # noqa: E731

        def place(ring: Any, back: Any) -> Any:
            return ring * half + lax.rem((number >> level(ring)) + self.points - back, np.int32(half))

        def keep(memory: Any, values: Any, at: Any) -> Any:
            return jax.tree.map(lambda a, v: lax.dynamic_update_index_in_dim(a, v, at, 0), memory, values)

        def age(i: Any, memory: Any) -> Any:
            ring = last - i
            lost = place(ring - 1, 0)
            old = jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, lost, 0, keepdims=False), memory)
            return keep(memory, old, place(ring, 0))

        memory = lax.fori_loop(0, last, age, memory)
        seen = (last >= 0).astype(jnp.int32)
        memory = lax.fori_loop(0, seen, lambda _, memory: keep(memory, (values, note), place(0, 0)), memory)

        def add(ring: Any, sums: tuple) -> tuple:
            first, notes = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, ring * half, half), memory)
            put = lambda a, b: lax.dynamic_update_slice_in_dim(a, b, ring * half, 0)  # noqa: E731
            return tuple(map(put, sums, self.pair(group(first), notes, new)))

        def sort(ring: Any, sums: tuple) -> tuple:
            # from the order of places to that of lags: backwards from the newest
            turn = half - 1 - lax.rem(number >> level(ring), np.int32(half))

            def turned(a: jax.Array) -> jax.Array:
                found = lax.dynamic_slice_in_dim(a, ring * half, half)[::-1]
                found = lax.dynamic_slice_in_dim(jnp.concatenate([found, found]), turn, half)
                return lax.dynamic_update_slice_in_dim(a, found, ring * half, 0)

            return tuple(map(turned, sums))

        first, notes = memory
        shapes = jax.eval_shape(self.pair, group(first), notes, new)
        sums = lax.fori_loop(0, last + 1, add, tuple(jnp.zeros(s.shape, s.dtype) for s in shapes))
        # in a loop of its own: the sums' loop would not be vectors if it wrote them in this order
        sums = lax.fori_loop(0, last + 1, sort, sums)
        lag = np.arange(len(self.lags()), dtype=np.int32)
        ring = lag // half
        back = np.where(lag < self.points, lag, half + lag % half)
        there = (back <= number >> np.maximum(ring - 1, 0)) & (ring <= last)
        only = lambda a: jnp.where(there.reshape(-1, *[1] * (a.ndim - 1)), a, 0)  # noqa: E731
        return jax.tree.map(only, self.assemble(sums, new)), memory

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
