"""Rosenbrock's valley."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..engine.pytree import number, pytree
from .cubature import normal_density, normal_nodes
from .draws import source
from .sized import Sized, as_particles

WIDE = 10.0  # deviations that a Gaussian reaches
NODES = 200


@pytree
class Rosenbrock(Sized):
    """A curved, narrow valley in the plane whose equilibrium is a Gaussian bent along a parabola.

        U(x, y) = a (1 - x)² + b (y - x²)²,   x ~ N(1, s),  y given x ~ N(x², T/2b),  s = T/2a
        Z = πT/√(ab),   <U> = T,   <y> = 1 + s,   Var y = 2s² + 4s + T/2b,   Cov(x, y) = 2s

    a, b: > 0; stiffness along and across the valley. Position: two coordinates x, y. Draws are exact.
    Rosenbrock (Comput. J. 3, 1960), as an energy Goodman and Weare (CAMCoS 5, 2010).
    """

    a: Any = number("positive", default=1.0)
    b: Any = number("positive", default=100.0)

    def __call__(self, position: Any) -> jax.Array:
        x, y = self.ravelled(position)
        return self.a * (1 - x) ** 2 + self.b * (y - x * x) ** 2

    @property
    def coordinates(self) -> int:
        return 2

    def log_partition(self, temperature: Any, like: Any) -> jax.Array:
        return jnp.log(np.pi * temperature) - jnp.log(self.a * self.b) / 2

    def _variances(self, temperature: float) -> tuple[float, float]:
        """Of x, and of y given x."""
        return temperature / (2 * self.a), temperature / (2 * self.b)

    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        s, across = self._variances(temperature)
        return np.array([1.0, 1 + s]), np.array([[s, 2 * s], [2 * s, 2 * s * s + 4 * s + across]])

    def _bend(self, temperature: float, xi: np.ndarray) -> np.ndarray:
        """Standard normals (m, 2) to positions."""
        s, across = self._variances(temperature)
        x = 1 + np.sqrt(s) * xi[:, 0]
        return np.stack([x, x * x + np.sqrt(across) * xi[:, 1]], axis=1)

    def quadrature(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        xi, weights = normal_nodes(2)
        return self._bend(temperature, xi), weights

    def marginal(self, temperature: float, like: Any, coordinate: int, x: np.ndarray) -> np.ndarray:
        s, across = self._variances(temperature)
        if coordinate == 0:
            return normal_density(x, 1.0, s)
        # over the two pieces of the parabola that lie near y, within reach of x's Gaussian
        y, reach = x[:, None], WIDE * np.sqrt(across)
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        inner, outer = (np.sqrt(np.maximum(y + sign * reach, 0)) for sign in (-1, 1))
        density = np.zeros(len(x))
        for low, high in ((inner, outer), (-outer, -inner)):
            low, high = (np.clip(end, 1 - WIDE * np.sqrt(s), 1 + WIDE * np.sqrt(s)) for end in (low, high))
            z = low + (high - low) * (1 + nodes) / 2
            density += (high - low)[:, 0] / 2 * (normal_density(z, 1.0, s) * normal_density(y, z * z, across) @ weights)
        return density

    def draw(self, temperature: float, like: Any, key: Any, n: int) -> Any:
        return as_particles(self._bend(temperature, source(key, n).normals(2)), like)
