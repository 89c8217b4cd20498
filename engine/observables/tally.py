"""What histograms have in common: every value of a particle falls into a cell, and cells are counted."""

import abc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .bits import BITS, MEMBERS, bit_planes, count_planes
from .members import join_parts
from .observable import Observable

NOWHERE = -1  # the index of what is not counted
WHOLE = 2**23


class Tally(Observable):
    """Base of the histograms: counts of `cells` cells for each component, whole numbers that add up exactly."""

    @property
    @abc.abstractmethod
    def cells(self) -> int:
        """How many."""

    @abc.abstractmethod
    def place(self, values: jax.Array) -> jax.Array:
        """The cells (k', ...) of values (k, ...): whole numbers, as floats."""

    def follow(self, parts: tuple, memory: Any, valid: jax.Array, number: Any, group: Callable) -> tuple[Any, Any]:
        """Where values are counted: by bits as far as there are few cells; of others the index, (k', rung, member, group),
        in counts (k', cell, rung, group) that lie in a row.
        """
        del number
        place = self.place(join_parts(parts))
        place, there = group(whole(place) if self.cells < WHOLE else place.astype(jnp.int32)), group(valid)
        _, rungs, members, groups = place.shape
        few = members // MEMBERS * MEMBERS if self.cells < 2**BITS else 0
        planes, index = (), None
        if few:
            nowhere = 2 ** self.cells.bit_length() - 1
            planes = bit_planes(jnp.where(there[:, :few], place[:, :, :few], nowhere), self.cells)
        if few < members:
            rest, there = place[:, :, few:], there[:, few:]
            component, rung, column = (lax.broadcasted_iota(jnp.int32, rest.shape, axis) for axis in (0, 1, 3))
            index = jnp.where(there, ((component * self.cells + rest) * rungs + rung) * groups + column, NOWHERE)
        return (planes, index), memory

    def row(self, found: tuple, memory: Any, nth: Any, group: Callable) -> jax.Array:
        del nth
        return self.extend(self.restart(found, memory, group), found, memory, group)

    def restart(self, found: tuple, memory: Any, group: Callable) -> jax.Array:
        k, rungs, _, groups = jax.tree.leaves(found)[0].shape
        return jnp.zeros((k * self.cells, rungs, groups), jnp.int32)

    def extend(self, row: jax.Array, found: tuple, memory: Any, group: Callable) -> jax.Array:
        planes, index = found
        if planes:
            row = row + count_planes(planes, self.cells)
        if index is not None:  # on a CPU a scatter of whole numbers beats one-hot sums
            counted = row.ravel().at[index.ravel()].add(np.int32(1), mode="drop", wrap_negative_indices=False)
            row = counted.reshape(row.shape)
        return row

    def merge(self, a: Any, b: Any) -> Any:
        return a + b


def whole(numbers: jax.Array) -> jax.Array:
    """Floats that are whole numbers below 2²³ as int32: a conversion would mind those that do not fit.

    Added to 2²³ they are the last bits of the float.
    """
    return lax.bitcast_convert_type(numbers.astype(jnp.float32) + np.float32(WHOLE), jnp.int32) & np.int32(WHOLE - 1)
