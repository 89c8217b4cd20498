"""The ring."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..engine.pytree import number, pytree
from .cubature import Boxed
from .draws import source
from .sized import NEGLIGIBLE, as_particles


@pytree
class Ring(Boxed):
    """A circular valley in the plane: free along it, stiff across it.

        U(x, y) = barrier (r² - 1)²,  r² = x² + y²,   b = barrier/T
        Z = (π/2) √(π/b) (1 + erf √b),   <r²> = 1 + exp(-b) / (√(πb) (1 + erf √b)),   <U> = T/2 - barrier (<r²> - 1)

    barrier: height at the centre, > 0. Position: two coordinates. Draws are exact: r² is a Gaussian of mean 1 and
    variance 1/2b cut off at 0. Marginals and averages are sums over a grid.
    """

    barrier: Any = number("positive", default=1.0)

    def __call__(self, position: Any) -> jax.Array:
        x, y = self.ravelled(position)
        return self.barrier * (x * x + y * y - 1) ** 2

    @property
    def coordinates(self) -> int:
        return 2

    def box(self, temperature: Any, xp: Any = np) -> tuple[Any, Any]:
        half = xp.sqrt(1 + xp.sqrt(NEGLIGIBLE * temperature / self.barrier)) * xp.ones(2)
        return -half, half

    def narrowest(self, temperature: float) -> float:
        return np.sqrt(temperature / (8 * self.barrier))  # across the valley

    def log_partition(self, temperature: Any, like: Any) -> jax.Array:
        b = self.barrier / temperature
        return jnp.log(np.pi / 2) + jnp.log(np.pi / b) / 2 + jnp.log1p(jax.scipy.special.erf(jnp.sqrt(b)))

    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        from scipy.special import erf

        b = self.barrier / temperature
        square = 1 + np.exp(-b) / (np.sqrt(np.pi * b) * (1 + erf(np.sqrt(b))))
        return np.zeros(2), np.eye(2) * square / 2

    def draw(self, temperature: float, like: Any, key: Any, n: int) -> Any:
        from scipy.special import ndtr, ndtri

        numbers, deviation = source(key, n), np.sqrt(temperature / (2 * self.barrier))
        u, turn = numbers.uniforms(2).T
        # from above, where the upper tail keeps its digits
        radius = np.sqrt(np.maximum(1 - deviation * ndtri(u * ndtr(1 / deviation)), 0))
        return as_particles(radius[:, None] * np.stack([np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)], 1), like)
