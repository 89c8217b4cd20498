"""Equilibria of coordinate-wise landscapes: sums over a uniform grid, which converge exponentially (trapezoid rule)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..engine.noise import Stream, blocks, counter, key_words, stream_key, uniforms
from ..engine.pytree import size_of

NODES = 4001
RESOLVED = 4.0  # nodes that the weight is spread over, at least: the trapezoid rule then errs by less than 1e-10
NEGLIGIBLE = 60.0  # energies this many T above the minimum do not count: exp(-60) = 9e-27


def log_partition(energy: Callable, half_width: Any, temperature: Any, like: Any) -> jax.Array:
    """log Z of d independent coordinates, each on [-half_width, half_width]; call in float64."""
    grid = jnp.linspace(-half_width, half_width, NODES)
    exponent = -energy(grid) / temperature
    return size_of(like) * (jax.nn.logsumexp(exponent) + jnp.log(2 * half_width / (NODES - 1)))


def moments(energy: Callable, half_width: float, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and covariance (d, d) of d independent coordinates."""
    d = size_of(like)
    grid = np.linspace(-half_width, half_width, NODES)
    exponent = -np.asarray(energy(grid)) / temperature
    weights = np.exp(exponent - exponent.max())
    weights /= weights.sum()
    if 1 / np.sum(weights**2) < RESOLVED:
        raise ValueError(
            f"the density is narrower than the grid of its quadrature at temperature {temperature:g}: its wells are too "
            "steep, or its tilt too large, for the temperature; a Harmonic well describes it there"
        )
    mean = weights @ grid
    return np.full(d, mean), np.eye(d) * (weights @ (grid - mean) ** 2)


def draw(energy: Callable, half_width: float, temperature: float, like: Any, key: Any, n: int) -> Any:
    """n exact draws by rejection from a histogram that bounds the density from above; at most one in 300 is refused.

    Each cell's height is the larger density of its two ends, raised by what a maximum inside the cell can exceed them.
    """
    flat, unravel = ravel_pytree(like)
    edges = np.linspace(-half_width, half_width, NODES)
    width = edges[1] - edges[0]
    exponent = -np.asarray(energy(edges)) / temperature
    bend = np.abs(np.diff(exponent, 2)).max() if NODES > 2 else 0.0  # h² max|U''|/T
    height = np.maximum(exponent[1:], exponent[:-1]) + bend / 4
    mass = np.cumsum(np.exp(height - height.max()))
    wanted = n * flat.size
    samples, accepted, round_number = np.empty(wanted), np.zeros(wanted, bool), 0
    words, index = stream_key(key_words(key), Stream.EXACT), np.arange(wanted, dtype=np.uint32)
    while not accepted.all():
        todo = index[~accepted]
        u = [
            np.asarray(uniforms(w[0], jnp.float64))
            for column in (0, 1)
            for w in blocks(words, counter(round_number), 1, todo, np.full_like(todo, column))
        ]
        cell = np.minimum(np.searchsorted(mass, u[0] * mass[-1]), NODES - 2)
        x = edges[cell] + width * u[1]
        keep = np.log(u[2]) < -np.asarray(energy(x)) / temperature - height[cell]
        samples[todo[keep]], accepted[todo[keep]] = x[keep], True
        round_number += 1
    return jax.vmap(unravel)(jnp.asarray(samples).reshape(n, flat.size))
