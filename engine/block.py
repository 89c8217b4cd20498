"""The compiled block: every tile of particles through some steps, observables summed on the way.

Bits: there is exactly one compiled step body, one step a loop iteration, noise read from a buffer that is drawn in
blocks aligned to absolute steps, and loop bounds are dynamic. XLA contracts multiply-adds differently in a body of two
steps, so unrolling by even one would change results with the number of steps in a call.
"""

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .hardware import cpu_options, give_back_memory
from .layout import Layout
from .noise import Stream, advance_counter, blocks, normals, normals_of_few, uniforms
from .observing import Kept, close_row, empty_row, empty_rows, fold_tiles, observe, observe_tile, reducer
from .program import Batch, Carry, Program, Window
from .protocols import Draw, Noise

COMPILES = 0.1  # seconds: looking up what is compiled takes a hundredth of it
LONG_ROW = 512  # coordinates of a particle that make a loop long enough


def quotient(steps: Any, period: int) -> jax.Array:
    """steps // period of counts that are not negative: the signs that `//` minds are an operation each to compile."""
    return lax.div(jnp.asarray(steps, jnp.int32), np.int32(period))


def remainder(steps: Any, period: int) -> jax.Array:
    """steps % period of counts that are not negative."""
    return lax.rem(jnp.asarray(steps, jnp.int32), np.int32(period))


def few_shape(program: Program) -> tuple[int, int]:
    """The axes of the normals of few particles for one step."""
    layout = program.layout
    return (program.size, layout.particles) if layout.last else (layout.tile, program.size)


def select(pairs: jax.Array, q: Any, slot: int, even: bool, few: tuple[int, ...] | None) -> jax.Array:
    """The normal number q of a buffer of complex pairs; its part is known beforehand if a step takes an even number.

    few: the shape of a number where the buffer is one row.
    """
    if few:
        size = math.prod(few)
        pair = lax.dynamic_slice_in_dim(pairs, (q >> 1) * size, size).reshape(few)
    else:
        pair = lax.dynamic_index_in_dim(pairs, q >> 1, 0, keepdims=False)
    if even:
        return lax.imag(pair) if slot % 2 else lax.real(pair)
    return jnp.where(q & 1 == 0, lax.real(pair), lax.imag(pair))


def place(few: jax.Array, ids: jax.Array) -> jax.Array:
    """The normals of few particles, (size, particles), in their places among the padding, (size, tile).

    By selection, since a broadcast would be moved behind multiplications: they would then be rounded before the sums
    that they are contracted with elsewhere. The zeros of the padding are hidden from the compiler for the same reason.
    """
    found = (ids >> np.uint32(31)).astype(few.dtype)
    for particle in range(few.shape[1]):
        found = jnp.where(ids == np.uint32(particle), few[:, particle, None], found)
    return found


