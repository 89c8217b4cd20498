"""Landscapes that are one function summed over coordinates: their equilibria are sums over a grid of one coordinate."""

import abc
import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from ..engine.equilibrium import NotKnown, Solvable
from ..engine.noise import Stream, counter, key_words, stream_key, threefry, uniforms
from ..engine.pytree import check_number, ravel, size_of, upcast

NODES = 4001  # of one coordinate
PAIR_NODES = 401  # of each of two
RESOLVED = 4.0  # nodes that the weight is spread over, at least
CONFINED = 30.0  # T that the energy rises to at both ends, at least: what lies beyond is then about exp(-30)
SMOOTH = 1e-4  # of the weight may oscillate with a period of four nodes; analytic weights then err by less than 1e-12


class Coordinatewise(Solvable):
    """The same energy for every coordinate: from it and an interval, all of the equilibrium, by a sum over a grid.

        U(x) = Σᵢ one(xᵢ),   log Z = d log ∫ exp(-one(x)/T) dx

    A subclass is a `@pytree` that supplies `one` and `support`. On a uniform grid the trapezoid rule converges
    exponentially for a smooth energy that is confined or periodic; one with corners or long tails supplies `nodes` that
    resolve them, and closed forms override what it knows better. log Z is differentiated at fixed nodes, so a parameter
    that moves a wall needs a closed form. The position may have any shape. Raises `NotKnown` where the grid cannot
    resolve the weight.
    """

    separable: ClassVar[bool] = True

    @abc.abstractmethod
    def one(self, x: Any) -> Any:
        """Energy of one coordinate, elementwise."""

    @abc.abstractmethod
    def support(self, temperature: Any, xp: Any = np) -> tuple[Any, Any]:
        """Ends between which all weight lies: beyond, U exceeds its minimum by `NEGLIGIBLE` T; or one period."""

    def nodes(self, temperature: Any, count: int = NODES, xp: Any = np) -> tuple[Any, Any]:
        """Increasing points (count,) over the support and their weights (count,) in an integral over x; count is odd."""
        low, high = self.support(temperature, xp)
        inside = np.ones(count)
        inside[[0, -1]] = 0.5  # both ends are one point where the coordinate is an angle
        return xp.linspace(low, high, count), inside * ((high - low) / (count - 1))

    def stretched(self, temperature: Any, count: int, xp: Any) -> tuple[Any, Any]:
        """Such nodes for tails far wider than what is near 0: uniform in arcsinh x."""
        low, high = self.support(temperature, xp)
        t, step = xp.linspace(xp.arcsinh(low), xp.arcsinh(high), count, retstep=True)
        return xp.sinh(t), step * xp.cosh(t)

    def __call__(self, position: Any) -> jax.Array:
        return jnp.sum(self.one(ravel(position)))

    def value_and_gradient(self, position: Any) -> tuple[jax.Array, Any]:
        # coordinate by coordinate: what the derivative of a sum broadcasts would move the particles to the first axis
        if any(map(np.ndim, jax.tree.leaves(self))):  # a number of each coordinate
            return super().value_and_gradient(position)
        x, as_tree = ravel_pytree(position)
        traced = all(isinstance(leaf, Tracer) for leaf in (*jax.tree.leaves(self), x))
        values, slopes = (_once if traced else _slopes)(self, x)
        return jnp.sum(values), as_tree(slopes)

    def check_temperature(self, temperature: float, like: Any) -> None:
        self.check_fields()
        with jax.enable_x64(True):
            upcast(self)._check_ends(temperature)
            upcast(self).probabilities(temperature)

    def _check_ends(self, temperature: float) -> None:
        """Raise ValueError where the density does not end with the support: no finite integral, or too short a support."""
        if self.period is not None:
            return
        low, high = self.support(temperature)
        beyond = np.array([low, high]) + np.array([-1e-6, 1e-6]) * (high - low)
        energy, lowest = np.asarray(self.one(beyond)), np.min(self.one(self.nodes(temperature)[0]))
        above = float(np.min((energy - lowest) / temperature))  # inf beyond a wall
        if not above >= CONFINED:
            raise ValueError(
                f"{type(self).__name__} at temperature {temperature:g}: at an end of its support, {low:.6g} to {high:.6g}, "
                f"the energy is {above:.3g} T above its minimum, and must be {CONFINED:g}: either it does not confine, and "
                "∫ exp(-U/T) dx does not exist, or `support` must reach further"
            )

    def check_fields(self) -> None:
        """Raise ValueError for arrays, which are not checked before they are used, and for values of a coordinate each."""
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            if "rule" not in field.metadata:
                continue
            value = getattr(self, field.name)
            check_number(field.name, field.metadata["rule"], value)
            if np.ndim(value):
                raise ValueError(
                    f"{field.name} must be one number, the same for every coordinate; got shape {np.shape(value)}"
                )

    def log_partition(self, temperature: Any, like: Any) -> jax.Array:
        x, weights = jax.lax.stop_gradient(self.nodes(temperature, xp=jnp))
        exponent = -self.one(x) / temperature
        top = jax.lax.stop_gradient(jnp.max(exponent))
        return size_of(like) * (top + jnp.log(weights @ jnp.exp(exponent - top)))

    def probabilities(self, temperature: float, count: int = NODES) -> tuple[np.ndarray, np.ndarray]:
        """The nodes of one coordinate and what each of them weighs, of sum 1. Raises `NotKnown`."""
        x, weights = self.nodes(temperature, count)
        exponent = -np.asarray(self.one(x)) / temperature
        weights = weights * np.exp(exponent - exponent.max())
        log_z = exponent.max() + np.log(weights.sum())
        weights /= weights.sum()
        # at a quarter of the grid's frequency the phase does not matter; the rule's error is that at the whole, far less
        oscillation = abs(weights @ 1j ** (np.arange(count) % 4))
        if 1 / np.sum(weights**2) < RESOLVED or not oscillation < SMOOTH:
            raise NotKnown(
                f"{type(self).__name__} at temperature {temperature:g} has a density that is narrower than the grid of "
                f"its quadrature ({count} points, of which {1 / np.sum(weights**2):.3g} bear the weight; oscillation "
                f"{oscillation:.2g} where {SMOOTH:g} is allowed; ln Z comes out as {log_z:.6g} a coordinate), or has "
                "features that are: it is too steep there for its width; a Harmonic well describes a narrow one"
            )
        return x, weights

    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        d = size_of(like)
        x, weights = self.probabilities(temperature)
        angle = 2 * np.pi / self.period * x if self.period is not None else None
        features = np.stack([x] if angle is None else [np.cos(angle), np.sin(angle)])
        mean = features @ weights
        apart = features - mean[:, None]
        return np.repeat(mean, d), np.kron(apart * weights @ apart.T, np.eye(d))

    def marginal(self, temperature: float, like: Any, coordinate: int, x: np.ndarray) -> np.ndarray:
        nodes, weights = self.nodes(temperature)
        exponent = -np.asarray(self.one(nodes)) / temperature
        highest = exponent.max()
        return np.exp(-np.asarray(self.one(x)) / temperature - highest) / (weights @ np.exp(exponent - highest))

    def quadrature(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        match size_of(like):
            case 1:
                x, weights = self.probabilities(temperature)
                return x[:, None], weights
            case 2:
                x, weights = self.probabilities(temperature, PAIR_NODES)
                pairs = np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1)
                return pairs.reshape(-1, 2), np.outer(weights, weights).ravel()
        return super().quadrature(temperature, like)

    def draw(self, temperature: float, like: Any, key: Any, n: int) -> Any:
        """By rejection from a histogram that bounds the density from above, one cell between each two nodes.

        The energy's minimum within a cell lies below its two ends by at most half of what its slope changes there times
        the cell, whether the energy is smooth or has a corner in the cell; each cell is raised by that.
        """
        flat, unravel = ravel_pytree(like)
        self.probabilities(temperature)  # raises where cells are too wide to bound anything
        edges = self.nodes(temperature)[0]
        width = np.diff(edges)
        exponent = -np.asarray(self.one(edges)) / temperature
        turn = np.pad(np.abs(np.diff(np.diff(exponent) / width)), 1)  # at each edge, of the slope
        height = np.maximum(exponent[1:], exponent[:-1]) + width * np.maximum(turn[1:], turn[:-1]) / 2
        mass = np.cumsum(width * np.exp(height - height.max()))
        wanted = n * flat.size
        samples, accepted, round_number = np.empty(wanted), np.zeros(wanted, bool), 0
        words, index = stream_key(key_words(key), Stream.EXACT), np.arange(wanted, dtype=np.uint32)
        while not accepted.all():
            todo = index[~accepted]
            round_key = threefry(words[:1], words[1:], *counter(round_number))
            blocks = [threefry(*round_key, todo, np.full_like(todo, column)) for column in (0, 1)]
            u = [np.asarray(uniforms(word, np.float64)) for block in blocks for word in block]
            cell = np.minimum(np.searchsorted(mass, u[0] * mass[-1]), width.size - 1)
            x = edges[cell] + width[cell] * u[1]
            keep = np.log(u[2]) < -np.asarray(self.one(x)) / temperature - height[cell]
            samples[todo[keep]], accepted[todo[keep]] = x[keep], True
            round_number += 1
        return jax.vmap(unravel)(jnp.asarray(samples).reshape(n, flat.size))


def _slopes(potential: Coordinatewise, x: Any) -> tuple[jax.Array, jax.Array]:
    """Energies and slopes of coordinates (d,)."""
    return jax.vmap(jax.value_and_grad(potential.one))(x)


_once = jax.jit(_slopes, inline=True)  # differentiated once for all that asks while a program is traced
