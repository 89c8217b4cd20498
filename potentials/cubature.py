"""Averages over several coordinates: uniform grids on a box that holds the weight, and products of Gauss and Hermite."""

import abc
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..engine.equilibrium import NotKnown
from .draws import Source, rejection
from .sized import NEGLIGIBLE, Sized, as_particles

NODES = {1: 4001, 2: 801}  # an axis, by the number of coordinates
HERMITE = {1: 64, 2: 64, 3: 32}
COARSE = 1e-5  # relative error allowed to every other node; that of all nodes is its square or less
RESOLVED = 0.85  # deviations of a Gaussian a node: its sum errs by 3e-12
CHUNK = 1 << 14
TOO_NARROW = (
    "the density is narrower than the grid of its quadrature at temperature {:g} ({}): its wells are too steep for the "
    "temperature, or too different; a Harmonic well describes one of them"
)


class Boxed(Sized):
    """A landscape of one or two coordinates, by sums over a uniform grid.

    Such sums (the trapezoid rule) converge exponentially for smooth functions that vanish at the edges: the errors are
    below 1e-10, or `ValueError` says that the grid is too coarse.
    """

    @abc.abstractmethod
    def box(self, temperature: Any, xp: Any = np) -> tuple[Any, Any]:
        """Lower and upper corner (d,) of a box outside which U exceeds its minimum by `NEGLIGIBLE` T; traceable."""

    @abc.abstractmethod
    def narrowest(self, temperature: float) -> float:
        """The smallest deviation of a peak of the density: sums miss what is narrower than their grid, unseen."""

    def check_grid(self, temperature: float) -> list[np.ndarray]:
        """The axes of the grid; raises ValueError where it is coarser than the density."""
        axes = self._axes(temperature, np)
        spacing, width = max(axis[1] - axis[0] for axis in axes), self.narrowest(temperature)
        if spacing > RESOLVED * width:
            raise ValueError(TOO_NARROW.format(temperature, f"nodes {spacing:.3g} apart for a width of {width:.3g}"))
        return axes

    def _axes(self, temperature: Any, xp: Any) -> list[Any]:
        if self.coordinates not in NODES:
            raise NotKnown(
                f"{type(self).__name__} is integrated numerically, in 1 or 2 coordinates; got {self.coordinates}"
            )
        nodes = NODES[self.coordinates]
        low, high = (jax.lax.stop_gradient(xp.asarray(corner)) for corner in self.box(temperature, xp))
        return [xp.linspace(low[c], high[c], nodes) for c in range(self.coordinates)]

    def log_partition(self, temperature: Any, like: Any) -> jax.Array:
        axes = self._axes(temperature, jnp)
        exponent = -jax.vmap(self)(_product(axes, jnp)) / temperature
        return jax.nn.logsumexp(exponent) + sum(jnp.log(axis[1] - axis[0]) for axis in axes)

    def _grid(self, temperature: float) -> tuple[list[np.ndarray], np.ndarray]:
        """The axes, and -U/T at every node, an array of d axes; raises where it is too coarse."""
        axes = self.check_grid(temperature)
        exponent = -energies(self, _product(axes, np)).reshape([len(axis) for axis in axes]) / temperature
        weight = np.exp(exponent - exponent.max())
        every_other = weight[(slice(None, None, 2),) * weight.ndim].sum() * 2**weight.ndim
        change = abs(every_other / weight.sum() - 1)
        if change > COARSE:
            log_z = exponent.max() + np.log(weight.sum()) + sum(np.log(axis[1] - axis[0]) for axis in axes)
            raise ValueError(
                TOO_NARROW.format(
                    temperature, f"ln Z comes out as {log_z:.6g}, half as many nodes change Z by {change:.2g}"
                )
            )
        return axes, exponent

    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        points, weights = self.quadrature(temperature, like)
        mean = weights @ points
        return mean, (points - mean).T * weights @ (points - mean)

    def quadrature(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        axes, exponent = self._grid(temperature)
        weight = np.exp(exponent - exponent.max()).ravel()
        count = weight > np.exp(-NEGLIGIBLE)
        return _product(axes, np)[count], weight[count] / weight[count].sum()

    def marginal(self, temperature: float, like: Any, coordinate: int, x: np.ndarray) -> np.ndarray:
        axes, exponent = self._grid(temperature)
        top, step = exponent.max(), axes[coordinate][1] - axes[coordinate][0]
        axes[coordinate] = x
        u = energies(self, _product(axes, np)).reshape([len(axis) for axis in axes]) / temperature
        others = tuple(c for c in range(len(axes)) if c != coordinate)
        return np.exp(-u - top).sum(axis=others) / (np.exp(exponent - top).sum() * step)

    def draw(self, temperature: float, like: Any, key: Any, n: int) -> Any:
        """By rejection from a histogram that bounds the density from above.

        Inside a cell the exponent f exceeds its corners by at most Σ h²|f''|/8 over the axes. The second differences
        at the corners are taken for h²f'', with a factor of two in hand, and a proposal above its bound is an error.
        """
        axes, exponent = self._grid(temperature)
        height, bend = exponent, np.zeros_like(exponent)
        for c in range(len(axes)):
            inner = (slice(None),) * c + (slice(1, -1),)
            bend[inner] += np.abs(np.diff(exponent, 2, axis=c)) / 4
        for c in range(len(axes)):
            low, high = ((slice(None),) * c + (part,) for part in (slice(None, -1), slice(1, None)))
            height, bend = np.maximum(height[low], height[high]), np.maximum(bend[low], bend[high])
        height = height + bend
        mass = np.cumsum(np.exp(height - height.max()))
        width = np.array([axis[1] - axis[0] for axis in axes])
        corner = np.array([axis[0] for axis in axes])

        def propose(numbers: Source) -> tuple[np.ndarray, np.ndarray]:
            cell = np.searchsorted(mass, numbers.uniforms()[:, 0] * mass[-1])
            place = np.stack(np.unravel_index(cell, height.shape), axis=1)
            x = corner + width * (place + numbers.uniforms(len(axes)))
            return x, -energies(self, x) / temperature - height.ravel()[cell]

        return as_particles(rejection(key, n, propose), like)


def energies(landscape: Any, points: np.ndarray) -> np.ndarray:
    """U (m,) at points (m, d), in chunks of one shape so that it is compiled once."""
    padded = np.resize(points, (-(-len(points) // CHUNK) * CHUNK, points.shape[1]))
    chunks = [np.asarray(_energies(landscape, chunk)) for chunk in padded.reshape(-1, CHUNK, points.shape[1])]
    return np.concatenate(chunks)[: len(points)]


@jax.jit
def _energies(landscape: Any, points: Any) -> jax.Array:
    return jax.vmap(landscape)(points)


def _product(axes: list[Any], xp: Any) -> Any:
    """All points (m, d) of a product of axes, the last one running fastest."""
    return xp.stack(xp.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


@functools.cache
def normal_nodes(dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (m, d) and weights (m,) for averages over d independent standard normals; `NotKnown` above three.

    Exact for polynomials of degree 127 in each of one or two coordinates, of 63 in each of three.
    """
    if dimension not in HERMITE:
        raise NotKnown(
            f"a product of Gauss and Hermite takes at most 3 coordinates; got {dimension}: average over samples"
        )
    nodes, weights = np.polynomial.hermite_e.hermegauss(HERMITE[dimension])
    points = _product([nodes] * dimension, np)
    return points, _product([weights / weights.sum()] * dimension, np).prod(axis=1)


def normal_density(x: np.ndarray, mean: Any, variance: Any) -> np.ndarray:
    """The density of a Gaussian."""
    return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
