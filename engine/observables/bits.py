"""Counting cells by bits: each byte is a bit of the cells of eight members of a group, and a vector has 64 of them.

The members in a cell are where all bits of its number are found, and the processor counts bits. A scatter would go through
values one by one; that pays for many cells, of which most count nothing.
"""

import functools
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

BITS = 7  # of a cell's number, at most
MEMBERS = 32  # they come in multiples of this: four bytes


def bit_planes(place: jax.Array, cells: int) -> tuple[jax.Array, ...]:
    """For each bit of the numbers place (k, rung, member, group), int32, bytes (k, rung, member/8, group).

    A byte is of members that lie an eighth of them apart.
    """
    k, rungs, _, groups = place.shape
    place = place.astype(jnp.uint8).reshape(k, rungs, 8, -1)  # long loops in the end
    within = lax.broadcasted_iota(jnp.uint8, place.shape, 2)
    bits = [lax.shift_left(_bit(place, b), within) for b in range(cells.bit_length())]
    return tuple(plane.reshape(k, rungs, -1, groups) for plane in _reduce(operator.or_, bits, 2))


def count_planes(planes: tuple[jax.Array, ...], cells: int) -> jax.Array:
    """How many members are in each cell: (k · cell, rung, group), int32."""
    k, rungs, words, groups = planes[0].shape
    shape = (k, cells, rungs, 2, 2, words // 4 * groups)
    cell, found = lax.broadcasted_iota(jnp.uint8, shape, 1), []
    for b, plane in enumerate(planes):
        zeros = _bit(cell, b) - np.uint8(1)  # where this bit of the cell's number is 0, those of the members are turned
        found.append(plane.reshape(k, 1, *shape[2:]) ^ zeros)
    count = lax.population_count(functools.reduce(operator.and_, found))
    # two sums in one loop are written to memory; one alone would be repeated for every number that follows from it
    halves = _reduce(operator.add, [count[:, :, :, half] for half in range(2)], 3)
    wide = [half.reshape(k * cells, rungs, words // 4, groups).astype(jnp.int32).sum(axis=2) for half in halves]
    return wide[0] + wide[1]


def _bit(numbers: jax.Array, b: int) -> jax.Array:
    return lax.shift_right_logical(numbers, np.uint8(b)) & np.uint8(1)


def _reduce(operation: Callable, values: list[jax.Array], axis: int) -> tuple[jax.Array, ...]:
    each = lambda a, b: tuple(map(operation, a, b))  # noqa: E731
    return tuple(lax.reduce(tuple(values), (np.uint8(0),) * len(values), each, (axis,)))
