"""The energy of the logit of a Beta variable."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..engine.pytree import number, pytree, size_of
from .coordinatewise import NODES, Coordinatewise
from .sized import NEGLIGIBLE


@pytree
class BetaLogit(Coordinatewise):
    """The conjugate posterior of a logistic intercept: two slopes joined smoothly, with every moment known.

        U(x) = -Σᵢ a log σ(xᵢ) + b log σ(-xᵢ),   Z = B(a/T, b/T) per coordinate,   σ(x) = 1/(1 + exp(-x))
        <x> = ψ(a/T) - ψ(b/T),   Var x = ψ′(a/T) + ψ′(b/T),   <σ(x)> = a/(a + b)

    a, b: the slopes on the left and on the right, > 0: successes and failures seen. σ(x) has the Beta law of
    (a/T, b/T). The position may have any shape.
    """

    a: Any = number("positive", default=1.0)
    b: Any = number("positive", default=1.0)

    def one(self, x: Any) -> Any:
        return self.a * jax.nn.softplus(-x) + self.b * jax.nn.softplus(x)

    def support(self, temperature: Any, xp: Any = np) -> tuple[Any, Any]:
        """U is above -a x and above b x; its minimum is where σ(x) = a/(a + b)."""
        a, b = self.a, self.b
        top = NEGLIGIBLE * temperature + a * xp.log1p(b / a) + b * xp.log1p(a / b)
        return -top / a, top / b

    def nodes(self, temperature: Any, count: int = NODES, xp: Any = np) -> tuple[Any, Any]:
        return self.stretched(temperature, count, xp)

    def log_partition(self, temperature: Any, like: Any) -> jax.Array:
        a, b = self.a / temperature, self.b / temperature
        log_a, log_b, log_sum = jax.lax.lgamma(jnp.stack([a, b, a + b]))  # one call, which halves the time to compile
        return size_of(like) * (log_a + log_b - log_sum)

    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        d, shapes = size_of(like), np.array([self.a, self.b], float) / temperature
        digamma, trigamma = jax.lax.digamma(shapes), jax.lax.polygamma(np.ones(2), shapes)
        return np.full(d, float(digamma[0] - digamma[1])), np.eye(d) * float(trigamma[0] + trigamma[1])
