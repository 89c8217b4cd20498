"""Bayesian linear regression."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..engine.pytree import number, pytree
from .cubature import normal_density, normal_nodes
from .draws import source
from .sized import Sized, as_particles, concrete


@pytree
class BayesianLinear(Sized):
    """A posterior known exactly, evidence and all: linear regression with a Gaussian prior and known noise.

        U(θ) = |y - Φθ|²/2σ² + (N/2) ln 2πσ² + Σᵢ (αᵢθᵢ² - ln αᵢ/2π)/2,    so -F = ln evidence at T = 1
        θ ~ N(m, T L⁻¹),   L = diag α + ΦᵀΦ/σ²,   m = L⁻¹ Φᵀy/σ²

    features: Φ, (N, k). targets: y, (N,). noise_variance: σ² > 0. prior_precision: α > 0, a scalar or (k,).
    Position: k coordinates. Quadratic, so the stationary law of a linear scheme is exact as well. Cost: O(Nk).
    Raises ValueError for shapes that do not fit. Bishop (Pattern Recognition and Machine Learning, 2006), section 3.5.
    """

    features: Any
    targets: Any
    noise_variance: Any = number("positive", default=1.0)
    prior_precision: Any = number("positive", default=1.0)
    quadratic = True

    def __post_init__(self) -> None:
        for name, axes in (("features", (2,)), ("targets", (1,))):
            object.__setattr__(self, name, concrete(name, "", getattr(self, name), axes))
        shapes = [np.shape(self.features), np.shape(self.targets), np.shape(self.prior_precision)]
        if shapes[0][:1] != shapes[1] or shapes[2] not in ((), shapes[0][1:]):
            raise ValueError(
                "features (N, k), targets (N,) and prior_precision, a scalar or (k,), must fit; got shapes "
                f"{shapes[0]}, {shapes[1]}, {shapes[2]}"
            )

    def __call__(self, position: Any) -> jax.Array:
        theta = self.ravelled(position)
        misfit = jnp.sum((self.targets - self.features @ theta) ** 2) / self.noise_variance
        prior = self.prior_precision * jnp.square(theta) - jnp.log(self.prior_precision / (2 * np.pi))
        return (misfit + len(self.targets) * jnp.log(2 * np.pi * self.noise_variance) + jnp.sum(prior)) / 2

    @property
    def coordinates(self) -> int:
        return np.shape(self.features)[1]

    def _posterior(self, xp: Any) -> tuple[Any, Any]:
        """Mean m (k,) and precision L (k, k) at T = 1."""
        precision = (
            self.prior_precision * xp.eye(self.coordinates) + self.features.T @ self.features / self.noise_variance
        )
        return xp.linalg.solve(precision, self.features.T @ self.targets / self.noise_variance), precision

    def log_partition(self, temperature: Any, like: Any) -> jax.Array:
        mean, precision = self._posterior(jnp)
        fluctuations = self.coordinates * jnp.log(2 * np.pi * temperature) - jnp.linalg.slogdet(precision)[1]
        return fluctuations / 2 - self(mean) / temperature

    @property
    def log_evidence(self) -> float:
        """ln ∫ p(y | θ) p(θ) dθ, with every normalising constant, in float64."""
        return self.equilibrium(1.0).log_partition

    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        mean, precision = self._posterior(np)
        return mean, temperature * np.linalg.inv(precision)

    def _spread(self, temperature: float, xi: np.ndarray) -> np.ndarray:
        """Standard normals (m, k) to positions."""
        mean, covariance = self.moments(temperature, self.like)
        return mean + xi @ np.linalg.cholesky(covariance).T

    def quadrature(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        xi, weights = normal_nodes(self.coordinates)
        return self._spread(temperature, xi), weights

    def marginal(self, temperature: float, like: Any, coordinate: int, x: np.ndarray) -> np.ndarray:
        mean, covariance = self.moments(temperature, like)
        return normal_density(x, mean[coordinate], covariance[coordinate, coordinate])

    def draw(self, temperature: float, like: Any, key: Any, n: int) -> Any:
        return as_particles(self._spread(temperature, source(key, n).normals(self.coordinates)), like)
