"""Pairs of observations of a particle at lags over many decades, from a memory of constant size.

A multiple-tau correlator (Ramírez, Sukumaran, Vorselaars and Likhtman, J. Chem. Phys. 133, 154103, 2010): level l holds
the last `points` of every 2^l-th value of each particle. They average values where the levels join; here a level keeps
every second value of the level below, so that nothing is smeared and each lag is what its name says.
"""

import abc
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .members import join_parts
from .observable import Observable
from .record import Record, climb, cut, fold, join, pairs
from .statistics import Setting, as_units

MOST_LEVELS = 24  # beyond, lags times `every` leave the range of 32 bits


class Lagged(Observable):
    """Base of the reducers of pairs (value at a time, value a lag later). Further fields: `levels` and `points`.

    Their sums are those of `pair`, with a leading axis of lags.
    """

    levels: int
    points: int
    in_turn = True
    ragged = True

    def note(self, values: jax.Array, valid: jax.Array) -> Any:
        """What is kept of the values (k, rung, member, group) of a time beside them, so that no lag computes it again."""
        del values, valid
        return ()

    @abc.abstractmethod
    def prepare(self, last: jax.Array, note: Any, valid: jax.Array) -> Any:
        """What `pair` needs of the newest values (k, rung, member, group) and their note, the same for every lag."""

    @abc.abstractmethod
    def pair(self, first: jax.Array, notes: Any, last: Any) -> Any:
        """Sums of the pairs of several lags: values (lag, k, rung, member, group) -> leaves (lag or 1, ..., rung, group).

        notes: of these values; last: from `prepare`.
        """

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

    def before(self, number: Any) -> Any:
        # level l sees every 2^l-th observation; the newest values, ring 0, see as many as level 0
        number = number * (number > 0)
        return 2 * number + sum((number + (1 << level) - 1) >> level for level in range(1, self.levels))

    def _place(self, ring: Any, number: Any, back: Any) -> Any:
        """Where the memory has the value `back` before the newest, in those that the ring's level sees."""
        half, level = self.points // 2, ring - (ring > 0)
        return ring * half + ((number >> level) + self.points - back) % half

    def follow(self, parts: tuple, memory: Any, valid: jax.Array, number: Any, group: Callable) -> tuple[Any, Any]:
        # rings of half the points: the newest values, then for each level the older half of those that it sees; what a
        # ring loses goes to the next
        values = join_parts(parts)
        grouped = group(values)
        # by barriers, or the compiler would prepare them anew for every lag
        note = lax.optimization_barrier(self.note(grouped, group(valid)))
        new = lax.optimization_barrier(self.prepare(grouped, note, group(valid)))
        # the rings that see this observation, but for the newest values
        last = self.before(number + 1) - self.before(number) - 1

        def keep(memory: Any, values: Any, at: Any) -> Any:
            return jax.tree.map(lambda a, v: lax.dynamic_update_index_in_dim(a, v, at, 0), memory, values)

        def age(i: Any, memory: Any) -> Any:
            ring = last - i
            lost = self._place(ring - 1, number, 0)
            old = jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, lost, 0, keepdims=False), memory)
            return keep(memory, old, self._place(ring, number, 0))

        memory = lax.fori_loop(0, last, age, memory)
        seen = (number >= 0).astype(jnp.int32)  # not in the burn-in
        newest = self._place(0, number, 0)
        return new, lax.fori_loop(0, seen, lambda _, memory: keep(memory, (values, note), newest), memory)

    def row(self, found: Any, memory: Any, nth: Any, group: Callable) -> Any:
        """The sums of one ring, in the order of its places."""
        half = self.points // 2
        first, notes = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, nth * half, half), memory)
        return self.pair(group(first), notes, found)

    def unroll(self, rows: Any, start: int, stop: int, most: int) -> Iterator[tuple[int, Any]]:
        # merged in pairs as the record would do it, but ring by ring: an observation has three of them on average, and
        # the record merges all, adding zeros
        half, rings, firsts = self.points // 2, [], []
        for ring in range(self.levels + 1):
            level = max(ring - 1, 0)
            first = -(-start >> level)
            numbers = np.arange(first << level, stop, 1 << level)[:, None]
            back = np.arange(half) + half * (ring > 0)
            there = back <= numbers >> level  # not before the first observation
            row, place = (
                self.before(numbers) - self.before(start) + ring,
                self._place(ring, numbers, back) - ring * half,
            )
            rings.append(jax.tree.map(lambda a: _taken(a, row, place, there), rows))  # noqa: B023
            firsts.append(first)

        def dense(level: int, begin: int, end: int) -> Any:
            """The rows begin … end - 1 of 2^level observations each, with all lags."""
            whole = jax.tree.map(lambda a: np.zeros((end - begin, len(self.lags()), *a.shape[2:]), a.dtype), rings[0])
            for ring, (mine, first) in enumerate(zip(rings, firsts, strict=True)):
                apart = max(ring - 1 - level, 0)  # it has every 2^apart-th of them
                i, lags = -(-begin >> apart), slice(ring * half, (ring + 1) * half)
                for to, a in zip(jax.tree.leaves(whole), jax.tree.leaves(mine), strict=True):
                    to[(i << apart) - begin :: 1 << apart, lags] = a[i - first : (end - 1 >> apart) + 1 - first]
            return whole

        def pair(level: int, begin: int, end: int) -> None:
            for ring in range(min(level + 1, len(rings))):  # those that have every row of the level below
                mine = cut(rings[ring], 2 * begin - firsts[ring], 2 * end - firsts[ring])
                rings[ring], firsts[ring] = pairs(self.merge, mine), begin

        return climb(start, stop, most, dense, pair)

    def units(self, record: Record, setting: Setting, after: int, count: Callable) -> tuple[np.ndarray, Any]:
        """The lags in steps that every independent unit has seen, and the units' sums; count: sums -> pairs (lags, ...).

        The first blocks of time have not seen long lags: of four and more, up to a quarter are merged to one that has.
        """
        _, sums = record.after(after)
        if sums is None:
            raise ValueError(f"no observation after step {after}: the run is shorter than its burn-in, or than `every`")
        units = as_units(self.merge, sums, setting.unit)
        seen = count(units).min(axis=(1, 2)) > 0  # (lags, unit)
        n, begins = seen.shape[1], seen.argmax(axis=1)
        later = np.array([each[begin:].all() for each, begin in zip(seen, begins, strict=True)])
        most = max(1, n // 4 - 1) if n > 2 else 0
        first = begins[later & (begins <= most)].max(initial=0)
        if first:
            at = lambda start, stop: jax.tree.map(lambda a: np.moveaxis(a, -1, 0)[start:stop], units)  # noqa: E731
            merged = jax.tree.map(lambda a: a[None], fold(self.merge, at(0, first + 1)))
            units = jax.tree.map(lambda a: np.moveaxis(a, 0, -1), join(merged, at(first + 1, n)))
        whole = later & (begins <= first)
        return self.lags()[whole] * self.every, jax.tree.map(lambda a: a[whole], units)

    def _check_lags(self) -> None:
        """For `__post_init__` of the subclasses."""
        self._check()
        name = type(self).__name__
        if isinstance(self.levels, bool) or not isinstance(self.levels, int) or not 1 <= self.levels <= MOST_LEVELS:
            raise ValueError(f"{name}: levels must be an integer from 1 to {MOST_LEVELS}; got {self.levels!r}")
        if isinstance(self.points, bool) or not isinstance(self.points, int) or self.points < 2 or self.points % 2:
            raise ValueError(f"{name}: points must be an even number of at least 2; got {self.points!r}")


def _taken(a: np.ndarray, row: np.ndarray, place: np.ndarray, there: np.ndarray) -> np.ndarray:
    """a[row, place], or zeros where nothing is there; of an axis of one place all places are the same."""
    return np.where(there.reshape(*there.shape, *[1] * (a.ndim - 2)), a[row, place % a.shape[1]], 0)
