"""The energy of a logarithm of a Gamma variable."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..engine.pytree import number, pytree, size_of
from .coordinatewise import NODES, Coordinatewise
from .sized import NEGLIGIBLE


@pytree
class LogGamma(Coordinatewise):
    """A wall on one side and a slope on the other: the asymmetric landscape with every moment known.

        U(x) = Σᵢ exp xᵢ - a xᵢ,   Z = T^(a/T) Γ(a/T) per coordinate,   <x> = ψ(a/T) + log T,   Var x = ψ′(a/T)

    a: the slope, > 0. exp(x)/T has the Gamma law of shape a/T. The position may have any shape.
    """

    a: Any = number("positive", default=1.0)

    def one(self, x: Any) -> Any:
        return jnp.exp(x) - self.a * x

    def support(self, temperature: Any, xp: Any = np) -> tuple[Any, Any]:
        """With x = log a + y, U exceeds its minimum by a (exp y - 1 - y).

        That is at least a (-y - 1) on the left; on the right a y²/2, and a exp(y)/2 from y = 1.7 on.
        """
        margin = NEGLIGIBLE * temperature / self.a
        right = xp.minimum(xp.sqrt(2 * margin), xp.maximum(1.7, xp.log(2 * margin)))
        return xp.log(self.a) - 1 - margin, xp.log(self.a) + right

    def nodes(self, temperature: Any, count: int = NODES, xp: Any = np) -> tuple[Any, Any]:
        return self.stretched(temperature, count, xp)

    def log_partition(self, temperature: Any, like: Any) -> jax.Array:
        shape = jnp.asarray(self.a / temperature)
        return size_of(like) * (shape * jnp.log(temperature) + jax.lax.lgamma(shape))

    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        d, shape = size_of(like), np.float64(self.a / temperature)
        mean = float(jax.lax.digamma(shape)) + np.log(temperature)
        return np.full(d, mean), np.eye(d) * float(jax.lax.polygamma(np.float64(1), shape))
