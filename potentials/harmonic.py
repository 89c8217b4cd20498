"""The harmonic well."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..engine.equilibrium import Solvable
from ..engine.noise import Stream, counter, key_words, normals, stream_key
from ..engine.pytree import number, pytree, ravel, size_of
from .cubature import normal_density, normal_nodes


@pytree
class Harmonic(Solvable):
    """Quadratic energy with any stiffness: the exactly solvable ground of everything.

        U(x) = (x - c)·K(x - c)/2,   Z = ∏ √(2πT/kᵢ),   covariance T K⁻¹,   <U> = dT/2

    stiffness: K as a scalar, a diagonal (d,) or a symmetric positive matrix (d, d) over the ravelled coordinates.
    center: c, a scalar or (d,). Cost of an energy: O(d), or O(d²) for a matrix.
    """

    stiffness: Any = number(default=1.0)
    center: Any = number(default=0.0)
    quadratic = True
    degree = 2

    def __call__(self, position: Any) -> jax.Array:
        x = ravel(position) - self.center
        if jnp.ndim(self.stiffness) == 2:
            return jnp.sum(x * (self.stiffness @ x)) / 2
        return jnp.sum(self.stiffness * jnp.square(x)) / 2

    @property
    def like(self) -> Any:
        return jnp.zeros(max([1, *np.shape(self.stiffness)[:1], *np.shape(self.center)[:1]]))

    def check_temperature(self, temperature: float, like: Any) -> None:
        d = size_of(like)
        self.matrix(d)
        if np.shape(self.center) not in ((), (1,), (d,)):
            raise ValueError(
                f"center must be a scalar or ({d},) for {d} coordinate(s); got shape {np.shape(self.center)}"
            )

    def matrix(self, dimension: int) -> np.ndarray:
        """The stiffness as a (d, d) matrix; raises if it is not symmetric and positive."""
        k = np.asarray(self.stiffness, np.float64)
        if k.shape in ((), (1,), (dimension,)):
            k = np.diag(np.broadcast_to(k, (dimension,)))
        if k.shape != (dimension, dimension) or not np.allclose(k, k.T) or np.linalg.eigvalsh(k)[0] <= 0:
            raise ValueError(
                f"stiffness must be positive: a scalar, ({dimension},) or a symmetric ({dimension}, {dimension}) "
                f"matrix for {dimension} coordinate(s); got {np.asarray(self.stiffness)!r}"
            )
        return k

    def log_partition(self, temperature: Any, like: Any) -> jax.Array:
        d, k = size_of(like), jnp.asarray(self.stiffness)
        log_det = jnp.linalg.slogdet(k)[1] if k.ndim == 2 else jnp.sum(jnp.log(jnp.broadcast_to(k, (d,))))
        return d / 2 * jnp.log(2 * np.pi * temperature) - log_det / 2

    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        d = size_of(like)
        return np.broadcast_to(self.center, (d,)).astype(float), temperature * np.linalg.inv(self.matrix(d))

    def quadrature(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        mean, covariance = self.moments(temperature, like)
        xi, weights = normal_nodes(len(mean))
        return mean + xi @ np.linalg.cholesky(covariance).T, weights

    def marginal(self, temperature: float, like: Any, coordinate: int, x: np.ndarray) -> np.ndarray:
        mean, covariance = self.moments(temperature, like)
        return normal_density(x, mean[coordinate], covariance[coordinate, coordinate])

    def draw(self, temperature: float, like: Any, key: Any, n: int) -> Any:
        flat, unravel = ravel_pytree(like)
        mean, covariance = self.moments(temperature, like)
        particles = jnp.arange(n, dtype=jnp.uint32)[:, None]
        coordinates = jnp.arange(flat.size, dtype=jnp.uint32)[None]
        xi = normals(stream_key(key_words(key), Stream.EXACT), counter(0), 1, particles, coordinates, jnp.float64)[
            0
        ].real
        return jax.vmap(unravel)(jnp.asarray(mean) + xi @ np.linalg.cholesky(covariance).T)
