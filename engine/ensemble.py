"""Where particles start."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .noise import Stream, box_muller, key_words, stream_key, threefry
from .pytree import size_of


def scatter(position: Any, particles: int, *, scale: Any = 1.0, key: Any = 0) -> Any:
    """`particles` copies of one position, each moved by independent normals of standard deviation `scale`.

    position: a pytree of floating arrays, one particle. scale: a number, or an array for the ravelled coordinates.
    Returns the tree with a leading axis of particles. Particle k starts at the same place however many there are.
    """
    if isinstance(particles, bool) or not isinstance(particles, int | np.integer) or particles < 1:
        raise ValueError(f"particles must be a positive whole number; got {particles!r}")
    spread = np.asarray(scale, float)
    if not np.all(np.isfinite(spread)) or np.any(spread < 0):
        raise ValueError(f"scale must be finite and not negative; got {scale!r}")
    position = jax.tree.map(lambda a: jnp.asarray(a, jnp.result_type(float, jnp.asarray(a).dtype)), position)
    size, dtype = size_of(position), jnp.result_type(*jax.tree.leaves(position))
    if spread.shape not in ((), (size,)):
        raise ValueError(f"scale must be a number or have one value a coordinate, ({size},); got shape {spread.shape}")
    spread = np.broadcast_to(spread, (size,)).astype(dtype)
    words, zero = stream_key(key_words(key), Stream.POSITIONS), np.zeros(1, np.uint32)
    first = threefry(words[:1], words[1:], zero, zero)  # on the host: in the program it would take as long as all else
    return _scatter(position, spread, first, particles=int(particles))


@functools.partial(jax.jit, static_argnames=("particles",))
def _scatter(position: Any, spread: Any, key: Any, *, particles: int) -> Any:
    """key: of the normals number 0 and 1, see noise.py."""
    flat, unravel = ravel_pytree(position)
    ids = jnp.arange(particles, dtype=jnp.uint32)[:, None]
    coordinates = jnp.arange(flat.size, dtype=jnp.uint32)[None]
    dtype = jnp.result_type(jnp.float32, flat.dtype)
    xi = box_muller(*threefry(key[0], key[1], ids, coordinates), dtype)[0]
    return jax.vmap(unravel)((flat + spread * xi).astype(flat.dtype))
