"""Sums over the members of groups, on the device: (..., member, group) as (..., group), in loops that XLA makes fast."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

SHORT = 32  # members that XLA sums in one loop
PAIRED = 8  # members that one loop adds up, with their squares


def sum_members(values: jax.Array) -> jax.Array:
    """The sum over axis -2.

    In pieces of at most 32: XLA cuts longer sums into windows, whose loops take five times as long.
    """
    *lead, members, groups = values.shape
    if members <= SHORT:
        return jnp.sum(values, axis=-2)
    pieces = -(-members // SHORT)
    each = -(-members // pieces)
    values = jnp.pad(values, [(0, 0)] * len(lead) + [(0, pieces * each - members), (0, 0)])
    return sum_members(jnp.sum(values.reshape(*lead, pieces, each, groups), axis=-2))


def sum_with_squares(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sums over axis -2 of the values and of their squares.

    Up to eight rows of members at a time by a reduction of two operands, which becomes one loop over vectors that computes
    the values as it goes: each by itself, values and squares would be written to memory and read again.
    """
    *lead, members, groups = values.shape
    pieces = min(PAIRED, members)
    whole = members // pieces * pieces
    both = _reduce_both(values[..., :whole, :].reshape(*lead, pieces, whole // pieces, groups), len(lead))
    sums, squares = map(sum_members, lax.optimization_barrier(both))
    if whole < members:
        more = _reduce_both(values[..., whole:, :], len(lead))
        sums, squares = sums + more[0], squares + more[1]
    return sums, squares


def _reduce_both(values: jax.Array, axis: int) -> tuple:
    """The sums of the values and of their squares over an axis."""
    zero = np.zeros((), values.dtype)
    return tuple(lax.reduce((values, values * values), (zero, zero), _add_both, (axis,)))


def _add_both(a: tuple, b: tuple) -> tuple:
    return a[0] + b[0], a[1] + b[1]


def join_parts(parts: tuple[jax.Array, ...]) -> jax.Array:
    """Parts (k, tile) one below the other, each written where it belongs by a loop of its own.

    A concatenation would be one loop that branches at every element, and barriers keep XLA from making it that again.
    """
    if len(parts) == 1:
        return parts[0]
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    joined, row = jnp.zeros(shape, jnp.result_type(*parts)), 0
    for part in lax.optimization_barrier(parts):
        joined = lax.dynamic_update_slice_in_dim(joined, part.astype(joined.dtype), row, 0)
        row += len(part)
    return lax.optimization_barrier(joined)
