"""Sums over the members of groups, on the device: (..., member, group) as (..., group), in loops that XLA makes fast."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..layout import PAIRED

SHORT, TERMS = 32, 64  # members that XLA sums in one loop, and terms of all arrays


def sum_members(values: jax.Array) -> jax.Array:
    """The sum over axis -2."""
    return sum_together([values])[0]


def sum_together(values: Sequence[jax.Array]) -> list[jax.Array]:
    """The sums over axis -2 of arrays of one shape, in one loop.

    In pieces of at most 32 members: XLA cuts longer sums into windows, whose loops take five times as long; and of at most
    64 terms: LLVM does not unroll longer ones, and then goes through the groups one by one.
    """
    *lead, members, groups = values[0].shape
    short = min(SHORT, max(2, TERMS // len(values)))
    if members <= short:
        return _reduce(values, len(lead))
    pieces = -(-members // short)
    each = -(-members // pieces)
    padding = [(0, 0)] * len(lead) + [(0, pieces * each - members), (0, 0)]
    values = [jnp.pad(v, padding).reshape(*lead, pieces, each, groups) for v in values]
    return sum_together(_reduce(values, len(lead) + 1))


def sum_with_squares(values: Sequence[jax.Array]) -> tuple[list[jax.Array], list[jax.Array]]:
    """The sums over axis -2 of arrays of one shape, and of their squares.

    Up to eight rows of members at a time by a reduction of many operands, which becomes one loop over vectors that computes
    all values as it goes: each by itself, values and squares would be written to memory and read again.
    """
    *lead, members, groups = values[0].shape
    pieces = min(PAIRED, members)
    whole = members // pieces * pieces
    rows = [v[..., :whole, :].reshape(*lead, pieces, whole // pieces, groups) for v in values]
    found = sum_together(lax.optimization_barrier(_reduce(_with_squares(rows), len(lead))))
    if whole < members:
        more = _reduce(_with_squares([v[..., whole:, :] for v in values]), len(lead))
        found = [a + b for a, b in zip(found, more, strict=True)]
    return found[: len(values)], found[len(values) :]


def _with_squares(values: Sequence[jax.Array]) -> list[jax.Array]:
    return [*values, *(v * v for v in values)]


def _reduce(values: Sequence[jax.Array], axis: int) -> list[jax.Array]:
    zero = np.zeros((), values[0].dtype)
    add = lambda a, b: tuple(x + y for x, y in zip(a, b, strict=True))  # noqa: E731
    return lax.reduce(tuple(values), (zero,) * len(values), add, (axis,))


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