def long_row(program: Program, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Particle and coordinate of all coordinates of a tile in one row: a loop over one particle's would be short."""
    coordinates = jnp.arange(program.size, dtype=jnp.uint32)
    return jnp.repeat(ids, program.size), jnp.tile(coordinates, program.layout.tile)


def draw(program: Program, keys: dict, at: Window, j: Any, ids: jax.Array, rows: tuple[Any, Any]) -> tuple:
    """All noise of the j-th block of steps for the particles `ids`; leading axes are pairs or steps. rows: `long_row`."""
    layout, spec, k = program.layout, program.noise, program.layout.steps
    across = (lambda c: (ids[None, :], c[:, None])) if layout.last else (lambda c: (ids[:, None], c[None, :]))
    index = lambda n: jnp.arange(n, dtype=jnp.uint32)  # noqa: E731
    # one buffer for all coordinates of the tree: one for each leaf would draw many short rows
    pairs = k * spec.normals // 2
    offset = lambda n: jnp.asarray(j, jnp.uint32) * np.uint32(n)  # noqa: E731
    gaussians = scalars = open_ones = words = None
    if spec.normals:
        start = advance_counter(at.pairs, offset(pairs))
        at_all = keys[Stream.NORMALS], start, pairs
        if layout.few:
            gaussians = normals_of_few(*at_all, ids[0], few_shape(program), layout.axis, program.dtype)
        elif layout.last or program.size >= LONG_ROW:
            gaussians = normals(*at_all, *across(index(program.size)), program.dtype)
        else:
            gaussians = normals(*at_all, *rows, program.dtype).reshape(pairs, layout.tile, program.size)
    if spec.scalars:
        count = k * spec.scalars // 2
        start = advance_counter(at.scalars, offset(count))
        scalars = normals(keys[Stream.SCALARS], start, count, ids, jnp.zeros_like(ids), program.dtype)
    start = advance_counter(at.step, offset(k))
    if spec.uniforms:
        raw = blocks(keys[Stream.UNIFORMS], start, k, *across(index(spec.uniforms)))[0]
        open_ones = uniforms(raw, jnp.dtype(program.dtype).type)
    if spec.words:
        words = blocks(keys[Stream.WORDS], start, k, *across(index(spec.words)))[0]
    return gaussians, scalars, open_ones, words, _chances(program, keys, at, j, ids, across)


def _chances(program: Program, keys: dict, at: Window, j: Any, ids: jax.Array, across: Any) -> tuple:
    """For each chance of the potential its words a step, (steps, ...), and its phase a step."""
    k, found, used = program.layout.steps, [], 0
    steps = j * k + lax.iota(jnp.int32, k)
    for chance, (epoch, begun) in zip(program.chance, at.periods, strict=True):
        since = begun + steps
        index = jnp.arange(used, used + chance.words, dtype=jnp.uint32)
        particles, coordinates = (jnp.zeros_like(index), index) if chance.shared else across(index)

        def one(offset: Any, epoch: Any = epoch, particles: Any = particles, coordinates: Any = coordinates) -> Any:
            start = advance_counter(epoch, offset.astype(jnp.uint32))
            return blocks(keys[Stream.CHANCE], start, 1, particles, coordinates)[0][0]

        found.append((jax.vmap(one)(quotient(since, chance.period)), remainder(since, chance.period)))
        used += chance.words
    return tuple(found)


def step_tile(program: Program, ingredients: tuple, state: Any, noise: tuple, ids: jax.Array, i: Any, j: Any) -> Any:
    """One step of every particle of a tile: the only place where `integrator.step` is called."""
    layout, spec, recipe = program.layout, program.noise, program.recipe
    shared, particle, step = ingredients
    gaussians, scalars, open_ones, words, chances = noise
    k = i - j * layout.steps
    row = lambda buffer: None if buffer is None else lax.dynamic_index_in_dim(buffer, k, 0, keepdims=False)  # noqa: E731

    def pick(pairs: Any, n: int, few: tuple[int, ...] | None = None) -> tuple[jax.Array, ...]:
        return tuple(select(pairs, k * n + slot, slot, n % 2 == 0, few) for slot in range(n))

    flat = pick(gaussians, spec.normals, few_shape(program) if layout.few else None)
    if layout.few and layout.last:
        flat = tuple(place(xi, ids) for xi in flat)
    drawn = (flat, pick(scalars, spec.scalars), row(open_ones), row(words))
    draws = tuple((row(words), row(phase)) for words, phase in chances)

    def one(particle: list, state: Any, drawn: tuple, draws: tuple) -> Any:
        potential, integrator, _ = recipe.build(shared, particle, step)
        if draws:
            potential = potential.at(tuple(Draw(*draw) for draw in draws))
        if program.driven:
            state = integrator.refresh(potential, state)
        flat, scalars, open_ones, words = drawn
        noise = Noise(
            tuple(program.unravel(xi) for xi in flat),
            jnp.stack(scalars) if scalars else (),
            () if open_ones is None else open_ones,
            () if words is None else words,
        )
        new = integrator.step(potential, state, noise)
        return jax.tree.map(lambda a, b: jnp.asarray(a).astype(b.dtype), new, state)

    axis = layout.axis
    per_particle = tuple((None if chance.shared else axis, None) for chance in program.chance)
    per_kind = ((axis,) * spec.normals, (0,) * spec.scalars, axis, axis)
    return jax.vmap(one, in_axes=(axis, axis, per_kind, per_particle), out_axes=axis)(particle, state, drawn, draws)


def evolve_tile(
    program: Program,
    shared: list,
    particle: list,
    scheduled: Callable,
    carry: Carry,
    rows: tuple,
    keys: dict,
    at: Window,
    tile: Any,
    place: Any = 0,
) -> tuple[Carry, tuple]:
    """A tile through the window: what it carries on, and the rows of each batch.

    scheduled: from a step, counted like `at.low`, to the values of all schedules at that step. rows: of all tiles of a
    device, zeros or what others have added to; place: the tile's among them.
    """
    layout = program.layout
    ids, valid = layout.identify(tile)
    whole = long_row(program, ids)
    ingredients = lambda i: (shared, particle, scheduled(i))  # noqa: E731

    reducers = [reducer(program, batch, shared) for batch in program.batches]

    def step_until(stop: Any, i: Any, state: Any, noise: tuple, j: Any) -> Any:
        step = lambda c: (c[0] + 1, step_tile(program, ingredients(c[0]), c[1], noise, ids, c[0], j))  # noqa: E731
        return lax.while_loop(lambda c: c[0] < stop, step, (i, state))

    def look(b: int, kept: Kept, state: Any, end: Any) -> Kept:
        """What a batch keeps after it has observed a state, of the steps before `end`."""
        batch, watch = program.batches[b], at.watches[b]
        number = watch.number + quotient(watch.phase + end, batch.every)
        find = lambda: observe_tile(program, batch, ingredients(end - 1), state, kept.memory, valid, number)  # noqa: E731
        return observe(program, batch, reducers[b], find, kept, number, watch, place)

    def segment(carry: tuple, noise: tuple, j: Any, high: Any) -> tuple:
        i, (state, memories, begun), rows = carry
        since = [
            remainder(watch.phase + i, batch.every) for batch, watch in zip(program.batches, at.watches, strict=True)
        ]
        due = [i + batch.every - steps for batch, steps in zip(program.batches, since, strict=True)]
        stop = functools.reduce(jnp.minimum, due, high)
        turn, state = step_until(stop, i, state, noise, j)
        kept = list(map(Kept, rows, memories, begun))
        for every in dict.fromkeys(batch.every for batch in program.batches):
            together = [b for b, batch in enumerate(program.batches) if batch.every == every]

            def due_now(c: tuple, every: int = every, phase: Any = at.watches[together[0]].phase) -> Any:
                return (c[0] <= stop) & (remainder(phase + stop, every) == 0)

            def observing(c: tuple, together: list = together) -> tuple:
                # tied to the turn, or the compiler would observe before the loop, due or not
                turn, here, end = lax.optimization_barrier((c[0], state, stop))
                return turn + 1, [look(b, old, here, end) for b, old in zip(together, c[1], strict=True)]

            # a loop of no or one turn: unlike a conditional it updates the rows in place. Each takes over the turn of the
            # one before: what depends on one another XLA runs in order, what does not it hands to other threads, at a
            # higher cost than that of all this
            turn, new = lax.while_loop(due_now, observing, (jnp.minimum(turn, stop), [kept[b] for b in together]))
            for b, batch_kept in zip(together, new, strict=True):
                kept[b] = batch_kept
        rows, memories, begun = zip(*kept, strict=True)
        return stop, Carry(state, memories, begun), rows

    def block(j: Any, carry: tuple) -> tuple:
        carried, rows = carry
        noise = draw(program, keys, at, j, ids, whole)
        low, high = jnp.maximum(at.low, j * layout.steps), jnp.minimum(at.high, (j + 1) * layout.steps)
        if not rows:
            return carried._replace(state=step_until(high, low, carried.state, noise, j)[1]), rows
        carry = (low, carried, rows)
        return lax.while_loop(lambda c: c[0] < high, lambda c: segment(c, noise, j, high), carry)[1:]

    opened = tuple(o.open(memory, valid, layout.grouped) for o, memory in zip(reducers, carry.memories, strict=True))
    begun = tuple(
        empty_row(batch) if batch.grouped and not batch.continued else row
        for batch, row in zip(program.batches, carry.begun, strict=True)
    )
    carry = Carry(carry.state, opened, begun)
    carry, rows = lax.fori_loop(np.int32(0), at.draws, block, (carry, rows))
    rows = tuple(
        close_row(program.batches[b], reducers[b], kept, at.watches[b].last, place)
        for b, kept in enumerate(map(Kept, rows, carry.memories, carry.begun))
    )
    closed = tuple(o.close(memory) for o, memory in zip(reducers, carry.memories, strict=True))
    begun = tuple(row if batch.continued else () for batch, row in zip(program.batches, carry.begun, strict=True))
    return Carry(carry.state, closed, begun), rows


def find_broken(layout: Layout, tiles: Any, state: Any) -> jax.Array:
    """Which particles are not finite, (tiles, tile)."""
    axes = lambda a: tuple(range(1, a.ndim - 1) if layout.last else range(2, a.ndim))  # noqa: E731
    finite = [
        jnp.all(jnp.isfinite(leaf), axis=axes(leaf))
        for leaf in jax.tree.leaves(state)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    valid = layout.identify(tiles[:, None])[1]
    return ~functools.reduce(jnp.logical_and, finite, valid | True) & valid


def run_block(
    program: Program, shared: list, particle: tuple, scheduled: list, carry: tuple, keys: dict, at: Window
) -> tuple[tuple, tuple, tuple]:
    """All tiles through the window, on all devices at once.

    particle, carry: packed, a part for each device. Returns the carries; for each batch its rows, with a leading axis of
    tiles, or of 1 where the tiles of one population were merged; and which particles are not finite; each a tuple of
    parts. Devices share nothing, so each runs the same program on its own tiles: compiled together by `shard_map` it
    would be fused differently, and round differently, than on one device.
    """
    compiled, calls = _calls(program, shared, particle, scheduled, carry, keys, at)
    return tuple(zip(*(compiled(*call) for call in calls), strict=True))  # pyright: ignore[reportReturnType]


def compile_block(*arguments: Any) -> None:
    """Compile what `run_block` will run with these arguments, unless that is done, and give back the memory that it took.

    `jax.jit` keeps what it has compiled for both.
    """
    began = time.monotonic()
    compiled, calls = _calls(*arguments)
    for call in calls:
        compiled.lower(*call).compile()
    if time.monotonic() - began > COMPILES:
        give_back_memory()


def _calls(
    program: Program, shared: list, particle: tuple, scheduled: list, carry: tuple, keys: dict, at: Window
) -> tuple[Any, list[tuple]]:
    """The compiled block, and its arguments for each device."""
    layout = program.layout
    on_cpu = jax.default_backend() == "cpu"
    firsts = np.arange(0, layout.tiles, layout.tiles // layout.devices, dtype=np.int32)
    return _compiled(on_cpu and layout.elementwise, on_cpu and layout.devices > 1), [
        (program, shared, mine, scheduled, part, keys, at, first)
        for mine, part, first in zip(particle, carry, firsts, strict=True)
    ]


@functools.cache
def _compiled(elementwise: bool, shared: bool) -> Any:
    """The block under `jax.jit`, with the options that fit loops over elements, and cores that devices share."""
    options = cpu_options(elementwise=elementwise, shared=shared)
    return jax.jit(_run_tiles, static_argnames=("program",), compiler_options=options)


def _run_tiles(
    program: Program, shared: list, particle: list, scheduled: list, carry: Carry, keys: dict, at: Window, first: Any
) -> tuple[Carry, tuple, jax.Array]:
    """The tiles of one device, one after the other, each in its place: what a scan collected would be zeros first."""
    schedules = lambda i: [values[i - at.low] for values in scheduled]  # noqa: E731

    def tile(place: Any, c: tuple) -> tuple:
        mine, carry = jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, place, 0, keepdims=False), (particle, c[0]))
        carry, rows = evolve_tile(program, shared, mine, schedules, carry, c[1], keys, at, first + place, place)
        return jax.tree.map(lambda a, v: lax.dynamic_update_index_in_dim(a, v, place, 0), c[0], carry), rows

    def finish(batch: Batch, rows: Any) -> Any:
        if batch.merged or batch.particles or batch.continued or program.layout.ladder:
            return rows
        return fold_tiles(reducer(program, batch, shared), rows)

    layout, tiles = program.layout, program.layout.tiles // program.layout.devices
    carry, rows = lax.fori_loop(np.int32(0), np.int32(tiles), tile, (carry, empty_rows(program, shared, tiles)))
    broken = find_broken(layout, first + jnp.arange(tiles, dtype=jnp.int32), carry.state)
    return carry, tuple(map(finish, program.batches, rows)), broken
