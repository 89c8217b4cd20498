"""Neal's funnel."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..engine.pytree import check_count, number, outer, pytree, static
from .cubature import normal_density, normal_nodes
from .draws import source
from .sized import Sized, as_particles

LARGEST = 170.0  # of v: a coordinate is exp(v/2) times a normal, and float32 ends at exp(88.7)
REACH = 7.0  # deviations of v that draws reach
NODES = 2001


@pytree
class Funnel(Sized):
    """One coordinate sets the logarithmic scale of all others: every step size is wrong somewhere.

        U(v, x) = v²/2s² + Σᵢ (xᵢ² exp(-v) + v)/2 + (d ln 2π)/2 + ln s,     s = scale, n = d - 1 coordinates x
        T = 1: v ~ N(0, s²), xᵢ given v ~ N(0, exp v), and F = 0
        any T: v ~ N(s²n(T - 1)/2, s²T), xᵢ given v ~ N(0, T exp v)

    dimension: d, v and the n coordinates x, at least 2. scale: s > 0; of v at T = 1. Position: v first, then x.

    Moments are exact, but E xᵢ² is no test of a sampler: its relative variance is 3 exp(s²T) - 1. Test v and
    xᵢ / √(T exp v), which are Gaussian. Above T = 1 the mean of v grows as T: where draws would leave the float32 range,
    above about T = 4.1 for d = 10 and s = 3, the equilibrium raises ValueError. Averages by quadrature up to d = 3.
    Neal (Ann. Statist. 31, 2003), section 8.
    """

    dimension: int = static(default=10)
    scale: Any = number("positive", default=3.0)

    def __post_init__(self) -> None:
        check_count("dimension", self.dimension, 2)

    def __call__(self, position: Any) -> jax.Array:
        return self.value_and_gradient(position)[0]

    def value_and_gradient(self, position: Any) -> tuple[jax.Array, Any]:
        # by hand and in one piece: what autodiff cuts and puts together again runs element by element
        x, as_tree = self.ravelled(position), ravel_pytree(position)[1]
        first, v, n = np.eye(1, self.dimension)[0], x[0], self.dimension - 1
        pull = outer(1 - first, jnp.exp(-v)) * x
        square = jnp.sum(x * pull)
        slope = v / self.scale**2 + (n - square) / 2
        energy = (square + n * v + (v / self.scale) ** 2) / 2
        constant = self.dimension / 2 * np.log(2 * np.pi) + jnp.log(self.scale)
        return energy + constant, as_tree(pull + outer(first, slope))

    @property
    def coordinates(self) -> int:
        return self.dimension

    def log_partition(self, temperature: Any, like: Any) -> jax.Array:
        norm = self.dimension / 2 * jnp.log(2 * np.pi) + jnp.log(self.scale)
        shift = self.scale**2 * (self.dimension - 1) ** 2 * (temperature - 1) ** 2 / (8 * temperature)
        return norm * (1 - 1 / temperature) + self.dimension / 2 * jnp.log(temperature) + shift

    def _of_v(self, temperature: float) -> tuple[float, float]:
        """Mean and variance of v."""
        return self.scale**2 * (self.dimension - 1) * (temperature - 1) / 2, self.scale**2 * temperature

    def check_temperature(self, temperature: float, like: Any) -> None:
        super().check_temperature(temperature, like)
        mean, variance = self._of_v(temperature)
        if mean + REACH * np.sqrt(variance) > LARGEST:
            raise ValueError(
                f"a funnel of {self.dimension} coordinates and scale {float(self.scale):g} is too hot at temperature "
                f"{temperature:g}: v is near {mean:.3g} and x, as exp(v/2), leaves the range of float32; lower T"
            )

    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        mean, variance = self._of_v(temperature)
        square = temperature * np.exp(mean + variance / 2)
        return np.append(mean, np.zeros(self.dimension - 1)), np.diag(
            np.append(variance, np.full(self.dimension - 1, square))
        )

    def _open(self, temperature: float, xi: np.ndarray) -> np.ndarray:
        """Standard normals (m, d) to positions."""
        mean, variance = self._of_v(temperature)
        v = mean + np.sqrt(variance) * xi[:, :1]
        return np.hstack([v, np.sqrt(temperature) * np.exp(v / 2) * xi[:, 1:]])

    def quadrature(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        xi, weights = normal_nodes(self.dimension)
        return self._open(temperature, xi), weights

    def marginal(self, temperature: float, like: Any, coordinate: int, x: np.ndarray) -> np.ndarray:
        mean, variance = self._of_v(temperature)
        if coordinate == 0:
            return normal_density(x, mean, variance)
        # near x = 0 narrow Gaussians count more than their share: the weight moves down by half a variance
        low, high = mean - variance / 2 - 10 * np.sqrt(variance), mean + 10 * np.sqrt(variance)
        v = np.linspace(low, high, NODES)
        weights = normal_density(v, mean, variance) * (v[1] - v[0])
        return np.concatenate([normal_density(part[:, None], 0.0, temperature * np.exp(v)) @ weights
                               for part in np.array_split(x, 1 + len(x) // 1000)])  # fmt: skip

    def draw(self, temperature: float, like: Any, key: Any, n: int) -> Any:
        return as_particles(self._open(temperature, source(key, n).normals(self.dimension)), like)
