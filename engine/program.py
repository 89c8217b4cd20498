"""What a block is compiled for, what it carries, and which steps it takes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .configuration import Recipe
from .layout import Layout
from .noise import counter
from .protocols import Chance, NoiseSpec


class Batch(NamedTuple):
    """Observables that are reduced alike at the same steps: their values are joined and reduced in one go."""

    members: tuple[int, ...]
    every: int  # steps between observations
    capacity: int  # observations, or groups of them, that a block can take
    particles: bool  # rows are values of particles, not sums
    grouped: bool  # a row may be the sums of several observations
    continued: bool  # a row that is not complete goes on in the next block, as a tile left it; else it begins at zero
    merged: bool  # the tiles of a device add to the same rows, one after the other
    row: Any  # the shapes of a row of a tile


class Program(NamedTuple):
    """All that a block is compiled for; hashable."""

    recipe: Recipe  # of (potential, integrator, tuple of observables)
    layout: Layout
    position: tuple[Any, tuple[jax.ShapeDtypeStruct, ...]]  # one particle's: treedef and leaves
    noise: NoiseSpec
    chance: tuple[Chance, ...]
    driven: bool  # the potential changes in time: caches are refreshed
    batches: tuple[Batch, ...]

    @property
    def dtype(self) -> Any:
        """The dtype of the noise: the position's widest, at least float32."""
        return jnp.result_type(jnp.float32, *(leaf.dtype for leaf in self.position[1]))

    @property
    def size(self) -> int:
        """Coordinates of a particle."""
        return sum(int(np.prod(leaf.shape)) for leaf in self.position[1])

    def unravel(self, flat: jax.Array) -> Any:
        """(size,) as one particle's position."""
        treedef, leaves = self.position
        zeros = jax.tree.unflatten(treedef, [jnp.zeros(leaf.shape, flat.dtype) for leaf in leaves])
        tree = ravel_pytree(zeros)[1](flat)
        return jax.tree.map(lambda a, leaf: a.astype(leaf.dtype), tree, jax.tree.unflatten(treedef, leaves))


class Carry(NamedTuple):
    """What a block takes from the one before, packed."""

    state: Any  # the integrator's
    memories: tuple  # what each batch remembers of its particles; () for most. The particle axis is always last
    begun: tuple = ()  # the row that each batch goes on with, zeros if it is a new one; () if it is not `continued`


class Watch(NamedTuple):
    """When a batch observes in a block, and the rows that it fills there. A row is of 2^level observations, aligned to
    their numbers, which count from 0 at the record's first.
    """

    phase: Any  # base step modulo `every`
    number: Any  # observations up to the base step
    level: Any
    group: Any  # 2^level
    first: Any  # the number of the block's first observation
    origin: Any  # the row that it falls into
    last: Any  # rows from there to the one that is begun when the block ends


class Window(NamedTuple):
    """Which steps a block takes, relative to the last multiple of the noise block.

    Integers of the host, traced. What it can compute is here: a single number costs the compiler as much as an array.
    """

    low: Any  # first step
    high: Any  # one past the last
    draws: Any  # blocks of noise
    pairs: Any  # 64-bit counter of the first pair of normals, and of scalar normals
    scalars: Any
    step: Any  # 64-bit counter of the first step
    periods: tuple  # for each chance: 64-bit counter of the period, and steps since it began
    watches: tuple[Watch, ...]  # for each batch


def window(
    program: Program, start: int, count: int, firsts: tuple[int, ...] = (), levels: tuple[int, ...] = ()
) -> Window:
    """The window of the steps start … start + count - 1; firsts: the step of each batch's first observation."""
    base = start // program.layout.steps * program.layout.steps

    def watch(every: int, first: int, level: int) -> Watch:
        number = lambda step: step // every - first // every  # of the last observation up to a step # noqa: E731
        begin, end = number(start) + 1, number(start + count)
        last = max((end >> level) - (begin >> level), 0)
        return Watch(*map(np.int32, (base % every, number(base), level, 1 << level, begin, begin >> level, last)))

    return Window(
        low=np.int32(start - base),
        high=np.int32(start - base + count),
        draws=np.int32(-((base - start - count) // program.layout.steps)),
        pairs=counter(base * program.noise.normals // 2),
        scalars=counter(base * program.noise.scalars // 2),
        step=counter(base),
        periods=tuple((counter(base // c.period), np.int32(base % c.period)) for c in program.chance),
        watches=tuple(
            watch(batch.every, first, level)
            for batch, first, level in zip(program.batches, firsts, levels, strict=True)
        ),
    )
