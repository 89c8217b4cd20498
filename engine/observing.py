"""What a block of steps keeps of a tile's particles: rows of sums, on the device.

A row is the sums of one observation, or of a group of up to 64. Such a row is begun and added to apart from the others,
where it stays in the processor's cache, and put in its place when the next one starts or the block ends.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .observables import Observable
from .observables.members import join_parts
from .program import Batch, Program, Watch


def observe_tile(
    program: Program, batch: Batch, ingredients: tuple, state: Any, memory: Any, valid: jax.Array, number: Any
) -> tuple[Any, Any]:
    """A batch's sums for a tile, groups last, or its particles' values; and what it remembers from now on."""
    shared, particle, step = ingredients
    layout = program.layout

    def one(particle: list, state: Any) -> tuple:
        potential, integrator, observables = program.recipe.build(shared, particle, step)
        return tuple(part for o in batch.members for part in observables[o].values(potential, integrator, state))

    parts = jax.vmap(one, in_axes=layout.axis, out_axes=-1)(particle, state)
    if batch.particles:
        return join_parts(parts), memory
    return reducer(program, batch, shared).follow(parts, memory, valid, number, layout.grouped)


def empty_rows(program: Program, shared: list, tiles: int) -> tuple:
    """Rows of zeros for each batch, (tiles, rows, ...); with 1 for tiles that add to the same rows."""

    def empty(batch: Batch) -> Any:
        count = (1 if batch.merged else tiles, reducer(program, batch, shared).before(batch.capacity))
        return jax.tree.map(lambda s: jnp.zeros((*count, *s.shape), s.dtype), batch.row)

    return tuple(map(empty, program.batches))


def empty_row(batch: Batch) -> Any:
    """A row of zeros, as it is for a tile."""
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), batch.row)


def reducer(program: Program, batch: Batch, shared: list) -> Observable:
    """The observable that reduces, opens and merges for its whole batch; its numbers are never one a particle."""
    holes = [None] * len(program.recipe.kinds)
    return program.recipe.build(shared, holes, holes)[2][batch.members[0]]


class Kept(NamedTuple):
    """What a batch keeps of a tile while a block runs."""

    rows: Any
    memory: Any  # opened
    begun: Any  # the row that observations are added to; () if each has rows of its own


def observe(
    program: Program,
    batch: Batch,
    observable: Observable,
    find: Callable,
    kept: Kept,
    number: Any,
    watch: Watch,
    place: Any,
) -> Kept:
    """What a batch keeps after an observation.

    find: gives what `observe_tile` does. number: the observation's. place: the tile's among those of its device.
    """
    rows, memory, begun = kept
    group = program.layout.grouped
    found, after = find()
    if not batch.grouped:
        at = observable.before(number) - observable.before(watch.first)
        put = lambda n, rows: put_row(  # noqa: E731
            batch, observable, rows, place, at + n, observable.row(found, after, n, group)
        )
        if observable.ragged:
            rows = lax.fori_loop(0, observable.before(number + 1) - observable.before(number), put, rows)
        else:
            rows = put(np.int32(0), rows)
        return Kept(rows, after, begun)

    # What crosses the bounds of a loop is written to memory. Sums over coordinates shall be, since inside of the loop that
    # adds up particles they would not be made of vectors; a single coordinate's values are computed anew
    again = find if program.size == 1 else lambda: (found, after)

    def renew(c: tuple) -> tuple:
        turn, rows, row = c
        before = (number >> watch.level) - watch.origin - 1  # -1 as the block begins: where the next one is put later
        rows = put_row(batch, observable, rows, place, before, row)
        return turn + 1, rows, observable.restart(again()[0], memory, group)

    starts = number & (watch.group - 1) == 0
    _, rows, begun = lax.while_loop(lambda c: starts & (c[0] < 1), renew, (np.int32(0), rows, begun))
    return Kept(rows, after, observable.extend(begun, found, memory, group))


def close_row(batch: Batch, observable: Observable, kept: Kept, last: Any, place: Any) -> Any:
    """The rows of a block that ends, with the row that is begun in its place."""
    return put_row(batch, observable, kept.rows, place, last, kept.begun) if batch.grouped else kept.rows


def put_row(batch: Batch, observable: Observable, rows: Any, place: Any, at: Any, new: Any) -> Any:
    """The rows with a new one in its place; where tiles share them, added to what others have put there."""
    place, at = (jnp.asarray(index, jnp.int32) for index in (0 if batch.merged else place, at))
    where = lambda a: (place, at, *[np.int32(0)] * (a.ndim - 2))  # noqa: E731
    clamped = {"allow_negative_indices": False}  # to the nearest row that is there
    if batch.merged:
        there = jax.tree.map(
            lambda a: lax.dynamic_slice(a, where(a), (1, 1, *a.shape[2:]), **clamped).reshape(a.shape[2:]), rows
        )
        # in a loop of one turn all is read before anything is written; else all rows would be copied
        new = lax.fori_loop(at, at + 1, lambda _, new: observable.merge(there, new), new)
    return jax.tree.map(lambda a, v: lax.dynamic_update_slice(a, v[None, None], where(a), **clamped), rows, new)


def fold_tiles(observable: Observable, rows: Any) -> Any:
    """The rows of all tiles, (tiles, rows, ...), merged in pairs to (1, rows, ...)."""
    while (n := len(jax.tree.leaves(rows)[0])) > 1:
        pairs = observable.merge(
            jax.tree.map(lambda a, n=n: a[0 : n - 1 : 2], rows), jax.tree.map(lambda a, n=n: a[1:n:2], rows)
        )
        odd = jax.tree.map(lambda a, n=n: a[n - n % 2 :], rows)
        rows = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), pairs, odd) if n % 2 else pairs
    return rows
