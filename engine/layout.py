"""Where particles lie in memory: the rule that is fast everywhere, a function of static shapes only.

Inside a block the axis of short particles comes last. Long particles, networks and energies that work through data stay
particle-first, so that one alone fills vectors, and matrix products keep their shape. Tiles of particles stay in the
cache with their noise; every tile runs all steps of the block before the next one starts. Public arrays are (n, ...), or
(rungs, n, ...) in a ladder; `pack` and `unpack` go between.

The rule, on a CPU: a tile has at most 8,192 particles and 2^15 coordinates, but not fewer than 64 particles if there are
as many; a multiple of 512 particles where that takes at most 2 % of padding. A block of noise has about 2^17 normals (half
a MiB), and 4 to 32 steps: of two, XLA makes slower code. The noise of few particles is drawn along time, as one long
vector: 16 to 1,024 steps in a quarter of the room. An accelerator wants few long loops: its tiles have up to 2^24
coordinates.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .hardware import PLAIN, jit
from .pytree import size_of

LANES = 32  # fewer than 64 particles along the vector axis come in multiples of this; more, of groups
LONG = 32  # particles of so many coordinates lie along vectors themselves
FEW, SHORT = 8, 1024  # below so many particles, or coordinates in all, noise is drawn along time
HEAVY = 1024  # an energy that computes arrays of more elements is no loop over coordinates
GROUPS = 64  # observables are sums in this many groups of particles, one a particle when there are fewer
PAIRED = 8  # members of a group that one loop adds up, with their squares; a remainder takes a loop of its own,
SPARE = 1.02  # which is worth so much padding


class Layout(NamedTuple):
    """The geometry of a population; hashable."""

    particles: int  # in a rung
    rungs: int
    ladder: bool
    shared_noise: bool
    groups: int
    padded: int  # particles in a rung after padding
    tile: int  # particles in a tile: a part of one rung, or several whole rungs
    tiles: int
    devices: int
    last: bool  # the particle axis is last inside
    steps: int  # steps in a block of noise
    few: bool = False  # noise is drawn along time, and not for padding
    elementwise: bool = True  # the work is loops over short particles' coordinates

    @property
    def lead(self) -> tuple[int, ...]:
        """Leading axes of public arrays."""
        return (self.rungs, self.particles) if self.ladder else (self.particles,)

    @property
    def axis(self) -> int:
        """The particle axis within a tile."""
        return -1 if self.last else 0

    @property
    def rungs_in_tile(self) -> int:
        """Whole rungs in a tile; 1 where a rung has several tiles."""
        return max(1, self.tile // self.padded)

    def identify(self, tile: Any) -> tuple[jax.Array, jax.Array]:
        """Particle ids (uint32) and validity of a tile's particles, shape (tile,)."""
        flat = jnp.asarray(tile, jnp.uint32) * np.uint32(self.tile) + jnp.arange(self.tile, dtype=jnp.uint32)
        if self.rungs == 1:
            return flat, flat < np.uint32(self.particles)
        rung, place = flat // np.uint32(self.padded), flat % np.uint32(self.padded)
        ids = place if self.shared_noise else rung * np.uint32(self.particles) + place
        return ids, (place < np.uint32(self.particles)) & (rung < np.uint32(self.rungs))

    def members(self) -> np.ndarray:
        """How many particles each group of each tile has: (tiles, rungs in the tile, groups)."""
        each = self.tile // self.rungs_in_tile
        rung, place = np.divmod(np.arange(self.tiles * self.rungs_in_tile) * each, self.padded)
        there = np.where(rung < self.rungs, self.particles - place, 0).reshape(self.tiles, self.rungs_in_tile, 1)
        # member m of a group is particle m · groups + group
        found = (there - np.arange(self.groups) + self.groups - 1) // self.groups
        return found.clip(0, each // self.groups).astype(np.int32)

    @property
    def tiles_of_rung(self) -> int:
        """Over how many tiles a rung extends."""
        return max(1, self.padded // self.tile)

    def place(self, rung: int) -> tuple[slice, int]:
        """The tiles of a rung, and its place among the rungs of each."""
        first, within = divmod(rung, self.rungs_in_tile)
        return slice(first * self.tiles_of_rung, (first + 1) * self.tiles_of_rung), within

    def grouped(self, values: Any) -> Any:
        """Values (..., tile) as (..., rungs in the tile, members of a group, groups)."""
        shape = (*values.shape[:-1], self.rungs_in_tile)
        each = self.tile // self.rungs_in_tile
        rows = values.reshape(*shape, each)[..., : each // self.groups * self.groups]
        return rows.reshape(*shape, each // self.groups, self.groups)

    def pack(self, tree: Any, *, traced: bool = False) -> Any:
        """Public leaves (lead, ...) as (tiles, ..., tile), or (tiles, tile, ...) particle-first.

        traced: inside of a traced function.
        """
        if not jax.tree.leaves(tree):  # nothing costs as much to compile as something
            return tree
        return _pack(self, tree) if traced else _packed(self, tree)

    def unpack(self, tree: Any, *, traced: bool = False) -> Any:
        """The inverse of `pack`."""
        if not jax.tree.leaves(tree):
            return tree
        return _unpack(self, tree) if traced else _unpacked(self, tree)

    def unpack_recorded(self, values: np.ndarray) -> np.ndarray:
        """Recorded values on the host, (tiles, rows, ..., tile) in any layout, as (rows, lead, ...)."""
        return self.public(np.moveaxis(values, -1, 2), 1)

    def spread(self, tree: Any) -> tuple[Any, ...]:
        """Packed leaves cut into one part for each device, and put there."""
        if self.devices == 1:
            return (tree,)
        each, devices = self.tiles // self.devices, jax.local_devices()[: self.devices]
        leaves, treedef = jax.tree.flatten(tree)
        del tree
        leaves.reverse()
        parts = [[] for _ in devices]
        while leaves:  # each is gone before the next is cut
            a = leaves.pop()
            for d, device in enumerate(devices):
                parts[d].append(jax.device_put(a[d * each : (d + 1) * each], device))
        return tuple(map(treedef.unflatten, parts))

    def gather(self, parts: tuple[jax.Array, ...]) -> jax.Array:
        """The inverse of `spread`, of one leaf, on the first device."""
        return parts[0] if len(parts) == 1 else jnp.concatenate(jax.device_put(parts, jax.local_devices()[0]))

    def unpack_mask(self, mask: np.ndarray) -> np.ndarray:
        """A truth for each particle, (tiles, tile), as (lead)."""
        return self.public(mask, 0)

    def public(self, a: Any, before: int) -> Any:
        """(tiles, `before` axes, tile, ...) as (`before` axes, lead, ...)."""
        a = (np if isinstance(a, np.ndarray) else jnp).moveaxis(a, 0, before)
        kept, rest = a.shape[:before], a.shape[before + 2 :]
        every = (slice(None),) * before
        a = a.reshape(*kept, self.tiles * self.tile, *rest)[(*every, slice(0, self.rungs * self.padded))]
        a = a.reshape(*kept, self.rungs, self.padded, *rest)[(*every, slice(None), slice(0, self.particles))]
        return a if self.ladder else a[(*every, 0)]


def _pack(layout: Layout, tree: Any) -> Any:
    def leaf(a: Any) -> jax.Array:
        a = jnp.asarray(a).reshape(layout.rungs, layout.particles, *np.shape(a)[len(layout.lead) :])
        rest = [(0, 0)] * (a.ndim - 2)
        # padding repeats the last particle: its dynamics is as tame as a real one's
        a = jnp.pad(a, [(0, 0), (0, layout.padded - layout.particles), *rest], mode="edge")
        a = a.reshape(layout.rungs * layout.padded, *a.shape[2:])
        a = jnp.pad(a, [(0, layout.tiles * layout.tile - len(a)), *rest], mode="edge")
        a = a.reshape(layout.tiles, layout.tile, *a.shape[1:])
        return jnp.moveaxis(a, 1, -1) if layout.last else a

    return jax.tree.map(leaf, tree)


def _unpack(layout: Layout, tree: Any) -> Any:
    return jax.tree.map(lambda a: layout.public(jnp.moveaxis(a, -1, 1) if layout.last else a, 0), tree)


_packed, _unpacked = (jit(PLAIN, static_argnums=0)(moves) for moves in (_pack, _unpack))


def choose(
    *,
    particles: int,
    rungs: int | None,
    shared_noise: bool,
    position: Any,
    normals: int,
    heavy: bool,
    devices: int,
    accelerator: bool = False,
) -> Layout:
    """The layout for a population; `position` is one particle's, `normals` how many it takes a step; heavy: `is_heavy`."""
    size = size_of(position)
    last, few, padded, elementwise = arrange(position, particles, heavy=heavy, ladder=rungs is not None)
    groups = min(particles, GROUPS)
    unit = padded if particles < GROUPS else GROUPS  # a tile is a multiple of this
    most, room, noise = (2**24, 2**24, 2**26) if accelerator else (8192, 2**15, 2**17)
    width = max(unit, min(most, 2 ** int(math.log2(max(64, room // size)))))
    if padded >= width or rungs is None:
        tiles = max(math.ceil(padded / width), min(devices, max(1, padded // GROUPS)))
        tiles = math.ceil(tiles / devices) * devices if tiles > devices else tiles  # no device may have one less to do
        tile = math.ceil(padded / tiles / unit) * unit
        whole = math.ceil(tile / (PAIRED * unit)) * PAIRED * unit
        tile = whole if whole <= SPARE * tile else tile
        padded = tile * math.ceil(padded / tile)
        total = (rungs or 1) * padded // tile
    else:
        tile = padded * max(1, min(width // padded, math.ceil((rungs or 1) / devices)))
        total = math.ceil((rungs or 1) * padded / tile)
    devices = min(devices, total)
    return Layout(
        particles=particles,
        rungs=rungs or 1,
        ladder=rungs is not None,
        shared_noise=shared_noise,
        groups=groups,
        padded=padded,
        tile=tile,
        tiles=math.ceil(total / devices) * devices,
        devices=devices,
        last=last,
        steps=block_length(tile * size * max(1, normals), noise, few=few),
        few=few,
        elementwise=elementwise,
    )


def is_heavy(energy: Callable, *arguments: Any) -> bool:
    """Whether the energy of one particle reads or computes an array above `HEAVY`; shapes suffice as arguments.

    Such an energy fills vectors by itself, and its padding is dear.
    """
    jaxpr = jax.make_jaxpr(energy)(*arguments)
    return max(_largest(jaxpr.jaxpr), *(np.size(const) for const in jaxpr.consts), 0) > HEAVY


def _largest(jaxpr: Any) -> int:
    """Elements of the largest array in a jaxpr and those inside it."""
    found = [1]
    for equation in jaxpr.eqns:
        found += [math.prod(v.aval.shape) for v in (*equation.invars, *equation.outvars) if hasattr(v.aval, "shape")]
        inner = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns"))
        found += [_largest(getattr(x, "jaxpr", x)) for x in inner if hasattr(x, "eqns")]
    return max(found)


class Arrangement(NamedTuple):
    """The part of a layout that `engine.advance` shares."""

    last: bool
    few: bool
    padded: int
    elementwise: bool


def arrange(position: Any, particles: int, *, heavy: bool, ladder: bool) -> Arrangement:
    """The fields of a `Layout` that follow from one rung.

    Padding is to whole groups or vectors: shorter loops are compiled to other code that contracts multiply-adds
    differently, and a particle alone would differ in its last bit from the same particle among many. Long particles lie
    along vectors themselves, however many there are; a lone one gets company for the same reason.
    """
    size, shapes = size_of(position), [np.shape(leaf) for leaf in jax.tree.leaves(position)]
    elementwise = size <= 256 and not heavy
    last = size < LONG and all(len(shape) <= 1 for shape in shapes) and not heavy
    few = not ladder and (particles < FEW if last else particles * size < SHORT)
    unit = GROUPS if particles >= GROUPS else LANES if last else 2 if elementwise and particles == 1 else 1
    return Arrangement(last, few, math.ceil(particles / unit) * unit, elementwise)


def block_length(values: int, room: int = 2**17, *, few: bool = False) -> int:
    """Steps in a block of noise, a power of two, for so many normals a step and room for so many in all."""
    least, most = (16, 1024) if few else (4, 32)
    return int(min(most, max(least, 2 ** int(math.log2(max(1, room // max(1, values) // (4 if few else 1)))))))
