"""What histograms have in common: every value of a particle falls into a cell, and cells are counted."""

import abc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .members import join_parts
from .observable import Observable


class Tally(Observable):
    """Base of the histograms: counts of `cells` cells for each component, whole numbers that add up exactly."""

    @property
    @abc.abstractmethod
    def cells(self) -> int:
        """How many."""

    @abc.abstractmethod
    def place(self, values: jax.Array) -> jax.Array:
        """The cells (k', ...) of values (k, ...), as int32."""

    def follow(self, parts: tuple, memory: Any, valid: jax.Array, number: Any, group: Callable) -> tuple[Any, Any]:
        """Where each value is counted, (k', rung, member, group), in counts (k', cell, rung, group) that lie in a row."""
        del number
        place = group(self.place(join_parts(parts)))
        k, rungs, _, groups = place.shape
        component, rung, column = (jax.lax.broadcasted_iota(jnp.int32, place.shape, axis) for axis in (0, 1, 3))
        index = ((component * self.cells + place) * rungs + rung) * groups + column
        return jnp.where(group(valid), index, k * self.cells * rungs * groups), memory  # nowhere

    def row(self, found: Any, memory: Any, nth: Any, group: Callable) -> jax.Array:
        del memory, nth, group
        k, rungs, _, groups = found.shape
        return count(jnp.zeros((k * self.cells, rungs, groups), jnp.int32), found)

    def add(self, rows: Any, at: Any, found: Any, memory: Any, nth: Any, group: Callable) -> jax.Array:
        # straight into the row: counts of their own would be written and read once more
        del memory, nth, group
        size = rows[0].size
        return count(rows, jnp.where(found < size, found + at * size, rows.size))

    def merge(self, a: Any, b: Any) -> Any:
        return a + b


def count(counts: jax.Array, index: jax.Array) -> jax.Array:
    """Counts with one more at each index into them as a row; none where it is beyond the end."""
    # an integer scatter beats one-hot sums eightfold on the CPU
    return counts.ravel().at[index.ravel()].add(np.int32(1), mode="drop").reshape(counts.shape)
